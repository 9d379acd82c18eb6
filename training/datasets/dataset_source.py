"""Rollouts from a dataset: a source that steps no environment.

Each column reads one episode after the other. They are dealt out in an order that is drawn anew for
each pass, so that a pass has every episode once, in whichever column comes to it. A network with
memory builds up its memory while it reads an episode.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch

from ...agents.policies.policy import Policy
from ...configs import Config
from ...core.devices import to_device
from ...core.errors import RunError
from ...core.memory import lower
from ...core.rollout import Rollout
from ...core.tree import Tree, map_tree
from ...envs.observations import check_fit
from ...envs.rewards import scaled
from . import minari_datasets
from .dataset import Dataset, read


class DatasetSource:
    """Recorded episodes as rollouts; see `Source`.

    Args:
        cfg: The run's configuration.
        policy: Of the learner: only its memory is asked for.
        length: T of the rollouts.
        folder: Of the dataset, or minari:ID.

    Raises:
        ValueError: There is no dataset, or it is of another environment.
        RunError: It is damaged.
    """

    env_seconds = 0.0

    def __init__(self, cfg: Config, policy: Policy, length: int, folder: str) -> None:
        self.cfg, self.policy, self.length, self.folder = cfg, policy, length, folder
        with lower(f"the episodes in agent.dataset={folder}"):
            self.data = _read(folder, cfg)
        check_fit(policy, self.data, f"agent.dataset={folder}", bounds=True)
        self.begins, self.returns = self.data.begins, self.data.returns
        self.episodes = len(self.returns)
        self.version = self.taken = 0
        self._order = -1, np.empty(0, np.int64)  # of a pass, and its number
        self.rows = np.array([self._take() for _ in range(cfg.num_envs)])
        self.state: Tree = policy.initial_state(cfg.num_envs)
        self._published = self._columns()

    def next(self) -> Rollout[np.ndarray]:
        """The next T steps of every column, in NumPy. Raises OutOfMemory."""
        data, cfg = self.data, self.cfg.env
        rows = np.stack([self._read(int(row)) for row in self.rows], 1)
        steps, self.rows = rows[:-1], rows[-1]
        obs = map_tree(lambda leaf: leaf[rows], data.obs)
        before, first = map_tree(_array, self.state), data.first[rows]
        if self.state != ():
            self._remember(map_tree(lambda leaf: leaf[:-1], obs), first[:-1])
        return Rollout(
            obs=obs,
            first=first,
            action=data.action[steps],
            reward=scaled(data.reward[steps], cfg.reward_scale, cfg.reward_clip),
            discount=data.discount[steps],
            extras={},
            state=before,
            columns=np.arange(self.cfg.num_envs),
            version=self.version,
            episodes=self._ended(rows),
        )

    def _take(self) -> int:
        """The first row of the episode that is next in the order of this pass."""
        number, place = divmod(self.taken, self.episodes)
        if self._order[0] != number:
            rng = np.random.default_rng([self.cfg.seed, number])
            self._order = number, rng.permutation(self.episodes)
        self.taken += 1
        return int(self.begins[self._order[1][place]])

    def _read(self, row: int) -> np.ndarray:
        """The rows [T+1] that follow, from `row` on, with further episodes where one ends."""
        parts, missing = [], self.length + 1
        while missing > 0:
            end = self.begins[np.searchsorted(self.begins, row, side="right")]
            parts.append(np.arange(row, min(end, row + missing)))
            missing -= len(parts[-1])
            row = self._take() if missing > 0 else row
        return np.concatenate(parts)

    def _remember(self, obs: Tree, first: np.ndarray) -> None:
        """The memory after these rows, by the newest weights."""
        device = next(self.policy.parameters()).device
        tensors = map_tree(lambda leaf: to_device(leaf, device), (obs, first))
        state = map_tree(lambda leaf: leaf.to(device), self.state)
        with torch.inference_mode():
            *_, self.state = self.policy(tensors[0], state, tensors[1])

    def _ended(self, rows: np.ndarray) -> np.ndarray:
        """See `Rollout.episodes`: those whose last step is among the rows [T+1, B]."""
        number = np.searchsorted(self.begins, rows[1:], side="right") - 1
        last = rows[1:] == self.begins[number + 1] - 1
        step, column = np.nonzero(last)
        found = number[step, column]
        lengths = np.diff(self.begins)[found] - 1
        return np.stack((column, self.returns[found], lengths, np.full(len(found), np.nan)), 1)

    def publish(self, policy: Policy) -> None:
        """See `Source.publish`: the policy is the learner's own."""
        self.version += 1
        self._published = self._columns()

    def copy(self, policy: Policy) -> None:
        """See `Source.copy`."""

    def metrics(self) -> dict[str, float]:
        """No metrics: there is nothing to wait for."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """See `Source.state_dict`."""
        return self._published

    def _columns(self) -> dict[str, Any]:
        """Where every column stands now, and in which dataset."""
        return {
            "dataset": self.data.digest,
            "version": self.version,
            "taken": self.taken,
            "rows": self.rows,
            "state": map_tree(_array, self.state),
        }

    def load_state_dict(self, state: dict[str, Any]) -> Counter[str]:
        """See `Source.load_state_dict`.

        Raises:
            RunError: It is another dataset than the run has begun with.
        """
        if state["dataset"] != self.data.digest:
            raise RunError(
                f"agent.dataset={self.folder}: is not the one that the run began with; put that "
                "one there, or start a new run"
            )
        self.version, self.taken = state["version"], state["taken"]
        self.rows = np.array(state["rows"])
        self.state = map_tree(lambda leaf: torch.from_numpy(np.array(leaf)), state["state"])
        self._published = self._columns()
        return Counter()

    def close(self) -> None:
        """Nothing is open."""


def _read(place: str, cfg: Config) -> Dataset:
    """The dataset in a folder, or one of Minari."""
    if place.startswith(minari_datasets.PREFIX):
        return minari_datasets.read(place.removeprefix(minari_datasets.PREFIX), cfg.env)
    return read(place, "agent.dataset")


def _array(leaf: torch.Tensor) -> np.ndarray:
    return leaf.cpu().numpy().copy()
