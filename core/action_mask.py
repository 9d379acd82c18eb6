"""Action masks: the part of an observation that says which actions may be taken in it.

A mask has a number for each choice of each part of an action, 0 where the choice is forbidden. It
is a part of the observation, so rollouts, replays, workers and checkpoints need no code for it.
Code that computes with observations removes it by `without`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from .tree import Tree

NAME = "action_mask"
"""The key of a mask in `info`, and in the observation into which it is put."""

Path = tuple[Any, ...]


class ActionMask(spaces.MultiBinary):
    """The space of a mask: one number, 0 or 1, for each of the `choices` of an action."""


def choices(space: Space[Any]) -> list[int]:
    """How many choices each part of an action has; none for a Box. A mask has their sum as numbers.

    As in sb3-contrib: n for Discrete(n), `nvec` for MultiDiscrete, 2 for each bit of MultiBinary.
    """
    match space:
        case spaces.Discrete():
            return [int(space.n)]
        case spaces.MultiDiscrete():
            return space.nvec.ravel().tolist()
        case spaces.MultiBinary():
            return [2] * math.prod(space.shape)
    return []


def random_action(space: Space[Any], mask: np.ndarray | None) -> np.ndarray:
    """An action of the space, of one environment, that its mask [n] allows; None allows all."""
    if mask is None:
        return np.asarray(space.sample())
    parts = np.split(mask, np.cumsum(choices(space))[:-1])
    picks = [space.np_random.choice(np.flatnonzero(part)) for part in parts]
    return np.array(picks, space.dtype).reshape(space.shape or ())


def mask_path(space: Space[Any], above: Path = ()) -> Path | None:
    """The keys from the root of an observation's space to its mask; None if there is none."""
    if isinstance(space, spaces.Dict):
        for key, branch in space.spaces.items():
            if isinstance(branch, ActionMask):
                return *above, key
            if path := mask_path(branch, (*above, key)):
                return path
    return None


def without(tree: Tree | Space[Any], path: Path | None) -> Any:
    """An observation, or its space, without the mask at `path`; as it is if there is none.

    If only one key is left beside the mask, its value takes the place of the Dict.
    """
    if path is None:
        return tree
    key, *below = path
    nested = isinstance(tree, spaces.Dict)
    branches: Any = tree.spaces if nested else tree
    left = {
        name: without(branch, tuple(below)) if name == key else branch
        for name, branch in branches.items()
        if below or name != key
    }
    if len(left) == 1:
        return next(iter(left.values()))
    return spaces.Dict(left) if nested else left


def mask_at(obs: Tree, path: Path | None) -> Any:
    """The mask in an observation; None if there is none."""
    if path is None:
        return None
    for key in path:
        obs = obs[key]
    return obs
