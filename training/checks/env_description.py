"""What an agent sees of an environment, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces

from ...agents.choices import agents_that
from ...core.action_mask import ActionMask
from ...core.images import ImageSpace, image_space
from ...envs.wrappers.interface import Interface
from ...networks.observation import leaf_spaces
from . import preflight

_STEPS = 1_000_000  # of a replay


def sentences(interface: Interface) -> Iterator[str]:
    """One for each part of an observation, then memory, actions and agents."""
    size = 0
    for path, space in leaf_spaces(interface.observation_space):
        name = "".join(["observation", *(f"[{key!r}]" for key in path)])
        yield f"{name}: {_described(name, space)}"
        size += int(np.prod(space.shape or ())) * (space.dtype or np.dtype(int)).itemsize
    yield f"memory: the observations of {_STEPS:,} steps in a replay take {_bytes(size * _STEPS)}"
    actions = interface.action_space
    yield f"action: {_action(actions, interface.spaces[1])}"
    known = agents_that(lambda agent: isinstance(actions, agent.action_spaces))
    yield f"agents for such actions: {known.replace('agent=', '')}"


def _bytes(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.0f} MiB"


def _described(name: str, space: spaces.Space[Any]) -> str:
    image = image_space(space)
    if isinstance(space, ActionMask):
        return f"a mask of {space.n} choices, which the agent never breaks"
    if image is not None:
        return _image(name, image)
    match space:
        case spaces.Box():
            return f"{_count(space)} ({space.dtype}) {_bounds(space)}"
        case spaces.Discrete():
            return f"one of {space.n} values, one-hot"
        case spaces.MultiDiscrete():
            return f"{space.nvec.size} choices among {space.nvec.tolist()}, each one-hot"
    return f"{np.prod(space.shape or ()):.0f} bits"


def _image(name: str, image: ImageSpace) -> str:
    pixels = preflight.layout(name, image) or f"{name} {image.shape} is read as one channel"
    scale = f"divided by {image.high.max():g}" if image.is_picture else _bounds(image)
    return f"{pixels.removeprefix(f'{name} ')}; a network with convolutions sees it, {scale}"


def _count(space: spaces.Box) -> str:
    size = int(np.prod(space.shape))
    return f"{size} number{'s' if size > 1 else ''}"


def _bounds(space: spaces.Box) -> str:
    low, high = space.low.min(), space.high.max()
    return (
        f"between {low:.4g} and {high:.4g}" if np.isfinite([low, high]).all() else "without bounds"
    )


def _action(space: spaces.Space[Any], own: spaces.Space[Any]) -> str:
    match space:
        case spaces.Box():
            text = f"{_count(space)} {_bounds(space)}"
            if isinstance(own, spaces.Box) and _bounds(own) != _bounds(space):
                text += f", for the environment {_bounds(own)}"
            return text
        case spaces.Discrete():
            return f"one of {space.n}"
        case spaces.MultiDiscrete():
            return f"{space.nvec.size} choices among {space.nvec.tolist()}"
    return str(space)
