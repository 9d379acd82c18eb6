"""Single environments as columns that step together: the plain Python implementation of `Envs`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from ..core.errors import EnvError, Guard, close, shorten
from ..core.tree import Tree, leaves, map_tree
from .config import When
from .episodes import Column
from .observation_check import ObservationCheck
from .observations import Space, checksum, empty, put
from .vector import Envs, Step


class SyncEnvs(Envs):
    """Single environments, stepped one after the other.

    Args:
        columns: the environments with their seeds; all have the same spaces.
        observation_space: of one environment, as `observations.supported` gives it.
        env_id: for error messages.
        check: when to look whether observations lie in their space.
    """

    def __init__(
        self, columns: list[Column], observation_space: Space, env_id: str, check: When
    ) -> None:
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
        declared = columns[0].env.observation_space
        self._check = ObservationCheck(declared, check, env_id, self._where)
        self._waiting = [False] * self.num_envs
        self._openings = [0] * self.num_envs  # sums of the episodes' first observations
        self._successes: list[float] = []
        nested = isinstance(observation_space, spaces.Dict | spaces.Tuple)
        self._put: Callable[[Tree, int, Any], None] = put if nested else np.ndarray.__setitem__

    def reset(self) -> Tree:
        """Opens a new episode in every column; returns the observations [B,*]."""
        obs = empty(self.observation_space, self.num_envs)
        self._successes = []
        for index in range(self.num_envs):
            self._reset(index, obs, self._check.at_resets)
        self.obs = obs
        return obs

    def _reset(self, index: int, obs: Tree, checked: bool) -> None:
        self._at, self._phase = self._columns[index], "reset"
        with self._guard:
            first = self._at.reset()
            if checked:
                self._check(first)
            put(obs, index, first)
        if self._at.count == 0:  # no life of a game that goes on
            self._openings[index] = checksum(obs, index)
        self._waiting[index] = False

    def step(self, action: np.ndarray) -> Step:
        """Takes actions [B,*]; see `Envs.step`."""
        obs = empty(self.observation_space, self.num_envs)
        reward = np.zeros(self.num_envs)
        terminated = np.zeros(self.num_envs, bool)
        truncated = np.zeros(self.num_envs, bool)
        # A replay repeats actions in the dtype of the space; float32 and float64 ones differ.
        action = action.astype(self.action_space.dtype, copy=False)
        write, waiting, checked = self._put, self._waiting, self._check.due()
        self._phase = "step"
        with self._guard:
            for index, column in enumerate(self._columns):
                if waiting[index]:
                    self._reset(index, obs, checked)
                    self._phase = "step"
                    continue
                self._at = column
                leaf, gained, ended, cut, info = column.step(action[index])
                if checked:
                    self._check(leaf)
                write(obs, index, leaf)
                try:
                    reward[index], terminated[index], truncated[index] = gained, ended, cut
                except (TypeError, ValueError):
                    reward[index] = self._number("reward", gained)
                    terminated[index] = ended = self._number("terminated", ended)
                    truncated[index] = cut = self._number("truncated", cut)
                if ended or cut:
                    waiting[index] = True
                    success = info.get("is_success")
                    self._successes.append(math.nan if success is None else float(success))
        self.obs = obs
        return obs, reward, terminated, truncated

    def successes(self) -> list[float]:
        """Returns and clears the successes of the episodes that ended; see `Envs.successes`."""
        given, self._successes = self._successes, []
        return given

    def _number(self, name: str, value: Any) -> float:
        """The number in an array that has no other; EnvError if that is not what `value` is."""
        try:
            return float(np.asarray(value).item())
        except (TypeError, ValueError):
            text = f"{name} is {shorten(repr(value))}; expected a number"
            raise EnvError(f"{self._where()}: {text}") from None

    def snapshot(self) -> dict[str, Any]:
        """Episode numbers, actions since the resets, and the last observations."""
        return {
            "episode": np.array([column.episode for column in self._columns]),
            "count": np.array([column.count for column in self._columns]),
            "waiting": np.array(self._waiting),
            "life_lost": np.array([column.life_lost for column in self._columns]),
            "actions": [column.actions for column in self._columns],
            "generators": [
                column.generator(over and not column.life_lost)
                for column, over in zip(self._columns, self._waiting, strict=True)
            ],
            "openings": list(self._openings),
            "obs": map_tree(np.copy, self.obs),
        }

    def restore(self, snapshot: dict[str, Any]) -> np.ndarray:
        """Resets each column with its seed and repeats its actions; see `Envs.restore`."""
        assert len(snapshot["episode"]) == self.num_envs
        obs = map_tree(np.copy, snapshot["obs"])
        restored = np.array([self._restore(index, snapshot) for index in range(self.num_envs)])
        for index in np.flatnonzero(~restored):
            self._reset(int(index), obs, self._check.at_resets)
        self.obs = obs
        return restored

    def _restore(self, index: int, snapshot: dict[str, Any]) -> bool:
        self._at, self._phase = self._columns[index], "restore"
        episode, count = int(snapshot["episode"][index]), int(snapshot["count"][index])
        self._waiting[index] = bool(snapshot["waiting"][index])
        generator = snapshot.get("generators", [None] * self.num_envs)[index]
        with self._guard:
            if self._waiting[index] and not snapshot["life_lost"][index]:
                # The episode is over, and the next step opens another: there is nothing to replay.
                return self._at.stand_before(episode + 1, generator)
            actions = snapshot["actions"][index]
            first = self._at.reopen(episode, generator)
            if first is None or len(actions) != count:
                return False
            found = empty(self.observation_space, 1)
            put(found, 0, first)
            self._openings[index] = checksum(found, 0)
            if self._openings[index] != snapshot.get("openings", self._openings)[index]:
                self.others += 1
                return False
            last = self._at.repeat(first, actions)
            if last is None:
                return False
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
        step = f" {at.count}" if self._phase == "step" else ""
        return f"{self._id}, column {at.number}, seed {at.seed}, {self._phase}{step}"
