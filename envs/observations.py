"""The spaces of observations, and the arrays [B,*] that hold them."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces

from ..core.errors import shorten
from ..core.images import image_space
from ..core.tree import Tree, leaves
from .config import EnvConfig

Space = spaces.Space[Any]

UNSIGNED = (np.uint16, np.uint32, np.uint64)  # PyTorch has few operations for them


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
    """The space with numbers that PyTorch computes with; `what` names it in the error.

    Floats and the larger unsigned integers become float32, as networks see them in any case.

    Raises:
        ValueError: a leaf is none of Box, Discrete, MultiDiscrete, MultiBinary, or it is empty
            or beyond float32, or a key is not text.
    """
    if isinstance(space, spaces.Dict):
        branches = space.spaces.items()
        for key in space.spaces:
            if not isinstance(key, str | int):  # a checkpoint has no others
                raise ValueError(f"{what} has the key {key!r}; expected text")
        return spaces.Dict({key: supported(one, f"{what}[{key!r}]") for key, one in branches})
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([supported(one, f"{what}[{i}]") for i, one in enumerate(space.spaces)])
    space = checked_kind(space, what)
    if isinstance(space, spaces.Box) and (space.dtype.kind == "f" or space.dtype in UNSIGNED):
        low, high = float32(space.low), float32(space.high)
        if (low == np.inf).any() or (high == -np.inf).any():
            raise ValueError(f"{what} is {shorten(space)}; expected numbers that float32 holds")
        return spaces.Box(low, high, dtype=np.float32)
    return space


def float32(array: np.ndarray) -> np.ndarray:
    """The array in float32; what float32 does not hold is infinite."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def checked_kind(space: Space, what: str) -> Space:
    """The space, which is of a kind that agents know, and not empty; else ValueError."""
    known = spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
    if not isinstance(space, known):
        raise ValueError(
            f"{what} is a {type(space).__name__}; expected Box, Discrete, MultiDiscrete or "
            "MultiBinary, or Dict and Tuple of them"
        )
    if 0 in (space.shape or ()):
        raise ValueError(f"{what} has shape {space.shape}; expected at least one number")
    return space


def with_layout(space: Space, config: EnvConfig) -> Space:
    """The space, of frames that may be stacked, with each image as an `ImageSpace`.

    Raises:
        ValueError: `env.image_layout` chooses, but no image has three axes.
    """
    stack, layout = int(config.frame_stack > 1), config.image_layout
    space = map_space(lambda leaf: image_space(leaf, layout, stack) or leaf, space)
    axes = (getattr(leaf, "channel_axis", None) for leaf in space_leaves(space))
    if layout != "auto" and not any(axes):
        raise ValueError(
            f"env.image_layout={layout}: no observation of {config.id} has three axes, rows, "
            "columns and channels; use env.image_layout=auto"
        )
    return space


def empty(space: Space, num: int) -> Tree:
    """Fresh arrays [num,*] for the observations of a space."""
    if isinstance(space, spaces.Dict):
        return {key: empty(branch, num) for key, branch in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(empty(branch, num) for branch in space.spaces)
    return np.empty((num, *(space.shape or ())), space.dtype)


def batch(space: Space, obs: Any) -> Tree:
    """A vector environment's observations as fresh arrays [B,*], in order and dtypes of a space."""
    if isinstance(space, spaces.Dict):
        return {key: batch(branch, obs[key]) for key, branch in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(batch(branch, one) for branch, one in zip(space.spaces, obs, strict=True))
    # One memory layout: a matrix product of a transposed view rounds differently.
    return np.asarray(obs).astype(space.dtype, order="C")


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


def checksum(arrays: Tree, index: int) -> int:
    """A sum of the observation in row `index` of arrays [num,*]."""
    return zlib.crc32(b"".join(leaf[index].tobytes() for leaf in leaves(arrays)))


class Spaces(Protocol):
    """What has observations and actions: environments, a policy, a dataset."""

    @property
    def observation_space(self) -> Space:
        """Of one observation."""
        ...

    @property
    def action_space(self) -> Space:
        """Of one action."""
        ...


def check_fit(wanted: Spaces, other: Spaces, place: str, bounds: bool = False) -> None:
    """Raises ValueError if the spaces of `other` are not those of a policy, but for their bounds.

    Args:
        wanted: The policy.
        other: Environments, a dataset or another policy.
        place: Opens the message.
        bounds: Whether the bounds of actions count, too: with others an action means another.
    """
    for name in ("observation_space", "action_space"):
        found, expected = getattr(other, name), getattr(wanted, name)
        forms = map_space(_form, found), map_space(_form, expected)
        if forms[0] != forms[1] or (bounds and name == "action_space" and found != expected):
            raise ValueError(
                f"{place}: {name} {shorten(found)}, the policy was made for {shorten(expected)}"
            )


def _form(space: Space) -> Space:
    """A Box without its bounds, which two forms of an environment may declare differently."""
    return (
        spaces.Box(0, 1, space.shape, space.dtype.type) if isinstance(space, spaces.Box) else space
    )
