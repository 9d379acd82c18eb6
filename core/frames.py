"""Stacks of frames in which each frame is kept once, bit for bit.

An observation that stacks the last S frames has S-1 of the one before. So a row brings one frame;
where it does not continue the row before, as at the start of an episode, it brings all S:

    rows                     abcd bcde cdef | xxxy xxyz
    what they bring          abcd    e    f | xxxy    z
    number of their newest      3    4    5 |    9   10

The newest frame's number says which ones a row has: it, and the S-1 before it. What continues is
found by comparing pixels, so nothing needs to be known of how an environment stacks or resets.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .rollout import Rollout
from .tree import map_tree

ZLIB_LEVEL = 1


def same(one: Tensor, other: Tensor) -> Tensor:
    """Which of some frames [B, *] are the same bit for bit, [B] bool."""
    return (one.view(torch.uint8) == other.view(torch.uint8)).flatten(1).all(1)


def brought(stacks: Tensor) -> Tensor:
    """How many frames the rows [T, B, S, *frame] bring, [T, B]: 1, or S where a row opens."""
    goes_on = [same(before[:, 1:], now[:, :-1]) for before, now in pairwise(stacks)]
    opens = torch.zeros(stacks.shape[1], dtype=torch.bool, device=stacks.device)
    return torch.where(torch.stack([opens, *goes_on]), 1, stacks.shape[2])


def positions(count: np.ndarray, size: int) -> np.ndarray:
    """Where the frames that rows bring, `count` [T, B], lie among T * B * `size`: [K].

    They are in the order of their numbers: one column after the other, each in order of time.
    """
    wanted = np.arange(size) >= size - count[..., None]
    every = np.arange(wanted.size).reshape(wanted.shape)
    return every.swapaxes(0, 1)[wanted.swapaxes(0, 1)]


@dataclass(frozen=True)
class PackedStacks:
    """Stacks [T, B, *obs] as their frames, see `pack`."""

    frames: np.ndarray
    """[K, *frame], or what zlib makes of them, [bytes] uint8."""
    count: np.ndarray
    """[T, B]: frames that each row brings."""
    frame: tuple[int, ...]
    """Shape of a frame."""
    dtype: np.dtype[Any]
    size: int
    """S."""
    compressed: bool

    def unpack(self) -> np.ndarray:
        """The stacks [T, B, *obs], in memory of their own."""
        frames = self.frames
        if self.compressed:
            frames = np.frombuffer(zlib.decompress(frames.data), self.dtype).reshape(
                -1, *self.frame
            )
        newest = self.count.T.cumsum().reshape(self.count.T.shape).T - 1
        stacks = frames[newest[..., None] + np.arange(1 - self.size, 1)]
        return stacks.reshape(*newest.shape, -1, *self.frame[1:])


def pack(stacks: np.ndarray, size: int, compress: bool) -> PackedStacks:
    """The frames of stacks [T, B, S*C, *], each [C, *], S being `size`."""
    frames = torch.from_numpy(stacks).unflatten(2, (size, -1))
    count = brought(frames).numpy()
    frames = frames.flatten(0, 2)
    picked = frames[torch.from_numpy(positions(count, size))].numpy()
    shape = picked.shape[1:]
    if compress:
        picked = np.frombuffer(zlib.compress(picked.data, ZLIB_LEVEL), np.uint8)
    return PackedStacks(picked, count, shape, stacks.dtype, size, compress)


def packed(
    rollout: Rollout[np.ndarray], sizes: Sequence[int], compress: bool = False
) -> Rollout[np.ndarray]:
    """The rollout with the images of its observations packed: stacks, or all to `compress` them.

    Args:
        rollout: To be sent to another process, which calls `unpacked`.
        sizes: Of each leaf of the observations, see `networks.observation.frames_of`.
        compress: Whether zlib compresses the frames.
    """
    size = iter(sizes)

    def one(leaf: np.ndarray) -> np.ndarray | PackedStacks:
        frames = next(size)
        return pack(leaf, frames, compress) if frames > 1 or (frames and compress) else leaf

    return replace(rollout, obs=map_tree(one, rollout.obs))


def unpacked(rollout: Rollout[np.ndarray]) -> Rollout[np.ndarray]:
    """The rollout that `packed` was given."""

    def one(leaf: np.ndarray | PackedStacks) -> np.ndarray:
        return leaf.unpack() if isinstance(leaf, PackedStacks) else leaf

    return replace(rollout, obs=map_tree(one, rollout.obs))
