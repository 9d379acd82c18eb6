"""Transforms of observations and actions, made on the whole batch at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from ...core.images import ImageSpace
from ...core.tree import Tree, leaves, map_tree
from ..observations import Space, float32, map_space, space_leaves
from ..vector import Envs, Step

Transform = tuple[Space, Callable[[Tree], Tree]]
"""The space that the agent sees, and the function that transforms a batch, a tree [B,*], into
it."""

POSITIONS = {
    "CartPole": (0, 2),
    "Pendulum": (0, 1),
    "MountainCar": (0,),
    "MountainCarContinuous": (0,),
    "Acrobot": (0, 1, 2, 3),
    "LunarLander": (0, 1, 4, 6, 7),
    "LunarLanderContinuous": (0, 1, 4, 6, 7),
}
"""Entries of the observation that are not velocities, by environment."""


class TransformedEnvs(Envs):
    """Envs with other observations and actions.

    Args:
        envs: The environments.
        of_obs: Transforms of the observations, one after the other.
        of_action: The space of the agent's actions, and the function that makes the environments'
            actions of them.
    """

    def __init__(self, envs: Envs, of_obs: list[Transform], of_action: Transform | None) -> None:
        self.num_envs = envs.num_envs
        self.observation_space = of_obs[-1][0] if of_obs else envs.observation_space
        self.action_space = of_action[0] if of_action else envs.action_space
        self.action_space.seed(int(envs.action_space.np_random.integers(2**31)))
        self._envs = envs
        self._of_obs = [function for _, function in of_obs]
        self._of_action = of_action[1] if of_action else None

    def reset(self) -> Tree:
        """Opens a new episode in every column; returns the observations [B,*]."""
        return self._transformed(self._envs.reset())

    def step(self, action: np.ndarray) -> Step:
        """Takes actions [B,*]; see `Envs.step`."""
        if self._of_action is not None:
            action = self._of_action(action)
        obs, reward, terminated, truncated = self._envs.step(action)
        return self._transformed(obs), reward, terminated, truncated

    def successes(self) -> list[float]:
        """Returns and clears the successes of the episodes that ended; see `Envs.successes`."""
        return self._envs.successes()

    def snapshot(self) -> dict[str, Any]:
        """Where each column stands; see `Envs.snapshot`."""
        return self._envs.snapshot()

    def restore(self, snapshot: dict[str, Any]) -> np.ndarray:
        """Goes back to a snapshot; see `Envs.restore`."""
        restored = self._envs.restore(snapshot)
        self.others = self._envs.others
        self._transformed(self._envs.obs)
        return restored

    def close(self) -> None:
        """Frees what the environments hold."""
        self._envs.close()

    def _transformed(self, obs: Tree) -> Tree:
        for function in self._of_obs:
            obs = function(obs)
        self.obs = obs
        return obs


def count_from_zero(space: Space) -> Transform | None:
    """Discrete and MultiDiscrete observations as int64 that count from 0; None where all do."""

    def leaf(space: Space) -> Space:
        if isinstance(space, spaces.Discrete):
            return spaces.Discrete(int(space.n))
        if isinstance(space, spaces.MultiDiscrete):
            return spaces.MultiDiscrete(space.nvec.astype(np.int64))
        return space

    counted = map_space(leaf, space)
    if counted == space:
        return None
    starts = [getattr(leaf, "start", None) for leaf in space_leaves(space)]

    def subtract(obs: Tree) -> Tree:
        start = iter(starts)
        return map_tree(lambda array: _counted(array, next(start)), obs)

    return counted, subtract


def _counted(array: np.ndarray, start: Any) -> np.ndarray:
    return array if start is None else (array - start).astype(np.int64, copy=False)


def positions(env_id: str) -> list[int]:
    """Which entries of an environment's observations are positions; none where it is not known."""
    return list(POSITIONS.get(env_id.rpartition(":")[2].rpartition("-v")[0], ()))


def without_velocity(space: Space, env_id: str) -> Transform:
    """Keeps the positions in the last axis [..., D].

    Raises:
        ValueError: it is not known which entries of this environment are velocities.
    """
    keep = positions(env_id)
    if not keep or not isinstance(space, spaces.Box):
        known = ", ".join(POSITIONS)
        raise ValueError(f"env.mask_velocity=true: not known for {env_id}; known are {known}")
    masked = spaces.Box(space.low[..., keep], space.high[..., keep], dtype=np.float32)
    return masked, lambda obs: np.ascontiguousarray(obs[..., keep])


def join_frames(space: Space) -> Transform:
    """Joins the frames of a stack along the channels.

    Images [S,H,W,C] -> [H,W,S*C] and [S,C,H,W] -> [S*C,H,W]; images [S,H,W] are channels already.
    All else becomes one vector, [S,D] -> [S*D].
    """
    axes = [getattr(leaf, "channel_axis", 0) for leaf in space_leaves(space)]

    def join(array: np.ndarray, channel_axis: int | None) -> np.ndarray:
        if channel_axis is None:
            return array
        if channel_axis == -1:
            array = np.moveaxis(array, 1, 3)
            return array.reshape(*array.shape[:3], -1)
        return array.reshape(len(array), -1, *array.shape[3:] if channel_axis else ())

    def leaf(space: Space) -> Space:
        axis = getattr(space, "channel_axis", 0)
        if isinstance(space, spaces.MultiDiscrete):
            return spaces.MultiDiscrete(join(space.nvec[None], axis)[0])
        if not isinstance(space, spaces.Box):
            return space
        low, high = join(space.low[None], axis)[0], join(space.high[None], axis)[0]
        if isinstance(space, ImageSpace):
            return ImageSpace(low, high, axis or -3)
        return spaces.Box(low, high, dtype=space.low.dtype.type)

    def joined(obs: Tree) -> Tree:
        axis = iter(axes)
        return map_tree(lambda array: join(array, next(axis)), obs)

    return map_space(leaf, space), joined


def flatten(space: Space) -> Transform:
    """One float32 vector [D]: numbers as they are, Discrete and MultiDiscrete as one-hot."""
    parts = [_flat_leaf(leaf) for leaf in space_leaves(space)]

    def join(obs: Tree) -> np.ndarray:
        pairs = zip(parts, leaves(obs), strict=True)
        return np.concatenate([part(array) for part, array in pairs], axis=1)

    ends = [
        (leaf.low.ravel(), leaf.high.ravel())
        if isinstance(leaf, spaces.Box)
        else (np.zeros(spaces.flatdim(leaf)), np.ones(spaces.flatdim(leaf)))
        for leaf in space_leaves(space)
    ]
    low, high = (float32(np.concatenate(side)) for side in zip(*ends, strict=True))
    return spaces.Box(low, high, dtype=np.float32), join


def _flat_leaf(space: Space) -> Callable[[np.ndarray], np.ndarray]:
    if isinstance(space, spaces.Discrete):
        table = np.eye(int(space.n), dtype=np.float32)
        return lambda array: table[array]
    if isinstance(space, spaces.MultiDiscrete):
        tables = [np.eye(int(n), dtype=np.float32) for n in space.nvec.ravel()]
        return lambda array: np.concatenate(
            [t[c] for t, c in zip(tables, array.reshape(len(array), -1).T, strict=True)], axis=1
        )
    return lambda array: array.reshape(len(array), -1).astype(np.float32)
