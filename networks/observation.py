"""The encoder of observations: a tree [T,B,*] as the environment emits it to features [T,B,D].

Each leaf of the space has its own encoder and their outputs are concatenated: a Box is flattened,
Discrete and MultiDiscrete become one-hot, MultiBinary floats. Images and other bytes are divided by
the space's `high` (uint8 stays uint8 until here); if an image block opens the chain, each image
goes through its own copy of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor, nn

from ..core.errors import shorten
from ..core.images import ImageSpace, image_space

ImageBlock = Callable[[tuple[int, ...]], tuple[nn.Module, int]]  # (C,H,W): backbone, out_size
Path = tuple[str | int, ...]  # the keys from the root of the observation to a leaf


class Encoder(nn.Module):
    """Encodes the observations of a space; see the module.

    Raises `ValueError` for a space without encoder, and for an image block without an image.
    """

    def __init__(self, space: Space, image_block: ImageBlock | None = None) -> None:
        super().__init__()
        self.paths: list[Path] = []
        self.leaves = nn.ModuleList()
        self.out_size = 0
        for path, leaf_space in leaf_spaces(space):
            leaf = _encode(leaf_space, image_block)
            self.paths.append(path)
            self.leaves.append(leaf)
            self.out_size += leaf.out_size
        if image_block and not any(isinstance(leaf, Image) for leaf in self.leaves):
            where = f"there is no image in {shorten(space)}"
            raise ValueError(f"network: its first block reads images, but {where}")
        if self.out_size == 0:
            raise ValueError(f"observation space {space}: empty; expected at least one number")

    def forward(self, x: Any, first: Tensor) -> Tensor:
        """Maps a tree of leaves [T,B,*] and first [T,B] to features [T,B,out_size]."""
        features = []
        for path, encoder in zip(self.paths, self.leaves, strict=True):
            leaf = x
            for key in path:
                leaf = leaf[key]
            features.append(encoder(leaf, first))
        return features[0] if len(features) == 1 else torch.cat(features, -1)


class Vector(nn.Module):
    """A leaf of numbers [T,B,*shape], flattened and as floats, divided by `high` if that is given.

    `high` is a scalar or an array of the shape.
    """

    def __init__(self, shape: tuple[int, ...], high: np.ndarray | None = None) -> None:
        super().__init__()
        self.out_size = int(np.prod(shape))
        self.flat = len(shape) == 1
        self.scale: Tensor | None
        self.register_buffer("scale", _reciprocal(high, (-1,)), persistent=False)

    def forward(self, x: Tensor, first: Tensor) -> Tensor:
        """Maps x [T,B,*shape] to [T,B,out_size]."""
        if not self.flat:
            x = x.reshape(*first.shape, self.out_size)
        return x.float() if self.scale is None else x * self.scale


class OneHot(nn.Module):
    """A Discrete [T,B] or MultiDiscrete [T,B,*] leaf that counts from 0, as one-hot vectors."""

    def __init__(self, sizes: np.ndarray) -> None:
        super().__init__()
        sizes = sizes.reshape(-1)
        self.count, self.out_size = len(sizes), int(sizes.sum())
        self.part: Tensor
        self.value: Tensor
        part = np.repeat(np.arange(len(sizes)), sizes)
        value = np.concatenate([np.arange(size) for size in sizes])
        self.register_buffer("part", torch.tensor(part), persistent=False)
        self.register_buffer("value", torch.tensor(value), persistent=False)

    def forward(self, x: Tensor, first: Tensor) -> Tensor:
        """Maps integers x [T,B,*] to [T,B,out_size]."""
        x = x.reshape(*first.shape, self.count)
        return (x[..., self.part] == self.value).float()


class Image(nn.Module):
    """An image [T,B,H,W,C], [T,B,C,H,W] or [T,B,H,W], divided by `high`, and its image block."""

    def __init__(self, space: ImageSpace, image_block: ImageBlock) -> None:
        super().__init__()
        self.has_channels = space.channel_axis is not None
        self.channels_last = space.channel_axis == -1
        high = np.moveaxis(space.high, -1, 0) if self.channels_last else space.high
        high = high if self.has_channels else high[None]  # [C,H,W]
        self.scale: Tensor | None
        self.register_buffer("scale", _reciprocal(high, high.shape), persistent=False)
        self.block, self.out_size = image_block(high.shape)

    def forward(self, x: Tensor, first: Tensor) -> Tensor:
        """Maps an image a step to [T,B,out_size]."""
        if self.channels_last:
            x = x.movedim(-1, 2)  # a view, in the memory format that convolutions like best
        elif not self.has_channels:
            x = x.unsqueeze(2)
        else:  # that format now: bytes move in a third of the time of floats
            pixels = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
            x = pixels.unflatten(0, first.shape)
        if self.scale is None:
            x = x.float()
        else:  # for bytes, a tenth of the time of `x * self.scale`
            x = x.to(torch.float32, copy=True).mul_(self.scale)
        return self.block(x, (), first)[0]


def _reciprocal(high: np.ndarray | None, shape: tuple[int, ...]) -> Tensor | None:
    """1 / high, as a scalar if all bounds are equal; None if all are 1 or none is known.

    A bound of 2^16 or more counts as 1: it is the limit of a dtype and not of a brightness.
    """
    if high is None:
        return None
    high = np.where((0 < high) & (high < 2**16), high, 1).astype(np.float64)
    if (high == 1.0).all():
        return None
    scale = torch.tensor(1.0 / high, dtype=torch.float32)
    return scale.flatten()[0].clone() if (high == high.flat[0]).all() else scale.reshape(shape)


def _encode(space: Space, image_block: ImageBlock | None) -> Vector | OneHot | Image:
    image = image_space(space) if image_block else None
    match space:
        case spaces.Box() if image is not None and image_block:
            return Image(image, image_block)
        case spaces.Box():
            scaled = len(space.shape) == 3 or space.dtype == np.uint8
            return Vector(space.shape, space.high if scaled else None)
        case spaces.Discrete():
            return OneHot(np.array([space.n]))
        case spaces.MultiDiscrete():
            return OneHot(space.nvec)
        case spaces.MultiBinary():
            return Vector(space.shape)
    raise ValueError(
        f"observation space {shorten(space)}: no encoder for {type(space).__name__}; "
        "expected Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple"
    )


def leaf_spaces(space: Space, path: Path = ()) -> Iterator[tuple[Path, Space]]:
    """The leaves of Dict and Tuple spaces, each with its path below `path`."""
    if isinstance(space, spaces.Dict):
        branches = list(space.spaces.items())
    elif isinstance(space, spaces.Tuple):
        branches = list(enumerate(space.spaces))
    else:
        yield path, space
        return
    for key, branch in branches:
        yield from leaf_spaces(branch, (*path, key))


def frames_of(space: Space, stacked: int) -> list[int]:
    """Frames along the first axis of each leaf of a space: S, 1 for an image, else 0.

    Args:
        space: Of observations.
        stacked: S, frames that the environment stacks; along the first axis are those of images
            [S,H,W] and [S*C,H,W].
    """
    found = []
    for _, leaf in leaf_spaces(space):
        if not isinstance(leaf, ImageSpace):
            found.append(0)
        else:
            whole = leaf.channel_axis == -3 and leaf.low.shape[0] % stacked == 0
            found.append(stacked if whole else 1)
    return found


def stored_bytes(space: Space, stacked: int) -> float:
    """Bytes of a value of a space, each frame of a stack once; `stacked` as for `frames_of`."""
    frames = frames_of(space, stacked)
    return sum(
        math.prod(leaf.shape or ()) * np.dtype(leaf.dtype).itemsize / max(1, number)
        for number, (_, leaf) in zip(frames, leaf_spaces(space), strict=True)
    )
