"""The one form of B environments stepped together, and its plain Python implementation.

NEXT_STEP autoreset: a finished environment returns its true last observation, and its next step
is the reset (action ignored, reward 0).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from .episodes import Column
from .errors import Guard, close
from .observations import Space, check, empty, put
from .tree import Tree, leaves, map_tree

Step = tuple[Tree, np.ndarray, np.ndarray, np.ndarray]


class Envs(ABC):
    """B environments: what a Collector steps.

    `observation_space` and `action_space` are those of one environment. `obs` is the current
    observation, a tree of arrays [B,*]; after `restore` it is where each column stands.
    """

    num_envs: int
    observation_space: Space
    action_space: Space
    obs: Tree

    @abstractmethod
    def reset(self) -> Tree:
        """Opens a new episode in every column; returns the observations [B,*]."""

    @abstractmethod
    def step(self, action: np.ndarray) -> Step:
        """Takes actions [B,*]; returns obs [B,*], reward, terminated and truncated [B].

        The arrays are fresh: a later step does not write into them.

        Raises:
            EnvError: an environment raised.
        """

    @abstractmethod
    def snapshot(self) -> dict[str, Any]:
        """Where each column stands: a tree of arrays and JSON values."""

    @abstractmethod
    def restore(self, snapshot: dict[str, Any]) -> np.ndarray:
        """Goes back to a snapshot of freshly made Envs of the same configuration.

        Returns:
            [B] bool: columns that stand where they stood; the others opened a new episode.
        """

    @abstractmethod
    def close(self) -> None:
        """Frees what the environments hold."""


class SyncEnvs(Envs):
    """Single environments, stepped one after the other.

    Args:
        columns: the environments with their seeds; all have the same spaces.
        observation_space: of one environment, as `observations.supported` gives it.
        env_id: for error messages.
    """

    def __init__(self, columns: list[Column], observation_space: Space, env_id: str) -> None:
        assert columns
        self.num_envs = len(columns)
        self.observation_space = observation_space
        self.action_space = columns[0].env.action_space
        self.action_space.seed(columns[0].seed)
        self._columns = columns
        self._id = env_id
        self._at = columns[0]
        self._phase = "reset"
        self._guard = Guard(self._where)
        self._waiting = [False] * self.num_envs
        nested = isinstance(observation_space, spaces.Dict | spaces.Tuple)
        self._put: Callable[[Tree, int, Any], None] = put if nested else np.ndarray.__setitem__

    def reset(self) -> Tree:
        """Opens a new episode in every column; returns the observations [B,*]."""
        obs = empty(self.observation_space, self.num_envs)
        for index in range(self.num_envs):
            self._reset(index, obs)
        self.obs = obs
        return obs

    def _reset(self, index: int, obs: Tree) -> None:
        self._at, self._phase = self._columns[index], "reset"
        with self._guard:
            first = self._at.reset()
            check(obs, first)
            put(obs, index, first)
        self._waiting[index] = False

    def step(self, action: np.ndarray) -> Step:
        """Takes actions [B,*]; see `Envs.step`."""
        obs = empty(self.observation_space, self.num_envs)
        reward = np.zeros(self.num_envs)
        terminated = np.zeros(self.num_envs, bool)
        truncated = np.zeros(self.num_envs, bool)
        # As the space says and a replay repeats it: float32 is not the float64 of the same number.
        action = action.astype(self.action_space.dtype, copy=False)
        write, waiting = self._put, self._waiting
        self._phase = "step"
        with self._guard:
            for index, column in enumerate(self._columns):
                if waiting[index]:
                    self._reset(index, obs)
                    self._phase = "step"
                    continue
                self._at = column
                leaf, reward[index], ended, cut, _ = column.step(action[index])
                if column.count == 1:  # of each episode: NumPy would broadcast a wrong shape
                    check(obs, leaf)
                write(obs, index, leaf)
                terminated[index], truncated[index] = ended, cut
                waiting[index] = bool(ended or cut)
        self.obs = obs
        return obs, reward, terminated, truncated

    def snapshot(self) -> dict[str, Any]:
        """Episode numbers, actions since the resets, and the last observations."""
        return {
            "episode": np.array([column.episode for column in self._columns]),
            "count": np.array([column.count for column in self._columns]),
            "waiting": np.array(self._waiting),
            "actions": [column.actions for column in self._columns],
            "obs": map_tree(np.copy, self.obs),
        }

    def restore(self, snapshot: dict[str, Any]) -> np.ndarray:
        """Resets each column with its seed and repeats its actions; see `Envs.restore`."""
        assert len(snapshot["episode"]) == self.num_envs
        obs = map_tree(np.copy, snapshot["obs"])
        restored = np.array([self._restore(index, snapshot) for index in range(self.num_envs)])
        for index in np.flatnonzero(~restored):
            self._reset(int(index), obs)
        self.obs = obs
        return restored

    def _restore(self, index: int, snapshot: dict[str, Any]) -> bool:
        self._at, self._phase = self._columns[index], "restore"
        episode, count = int(snapshot["episode"][index]), int(snapshot["count"][index])
        self._waiting[index] = bool(snapshot["waiting"][index])
        if self._waiting[index]:
            # A finished episode has nothing left to show: the next step opens the next one.
            self._at.episode, self._at.count = episode, 0
            return True
        with self._guard:
            last = self._at.replay(episode, snapshot["actions"][index], count)
            if last is None:
                return False
            found = empty(self.observation_space, 1)
            put(found, 0, last)
        stored = map_tree(lambda leaf: leaf[index : index + 1], snapshot["obs"])
        pairs = zip(leaves(found), leaves(stored), strict=True)
        return all(one.tobytes() == other.tobytes() for one, other in pairs)

    def close(self) -> None:
        """Closes every environment."""
        for column in self._columns:
            close(column.env.close, f"{self._id}, column {column.number}")

    def _where(self) -> str:
        at = self._at
        return f"{self._id}, column {at.number}, seed {at.seed}, {self._phase}"
