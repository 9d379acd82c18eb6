"""From rollouts to minibatches of sequences.

A rollout [T, B] is cut into N = T * B / L sequences [L, N] of L steps, each with the memory that
stood at its start. Networks without memory learn from single steps: L = 1 and memory ().
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..envs.rollout import Rollout
from ..envs.tree import Tree, leaves, map_tree
from .policies import ActorCritic


def cut(x: Tensor, length: int) -> Tensor:
    """Cuts [T, B, *] into sequences [L, T/L * B, *]; all columns' first sequences come first."""
    parts = x.reshape(-1, length, *x.shape[1:])
    return parts.transpose(0, 1).reshape(length, -1, *x.shape[2:])


@torch.no_grad()
def unroll(policy: ActorCritic, rollout: Rollout, length: int) -> tuple[Tensor, Tree]:
    """Values of every state, and the memory at the start of each sequence of `length` steps.

    Returns:
        Values [T+1, B]; memories, a tree of [*, T/L * B, *] in the order of `cut`.
    """
    steps = rollout.action.shape[0]
    if rollout.state == ():
        return policy(rollout.obs, (), rollout.first)[1], ()
    state, values, starts = rollout.state, [], []
    for begin in range(0, steps + 1, length):
        rows = slice(begin, begin + length)
        starts.append(state)
        obs = map_tree(lambda leaf, rows=rows: leaf[rows], rollout.obs)
        _, value, state = policy(obs, state, rollout.first[rows])
        values.append(value)
    return torch.cat(values), map_tree(lambda *parts: torch.cat(parts, 1), *starts[:-1])


def minibatches(
    batch: Tree, count: int, size: int, epochs: int, rng: np.random.Generator
) -> Iterator[Tree]:
    """Yields minibatches of `size` sequences, shuffled anew in each epoch; the last may be short.

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
        for picked in torch.from_numpy(rng.permutation(count)).to(device).split(size):
            yield map_tree(functools.partial(torch.index_select, dim=1, index=picked), batch)
