"""NumPy environments that come as one object: Gymnasium's vector entry points."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from .episodes import episode_seed
from .errors import Guard, close
from .observations import check, empty, supported
from .tree import Tree, map_tree
from .vector import Envs, Step


class ColumnRandom(np.random.Generator):
    """The batch's generator, in which each column that opens an episode draws from its own seed.

    A vector environment draws [*, n] numbers for its n finished columns from one generator. Here
    the draw is made column by column, so that an episode depends on run seed, column and episode
    number only, however the columns are grouped, and opens as the single environment would.
    """

    def __init__(self, seed: int, columns: range) -> None:
        super().__init__(np.random.PCG64(episode_seed(seed, columns[0], 0)))
        self.episodes = np.full(len(columns), -1)
        self._seed = seed
        self._columns = columns
        self._opening: list[np.random.Generator] = []

    def open(self, indices: np.ndarray) -> None:
        """Starts the next episode of the columns [n] (positions in this batch)."""
        if not len(indices):  # as in most steps
            self._opening = []
            return
        self.episodes[indices] += 1
        self._opening = [
            np.random.default_rng(episode_seed(self._seed, self._columns[i], int(self.episodes[i])))
            for i in indices
        ]

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        """As NumPy's; a draw whose last axis is the opening columns is made column by column."""
        if isinstance(size, tuple) and size[-1] == len(self._opening):
            if not self._opening:
                return np.empty(size)
            draws = [random.uniform(low, high, size[:-1]) for random in self._opening]
            return np.stack(draws, axis=-1)
        return super().uniform(low, high, size)


class _Unchecked(spaces.Space[Any]):
    """Stands for a vector environment's batched action space, whose check costs time a step."""

    def contains(self, x: Any) -> bool:
        return True


class NativeEnvs(Envs):
    """A NumPy vector environment of Gymnasium.

    Args:
        vector: resets itself in NEXT_STEP mode.
        seed: of the run.
        columns: numbers of its columns, counted over all workers.
        env_id: for error messages.
    """

    def __init__(self, vector: VectorEnv, seed: int, columns: range, env_id: str) -> None:
        self.num_envs = vector.num_envs
        space = vector.single_observation_space
        self.observation_space = supported(space, f"{env_id}: observation_space")
        self.action_space = vector.single_action_space
        self.action_space.seed(episode_seed(seed, columns[0], 0))
        vector.action_space = _Unchecked()
        self._random = vector.np_random = ColumnRandom(seed, columns)
        self._vector = vector
        # Of others it is not known whether their arrays and one generator are all of their state.
        self._restorable = type(vector).__module__.startswith("gymnasium.")
        self._ended = np.zeros(self.num_envs, bool)
        self._place = f"{env_id}, columns {columns[0]} to {columns[-1]}, run seed {seed}"
        self._guard = Guard(lambda: self._place)

    def reset(self) -> Tree:
        """Opens a new episode in every column; returns the observations [B,*]."""
        self._random.open(np.arange(self.num_envs))
        with self._guard:
            obs, _ = self._vector.reset()
            batch = empty(self.observation_space, self.num_envs)
            check(map_tree(lambda leaf: leaf[None], batch), obs)
        self.obs = map_tree(_plain, obs)
        self._ended = np.zeros(self.num_envs, bool)
        return self.obs

    def step(self, action: np.ndarray) -> Step:
        """Takes actions [B,*]; see `Envs.step`."""
        self._random.open(self._ended.nonzero()[0])
        with self._guard:
            obs, reward, terminated, truncated, _ = self._vector.step(action)
        self._ended = terminated | truncated
        self.obs = map_tree(_plain, obs)
        return self.obs, reward, terminated, truncated

    def snapshot(self) -> dict[str, Any]:
        """The environment's arrays and numbers, and its generator's state."""
        attributes = {
            name: copy(value)
            for name, value in vars(self._vector).items()
            if isinstance(value, np.ndarray | int | float)
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


def _plain(leaf: Any) -> np.ndarray:
    # One memory layout: a matrix product of a transposed view rounds differently.
    array = np.asarray(leaf)
    return array.astype(np.float32 if array.dtype.kind == "f" else array.dtype, order="C")
