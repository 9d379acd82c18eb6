"""Vector environments in NumPy: what Gymnasium's vector entry points make."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from ..core.errors import Guard, close
from ..core.tree import Tree, map_tree
from .config import When
from .episodes import episode_seed
from .observation_check import ObservationCheck
from .observations import batch, supported
from .vector import Envs, Step
from .wrappers.action_masks import ActionMasks


class ColumnRandom(np.random.Generator):
    """The generator of a batch, in which each column that opens an episode has a seed of its own.

    A vector environment draws [*, n] numbers for its n finished columns from one generator. Here
    the draw is made column by column, so that an episode depends on run seed, column and episode
    number only, however the columns are grouped, and opens as in the single environment.
    """

    def __init__(self, seed: int, columns: range) -> None:
        super().__init__(np.random.PCG64(episode_seed(seed, columns[0], 0)))
        self.episodes = np.full(len(columns), -1)
        self._seed = seed
        self._columns = columns
        self._opening: list[np.random.Generator] = []

    def open(self, indices: np.ndarray) -> None:
        """Prepares the next episode of some columns [n], given by their positions in this batch."""
        if not len(indices):  # as in most steps
            self._opening = []
            return
        self.episodes[indices] += 1
        self._opening = [
            np.random.default_rng(episode_seed(self._seed, self._columns[i], int(self.episodes[i])))
            for i in indices
        ]

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        """As in NumPy; a draw whose last axis has the opening columns is made column by column."""
        if isinstance(size, tuple) and size[-1] == len(self._opening):
            if not self._opening:
                return np.empty(size)
            draws = [random.uniform(low, high, size[:-1]) for random in self._opening]
            return np.stack(draws, axis=-1)
        return super().uniform(low, high, size)


_STATE = np.ndarray, int, float  # a tuple, which is checked ten times faster than a union


class _Unchecked(spaces.Space[Any]):
    """Replaces a vector environment's action space, whose check takes time in every step."""

    def contains(self, x: Any) -> bool:
        return True


class NativeEnvs(Envs):
    """A NumPy vector environment of Gymnasium.

    Args:
        vector: the environment; it resets itself in NEXT_STEP mode.
        seed: seed of the run.
        columns: numbers of its columns, counted over all workers.
        env_id: for error messages.
        check: when to look whether observations lie in their space.
        masks: puts the action masks into the observations; None: there are none.
    """

    def __init__(
        self,
        vector: VectorEnv,
        seed: int,
        columns: range,
        env_id: str,
        check: When,
        masks: ActionMasks | None = None,
    ) -> None:
        self.num_envs = vector.num_envs
        self._masks = masks
        space = masks.space if masks else vector.single_observation_space
        self.observation_space = supported(space, f"{env_id}: observation_space")
        self.action_space = vector.single_action_space
        self.action_space.seed(episode_seed(seed, columns[0], 0))
        vector.action_space = _Unchecked()
        self._random = vector.np_random = ColumnRandom(seed, columns)
        self._vector = vector
        # Other classes may have state besides their arrays and one generator.
        self._restorable = type(vector).__module__.startswith("gymnasium.")
        self._ended = np.zeros(self.num_envs, bool)
        self._place = f"{env_id}, columns {columns[0]} to {columns[-1]}, run seed {seed}"
        self._guard = Guard(self._where)
        self._check = ObservationCheck(space, check, env_id, self._where, (self.num_envs,))

    def reset(self) -> Tree:
        """Opens a new episode in every column; returns the observations [B,*]."""
        self._random.open(np.arange(self.num_envs))
        with self._guard:
            obs, info = self._vector.reset()
            if self._masks is not None:
                obs = self._masks(obs, info)
            if self._check.at_resets:
                self._check(obs)
        self.obs = batch(self.observation_space, obs)
        self._ended = np.zeros(self.num_envs, bool)
        return self.obs

    def step(self, action: np.ndarray) -> Step:
        """Takes actions [B,*]; see `Envs.step`."""
        self._random.open(self._ended.nonzero()[0])
        checked = self._check.due()
        with self._guard:
            obs, reward, terminated, truncated, info = self._vector.step(action)
            reward = self._numbers("reward", reward, "f", np.float64)
            terminated = self._numbers("terminated", terminated, "b", np.bool_)
            truncated = self._numbers("truncated", truncated, "b", np.bool_)
            if self._masks is not None:
                obs = self._masks(obs, info, terminated | truncated)
            if checked:
                self._check(obs)
        self._ended = terminated | truncated
        self.obs = batch(self.observation_space, obs)
        return self.obs, reward, terminated, truncated

    def _where(self) -> str:
        steps = self._check.steps
        return f"{self._place}, step {steps}" if steps else f"{self._place}, reset"

    def _numbers(self, name: str, values: Any, kind: str, dtype: type[np.generic]) -> np.ndarray:
        """The numbers [B] of a dtype's kind that a step gave; ValueError if there are not B."""
        numbers = np.asarray(values)
        if numbers.dtype.kind == kind and numbers.shape == self._ended.shape:  # in most steps
            return numbers
        numbers = numbers.astype(dtype)
        if numbers.size != self.num_envs:
            raise ValueError(f"{name} has shape {numbers.shape}; expected ({self.num_envs},)")
        return numbers.reshape(self.num_envs)

    def snapshot(self) -> dict[str, Any]:
        """The environment's arrays and numbers, and its generator's state."""
        attributes = {
            name: value.copy() if isinstance(value, np.ndarray) else value
            for name, value in vars(self._vector).items()
            if self._restorable and isinstance(value, _STATE)
        }
        return {
            "attributes": attributes,
            "generator": self._random.bit_generator.state,
            "episode": self._random.episodes.copy(),
            "ended": self._ended.copy(),
            "obs": map_tree(np.copy, self.obs),
        }

    def restore(self, snapshot: dict[str, Any]) -> np.ndarray:
        """Puts the arrays and the generator back; see `Envs.restore`.

        A vector environment that is not Gymnasium's opens new episodes.
        """
        self._random.episodes = snapshot["episode"].copy()
        self.reset()
        if not self._restorable:
            return np.zeros(self.num_envs, bool)
        for name, value in snapshot["attributes"].items():
            setattr(self._vector, name, copy(value))
        self._random.bit_generator.state = snapshot["generator"]
        self._random.episodes = snapshot["episode"].copy()
        self._ended = snapshot["ended"].copy()
        self.obs = map_tree(np.copy, snapshot["obs"])
        return np.ones(self.num_envs, bool)

    def close(self) -> None:
        """Frees what the environment holds."""
        close(self._vector.close, self._place)
