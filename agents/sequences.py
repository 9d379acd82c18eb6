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
def unroll(policy: ActorCritic, rollout: Rollout, length: int) -> tuple[Tensor, Tensor, Tree]:
    """What the weights that acted think of a rollout.

    If acting has left its features, they need not be made again; autocast makes others.

    Returns:
        Values of every state [T+1, B]; log-probabilities of the actions [T, B]; and the memory at
        the start of each sequence of `length` steps, a tree of [*, T/L * B, *] in the order of
        `cut`.
    """
    if "features" in rollout.extras and not torch.is_autocast_enabled(rollout.reward.device.type):
        newest = map_tree(lambda leaf: leaf[-1:], rollout.obs)
        newest = policy.features(newest, rollout.first[-1:])
        features = torch.cat((rollout.extras["features"], newest))
        params, value = policy.judge(features, features)
        return value, policy.head.log_prob(params[:-1], rollout.action), ()
    actions = torch.cat((rollout.action, rollout.action[-1:]))  # any for the last state
    state, values, log_probs, starts = rollout.state, [], [], []
    stride = length if state != () else len(actions)
    for begin in range(0, len(actions), stride):
        rows = slice(begin, begin + stride)
        starts.append(state)
        obs = map_tree(lambda leaf, rows=rows: leaf[rows], rollout.obs)
        params, value, state = policy(obs, state, rollout.first[rows])
        values.append(value)
        log_probs.append(policy.head.log_prob(params, actions[rows]))
    memories = map_tree(lambda *parts: torch.cat(parts, 1), *starts[:-1]) if state != () else ()
    return torch.cat(values), torch.cat(log_probs)[:-1], memories


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
