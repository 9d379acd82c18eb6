"""The spaces of observations, and the arrays [B,*] that hold them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from .tree import Tree

Space = spaces.Space[Any]


def map_space(change: Callable[[Space], Space], space: Space) -> Space:
    """Applies `change` to the leaves of Dict and Tuple spaces."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: map_space(change, one) for key, one in space.spaces.items()})
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([map_space(change, one) for one in space.spaces])
    return change(space)


def space_leaves(space: Space) -> list[Space]:
    """The leaves of Dict and Tuple spaces, in the order of `tree.leaves`."""
    found: list[Space] = []
    map_space(lambda leaf: found.append(leaf) or leaf, space)
    return found


def supported(space: Space, what: str) -> Space:
    """The space with floats as float32; `what` names it in the error.

    Raises:
        ValueError: a leaf is none of Box, Discrete, MultiDiscrete, MultiBinary.
    """
    if isinstance(space, spaces.Dict):
        branches = space.spaces.items()
        return spaces.Dict({key: supported(one, f"{what}[{key!r}]") for key, one in branches})
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([supported(one, f"{what}[{i}]") for i, one in enumerate(space.spaces)])
    if isinstance(space, spaces.Box) and space.low.dtype.kind == "f":
        low, high = space.low.astype(np.float32), space.high.astype(np.float32)
        return spaces.Box(low, high, dtype=np.float32)
    known = spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
    if isinstance(space, known):
        return space
    raise ValueError(
        f"{what} is a {type(space).__name__}; expected Box, Discrete, MultiDiscrete or "
        "MultiBinary, or Dict and Tuple of them"
    )


def empty(space: Space, num: int) -> Tree:
    """Fresh arrays [num,*] for the observations of a space."""
    if isinstance(space, spaces.Dict):
        return {key: empty(branch, num) for key, branch in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(empty(branch, num) for branch in space.spaces)
    return np.empty((num, *(space.shape or ())), space.dtype)


def put(arrays: Tree, index: int, obs: Any) -> None:
    """Writes one environment's observation into row `index` of the arrays."""
    if isinstance(arrays, dict):
        for key, array in arrays.items():
            put(array, index, obs[key])
    elif isinstance(arrays, tuple):
        for array, branch in zip(arrays, obs, strict=True):
            put(array, index, branch)
    else:
        arrays[index] = obs


def check(arrays: Tree, obs: Any) -> None:
    """Raises ValueError where an observation does not fit the environment's own space."""
    if isinstance(arrays, dict):
        for key, array in arrays.items():
            check(array, obs[key])
    elif isinstance(arrays, tuple):
        for array, branch in zip(arrays, obs, strict=True):
            check(array, branch)
    else:
        found = np.asarray(obs)
        rounds = found.dtype.kind == "f" and arrays.dtype.kind != "f"
        if rounds or found.shape != arrays.shape[1:]:
            raise ValueError(
                f"observation has shape {found.shape} and dtype {found.dtype}, "
                f"its observation_space says {arrays.shape[1:]} and {arrays.dtype}"
            )
