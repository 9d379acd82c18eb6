"""The collector: the only code that steps an environment."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch

from .errors import EnvError
from .rollout import Rollout
from .tree import Tree, leaves, map_tree
from .vector import Envs

Acted = tuple[torch.Tensor, dict[str, torch.Tensor], Tree]
"""Actions [B, *act], what else is kept of them (extras) [B, *], and the memory afterwards."""

Act = Callable[[Tree, Tree, torch.Tensor, torch.Tensor], Acted]
"""Chooses one action a column, from obs [B, *obs], state, first [B] and noise [B, *]."""

Acting = Callable[[Tree, Tree, torch.Tensor, torch.Tensor], Act]
"""What acts in a rollout, from what its first step gives to it."""


class Acts(Protocol):
    """What the collector needs of a policy; see `agents.policies.Policy`."""

    noise_size: int

    def initial_state(self, batch: int) -> Tree:
        """Memory before anything was seen."""
        ...

    def noise(self, uniform: torch.Tensor) -> torch.Tensor:
        """What `act` takes as noise, from uniforms [T, B, K]."""
        ...

    def acting(self, greedy: bool) -> Acting:
        """What acts, with or without exploration."""
        ...


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
        policy: Acts,
        length: int,
        seed: int,
        first_column: int = 0,
        greedy: bool = False,
        reward_scale: float = 1.0,
        reward_clip: float | None = None,
    ) -> None:
        self.envs = envs
        self.policy = policy
        self.acting = policy.acting(greedy)
        self.length = length
        self.reward_scale = reward_scale
        self.reward_clip = reward_clip
        self.version = 0
        self.env_seconds = 0.0  # wall time inside the environments
        self.columns = np.arange(first_column, first_column + envs.num_envs)
        seeds = (np.random.SeedSequence(seed, spawn_key=(int(c),)) for c in self.columns)
        self.rngs = [np.random.Generator(np.random.PCG64(s)) for s in seeds]
        self.obs = envs.reset()
        self.first = np.ones(envs.num_envs, bool)
        self.finished = np.zeros(envs.num_envs, bool)  # the next step is the reset
        self.state = policy.initial_state(envs.num_envs)
        self.returns = np.zeros(envs.num_envs)
        self.lengths = np.zeros(envs.num_envs)

    def collect(self) -> Rollout:
        """Returns the next T steps.

        Raises:
            EnvError: An environment raised, or gave a number that is not finite.
        """
        steps, batch = self.length, self.envs.num_envs
        obs = map_tree(lambda x: np.empty((steps + 1, *x.shape), x.dtype), self.obs)
        reward = np.empty((steps, batch), np.float32)
        terminated = np.empty((steps, batch), bool)
        ended = np.empty((steps + 2, batch), bool)  # step t at t + 2: when the next opens is told
        ended[0], ended[1] = self.first, self.finished
        first, done = ended[:-1], ended[2:]
        size = self.policy.noise_size
        uniform = np.stack([rng.random((steps, size), np.float32) for rng in self.rngs], 1)
        before = map_tree(lambda x: x.numpy().copy(), self.state)
        _write(obs, 0, self.obs)
        views = map_tree(lambda x: iter(torch.from_numpy(x).unbind(0)), obs)
        opens = torch.from_numpy(first).unbind(0)
        act, actions, extras = None, [], []
        with torch.inference_mode():
            noise = self.policy.noise(torch.from_numpy(uniform)).unbind(0)
            for t in range(steps):
                given = map_tree(next, views), self.state, opens[t], noise[t]
                act = act or self.acting(*given)
                action, extra, self.state = act(*given)
                actions.append(action.numpy())
                extras.append(extra)
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
            reward=self._shown(reward),
            discount=1 - terminated.astype(np.float32),
            extras=stacked,
            state=before,
            columns=self.columns,
            version=self.version,
            episodes=self._episodes(reward, ~first[1:], done),
        )

    def _check(self, reward: np.ndarray, obs: Tree) -> None:
        """Refuses numbers that would poison the weights without a word."""
        for what, leaf in [("reward", reward), *(("observation", leaf) for leaf in leaves(obs))]:
            if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
                at = tuple(np.argwhere(~np.isfinite(leaf))[0])
                raise EnvError(
                    f"the environment of column {self.columns[at[1]]} gave {leaf[at]} as {what}; "
                    f"{what}s must be finite numbers"
                )

    def _shown(self, reward: np.ndarray) -> np.ndarray:
        """Rewards as the agent sees them."""
        if self.reward_scale != 1:
            reward = reward * np.float32(self.reward_scale)
        if self.reward_clip is not None:
            reward = reward.clip(-self.reward_clip, self.reward_clip)
        return reward

    def _episodes(self, reward: np.ndarray, valid: np.ndarray, done: np.ndarray) -> np.ndarray:
        """Rows (column, return, length) of the episodes that ended, in order of time."""
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
        return np.array(rows, np.float64).reshape(-1, 3)

    def state_dict(self) -> dict[str, Any]:
        """Where each column stands: a tree of arrays and JSON values."""
        return {
            "envs": self.envs.snapshot(),
            "rngs": [rng.bit_generator.state for rng in self.rngs],
            "first": self.first,
            "finished": self.finished,
            "state": self.state,
            "returns": self.returns,
            "lengths": self.lengths,
            "version": self.version,
        }

    def load_state_dict(self, state: dict[str, Any]) -> int:
        """Goes back to where `state_dict` stood; returns how many columns had to reopen instead."""
        restored = self.envs.restore(state["envs"])
        for rng, saved in zip(self.rngs, state["rngs"], strict=True):
            rng.bit_generator.state = saved
        self.obs = self.envs.obs
        self.first = np.where(restored, state["first"], True)
        self.finished = np.where(restored, state["finished"], False)
        self.returns = np.where(restored, state["returns"], 0.0)
        self.lengths = np.where(restored, state["lengths"], 0.0)
        self.state = state["state"]
        self.version = state["version"]
        return int((~restored).sum())


def _write(rows: Tree, t: int, row: Tree) -> None:
    """Copies `row` into `rows[t]`, leaf by leaf."""
    map_tree(lambda target, source: operator.setitem(target, t, source), rows, row)
