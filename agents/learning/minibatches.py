"""From rollouts to minibatches of sequences.

A rollout [T, B] is cut into N = T * B / L sequences [L, N] of L steps, each with the memory at its
start. Networks without memory learn from single steps: L = 1, and the memory is ().
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ...core.devices import to_device
from ...core.tree import Tree, leaves, map_tree


def cut(x: Tensor, length: int) -> Tensor:
    """Cuts x [T, B, *] into sequences [L, T/L * B, *]: first the first one of each column."""
    parts = x.reshape(-1, length, *x.shape[1:])
    return parts.transpose(0, 1).reshape(length, -1, *x.shape[2:])


def minibatches(
    batch: Tree, count: int, size: int, epochs: int, rng: np.random.Generator
) -> Iterator[Tree]:
    """Yields minibatches of at most `size` sequences, shuffled anew in each epoch.

    Their sizes differ by at most one sequence. If the last minibatch were the rest of a division, a
    few sequences would move the weights as far as `size` of them.

    Args:
        batch: Tree of [*, N, *].
        count: N.
        size: Sequences in a minibatch.
        epochs: Passes over the batch.
        rng: Shuffles.
    """
    if size >= count:  # one minibatch, the same in each epoch: order does not matter
        yield from [batch] * epochs
        return
    device = next(leaves(batch)).device
    for _ in range(epochs):
        shuffled = to_device(rng.permutation(count), device)
        for picked in shuffled.tensor_split(-(-count // size)):
            yield map_tree(functools.partial(torch.index_select, dim=1, index=picked), batch)


def smallest(count: int, size: int) -> int:
    """Sequences in the smallest minibatch of `count`, if one may have `size`; see `minibatches`."""
    return count // -(-count // size)
