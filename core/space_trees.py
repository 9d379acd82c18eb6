"""Spaces as trees that a checkpoint can hold: a policy is built again without its environment."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from gymnasium import spaces

from .action_mask import ActionMask
from .images import ImageSpace


def to_tree(space: spaces.Space[Any]) -> dict[str, Any]:
    """The space as nested dicts of arrays, numbers and text; see `from_tree`.

    Args:
        space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of them.
    """
    if isinstance(space, spaces.Dict):
        return {"dict": [(key, to_tree(below)) for key, below in space.items()]}
    if isinstance(space, spaces.Tuple):
        return {"tuple": [to_tree(below) for below in space]}
    if isinstance(space, ImageSpace):
        return {"image": [*_bounds(space), space.channel_axis]}
    if isinstance(space, spaces.Box):
        return {"box": _bounds(space)}
    if isinstance(space, spaces.Discrete):
        return {"discrete": [space.n, space.start]}
    if isinstance(space, spaces.MultiDiscrete):
        return {"multidiscrete": [space.nvec, space.start]}
    if isinstance(space, spaces.MultiBinary):
        return {"mask" if isinstance(space, ActionMask) else "multibinary": space.n}
    raise TypeError(f"{space}: no space that a policy has")


def from_tree(tree: dict[str, Any]) -> spaces.Space[Any]:
    """The space that `to_tree` was given."""
    ((kind, content),) = tree.items()
    if kind == "dict":
        return spaces.Dict(OrderedDict((key, from_tree(below)) for key, below in content))
    if kind == "tuple":
        return spaces.Tuple([from_tree(below) for below in content])
    if kind in ("box", "image"):
        low, high, shape, *axis = content
        low, high = (np.broadcast_to(bound, shape).copy() for bound in (low, high))
        return ImageSpace(low, high, *axis) if axis else spaces.Box(low, high, dtype=low.dtype.type)
    if kind == "discrete":
        n, start = content
        return spaces.Discrete(n, start=start, dtype=n.dtype)
    if kind == "multidiscrete":
        nvec, start = content
        return spaces.MultiDiscrete(nvec, dtype=nvec.dtype.type, start=start)
    return ActionMask(content) if kind == "mask" else spaces.MultiBinary(content)


def _bounds(space: spaces.Box) -> list[Any]:
    """Low, high and shape; one number for bounds that are all equal."""
    ends = []
    for end in (space.low, space.high):
        same = end.size > 0 and bool((end == end.flat[0]).all())
        ends.append(end.flat[0] if same else end)
    return [*ends, space.shape]
