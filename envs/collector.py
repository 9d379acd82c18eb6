"""The collector: the only code that steps environments for training."""

from __future__ import annotations

import operator
import time
from collections import Counter
from typing import Any

import numpy as np
import torch

from ..core.acting import Actor
from ..core.rollout import Rollout
from ..core.tree import Tree, leaves, map_tree
from .observation_check import check_finite
from .rewards import scaled
from .vector import Envs


class Collector:
    """Steps B environments T times with a policy, rollout after rollout.

    Random numbers belong to the column, not to the worker: each column draws its actions' noise
    from a generator of its own, so how columns are spread over collectors changes nothing.

    Args:
        envs: The environments; their columns are `first_column`, `first_column + 1`, ...
        policy: Acts; on the CPU, in eval mode.
        length: T.
        seed: Of the run.
        first_column: Number of the first column.
        greedy: Act without exploration.
        reward_scale: Factor on the rewards that the agent sees (not on `episodes`).
        reward_clip: Their limit, after the factor; None for no limit.
    """

    def __init__(
        self,
        envs: Envs,
        policy: Actor,
        length: int,
        seed: int,
        first_column: int = 0,
        greedy: bool = False,
        reward_scale: float = 1.0,
        reward_clip: float | None = None,
    ) -> None:
        self.envs = envs
        self.policy = policy
        self.act_functions = policy.act_functions(greedy)
        self.length = length
        self.reward_scale = reward_scale
        self.reward_clip = reward_clip
        self.seed = seed
        self.version = 0
        self.env_seconds = 0.0  # wall time inside the environments
        self.steps = 0  # of each column, resets included; the one under way counts
        self.columns = np.arange(first_column, first_column + envs.num_envs)
        seeds = (np.random.SeedSequence(seed, spawn_key=(int(c),)) for c in self.columns)
        self.rngs = [np.random.Generator(np.random.PCG64(s)) for s in seeds]
        self.obs = envs.reset()
        self.first = np.ones(envs.num_envs, bool)
        self.finished = np.zeros(envs.num_envs, bool)  # the next step is the reset
        self.state = policy.initial_state(envs.num_envs)
        self.returns = np.zeros(envs.num_envs)
        self.lengths = np.zeros(envs.num_envs)

    def collect(self) -> Rollout[np.ndarray]:
        """Returns the next T steps.

        Raises:
            EnvError: An environment raised, or gave a number that is not finite.
        """
        steps, batch = self.length, self.envs.num_envs
        obs = map_tree(lambda x: np.empty((steps + 1, *x.shape), x.dtype), self.obs)
        reward, terminated = np.empty((steps, batch), np.float32), np.empty((steps, batch), bool)
        ended = np.empty((steps + 2, batch), bool)  # row t + 2: whether step t ended an episode
        ended[0], ended[1] = self.first, self.finished
        first, done = ended[:-1], ended[2:]
        before = map_tree(lambda x: x.numpy().copy(), self.state)
        _write(obs, 0, self.obs)
        views = map_tree(lambda x: iter(torch.from_numpy(x).unbind(0)), obs)
        opens = torch.from_numpy(first).unbind(0)
        act, actions, extras = self.act_functions(), [], []
        with torch.inference_mode():
            noise = self._noise().unbind(0)
            for t in range(steps):
                seen = map_tree(next, views)
                action, extra, self.state = act(seen, self.state, opens[t], noise[t])
                actions.append(action.numpy())
                extras.append(extra)
                self.steps += 1
                begin = time.perf_counter()
                self.obs, reward[t], terminated[t], truncated = self.envs.step(actions[-1])
                self.env_seconds += time.perf_counter() - begin
                _write(obs, t + 1, self.obs)
                np.logical_or(terminated[t], truncated, out=done[t])
            stacked = {k: torch.stack([e[k] for e in extras]).numpy() for k in extras[0]}
        self.first, self.finished = ended[-2:].copy()
        self._check(reward, obs)
        return Rollout(
            obs=obs,
            first=first,
            action=np.stack(actions),
            reward=scaled(reward, self.reward_scale, self.reward_clip),
            discount=1 - terminated.astype(np.float32),
            extras=stacked,
            state=before,
            columns=self.columns,
            version=self.version,
            episodes=self._episodes(reward, ~first[1:], done),
        )

    def _noise(self) -> torch.Tensor:
        """The noise [T, B, *] of a rollout, from the columns' own random numbers."""
        shape = self.length, self.policy.noise_size
        uniform = np.stack([rng.random(shape, np.float32) for rng in self.rngs], 1)
        return self.policy.noise(torch.from_numpy(uniform), torch.from_numpy(self.columns))

    def _check(self, reward: np.ndarray, obs: Tree) -> None:
        """Refuses numbers that are not finite, see `check_finite`."""
        begin, columns = self.steps - self.length, self.columns.tolist()
        check_finite("reward", reward, columns, begin + 1, self.seed)
        for leaf in leaves(obs):
            check_finite("observation", leaf, columns, begin, self.seed)

    def _episodes(self, reward: np.ndarray, valid: np.ndarray, done: np.ndarray) -> np.ndarray:
        """Rows (column, return, length, success) of the episodes that ended, in order of time."""
        rows, begin = [], 0
        for t in np.flatnonzero(done.any(1)):
            self.returns += reward[begin : t + 1].sum(0)
            self.lengths += valid[begin : t + 1].sum(0)
            ended = done[t]
            rows += zip(self.columns[ended], self.returns[ended], self.lengths[ended], strict=True)
            self.returns[ended] = self.lengths[ended] = 0
            begin = t + 1
        self.returns += reward[begin:].sum(0)
        self.lengths += valid[begin:].sum(0)
        successes = self.envs.successes() or [np.nan] * len(rows)
        return np.c_[np.array(rows, np.float64).reshape(-1, 3), successes]

    def state_dict(self) -> dict[str, Any]:
        """Where each column stands: a tree of arrays and JSON values, which no later step changes.

        It is made after every rollout, so it must stay cheap.
        """
        return {
            "envs": self.envs.snapshot(),
            "rngs": [rng.bit_generator.state for rng in self.rngs],
            "first": self.first,
            "finished": self.finished,
            "state": map_tree(lambda x: x.numpy().copy(), self.state),
            "returns": self.returns.copy(),
            "lengths": self.lengths.copy(),
            "version": self.version,
        }

    def load_state_dict(self, state: dict[str, Any]) -> Counter[str]:
        """Goes back to where `state_dict` stood.

        Returns:
            How many columns could not, and are `reopened`; of these are `others` those whose
            episode begins in another way than before.
        """
        restored = self.envs.restore(state["envs"])
        for rng, saved in zip(self.rngs, state["rngs"], strict=True):
            rng.bit_generator.state = saved
        self.obs = self.envs.obs
        self.first = np.where(restored, state["first"], True)
        self.finished = np.where(restored, state["finished"], False)
        self.returns = np.where(restored, state["returns"], 0.0)
        self.lengths = np.where(restored, state["lengths"], 0.0)
        self.state = map_tree(lambda x: torch.from_numpy(np.array(x)), state["state"])
        self.version = state["version"]
        return Counter(reopened=int((~restored).sum()), others=self.envs.others)


def _write(rows: Tree, t: int, row: Tree) -> None:
    """Copies `row` into `rows[t]`, leaf by leaf."""
    map_tree(lambda target, source: operator.setitem(target, t, source), rows, row)
