"""Changes to what the agent sees and does, made on the whole batch at once.

A change is a pair: the new space, and a function of the batched tree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from .observations import Space, map_space, space_leaves
from .tree import Tree, leaves, map_tree
from .vector import Envs, Step

Change = tuple[Space, Callable[[Tree], Tree]]

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


class Adapted(Envs):
    """Envs whose observations and actions pass through functions of the whole batch."""

    def __init__(self, envs: Envs, observe: list[Change], act: Change | None) -> None:
        self.num_envs = envs.num_envs
        self.observation_space = observe[-1][0] if observe else envs.observation_space
        self.action_space = act[0] if act else envs.action_space
        self.action_space.seed(int(envs.action_space.np_random.integers(2**31)))
        self._envs = envs
        self._observe = [change for _, change in observe]
        self._act = act[1] if act else None

    def reset(self) -> Tree:
        """Opens a new episode in every column; returns the observations [B,*]."""
        return self._see(self._envs.reset())

    def step(self, action: np.ndarray) -> Step:
        """Takes actions [B,*]; see `Envs.step`."""
        if self._act is not None:
            action = self._act(action)
        obs, reward, terminated, truncated = self._envs.step(action)
        return self._see(obs), reward, terminated, truncated

    def snapshot(self) -> dict[str, Any]:
        """Where each column stands; see `Envs.snapshot`."""
        return self._envs.snapshot()

    def restore(self, snapshot: dict[str, Any]) -> np.ndarray:
        """Goes back to a snapshot; see `Envs.restore`."""
        restored = self._envs.restore(snapshot)
        self._see(self._envs.obs)
        return restored

    def close(self) -> None:
        """Frees what the environments hold."""
        self._envs.close()

    def _see(self, obs: Tree) -> Tree:
        for change in self._observe:
            obs = change(obs)
        self.obs = obs
        return obs


def from_zero(space: Space) -> Change | None:
    """Discrete observations that start at 0; None where all do."""
    starts = [getattr(leaf, "start", 0) for leaf in space_leaves(space)]
    if not any(np.any(start) for start in starts):
        return None

    def leaf(space: Space) -> Space:
        if isinstance(space, spaces.Discrete):
            return spaces.Discrete(int(space.n))
        if isinstance(space, spaces.MultiDiscrete):
            return spaces.MultiDiscrete(space.nvec)
        return space

    def change(obs: Tree) -> Tree:
        start = iter(starts)
        return map_tree(lambda array: array - np.asarray(next(start), array.dtype), obs)

    return map_space(leaf, space), change


def without_velocity(space: Space, env_id: str) -> Change:
    """Keeps the positions in the last axis [..., D].

    Raises:
        ValueError: it is not known which entries of this environment are velocities.
    """
    name = env_id.rpartition(":")[2].rpartition("-v")[0]
    if name not in POSITIONS or not isinstance(space, spaces.Box):
        known = ", ".join(POSITIONS)
        raise ValueError(f"env.mask_velocity=true: not known for {env_id}; known are {known}")
    keep = list(POSITIONS[name])
    masked = spaces.Box(space.low[..., keep], space.high[..., keep], dtype=np.float32)
    return masked, lambda obs: np.ascontiguousarray(obs[..., keep])


def join_frames(space: Space) -> Change:
    """Joins the frames of a stack along the channels.

    Vectors [S,D] -> [S*D], images [S,H,W,C] -> [H,W,S*C] and [S,C,H,W] -> [S*C,H,W]; planes
    [S,H,W] are channels already.
    """

    def join(array: np.ndarray) -> np.ndarray:
        if array.ndim == 5:
            if array.shape[-1] <= array.shape[2]:
                array = np.moveaxis(array, 1, 3)
                return array.reshape(*array.shape[:3], -1)
            return array.reshape(len(array), -1, *array.shape[3:])
        return array.reshape(len(array), -1) if array.ndim == 3 else array

    def leaf(space: Space) -> Space:
        if isinstance(space, spaces.Box):
            low, high = join(space.low[None])[0], join(space.high[None])[0]
            return spaces.Box(low, high, dtype=space.low.dtype.type)
        if isinstance(space, spaces.MultiDiscrete):
            return spaces.MultiDiscrete(join(space.nvec[None])[0])
        return space

    return map_space(leaf, space), lambda obs: map_tree(join, obs)


def flatten(space: Space) -> Change:
    """One float32 vector [D]: numbers as they are, Discrete and MultiDiscrete as one-hot."""
    parts = [_flat_leaf(leaf) for leaf in space_leaves(space)]

    def change(obs: Tree) -> np.ndarray:
        pairs = zip(parts, leaves(obs), strict=True)
        return np.concatenate([part(array) for part, array in pairs], axis=1)

    ends = [
        (leaf.low.ravel(), leaf.high.ravel())
        if isinstance(leaf, spaces.Box)
        else (np.zeros(spaces.flatdim(leaf)), np.ones(spaces.flatdim(leaf)))
        for leaf in space_leaves(space)
    ]
    low, high = (np.concatenate(side).astype(np.float32) for side in zip(*ends, strict=True))
    return spaces.Box(low, high, dtype=np.float32), change


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


def actions(space: Space, rescale: bool) -> Change | None:
    """From the agent's actions [B,*] to the environment's; None where they are the same.

    Discrete actions count from 0. A Box is clipped to its bounds; with `rescale`, a Box with
    finite bounds is Box(-1, 1) to the agent, clipped and scaled to the bounds.
    """
    if not isinstance(space, spaces.Box):
        return from_start(space)
    low, high = space.low, space.high
    if np.isinf(low).all() and np.isinf(high).all():
        return None
    if not (rescale and np.isfinite(low).all() and np.isfinite(high).all()):
        return space, lambda action: np.clip(action, low, high)
    middle, half = (low + high) / 2, (high - low) / 2

    def scale(action: np.ndarray) -> np.ndarray:
        return (middle + half * np.clip(action, -1.0, 1.0)).astype(low.dtype)

    return spaces.Box(-1.0, 1.0, low.shape, np.float32), scale


def from_start(space: Space) -> Change | None:
    """Discrete actions that start at 0 for the agent; None where they do already."""
    start = getattr(space, "start", 0)
    change = from_zero(space)
    return change and (change[0], lambda action: action + np.asarray(start, action.dtype))
