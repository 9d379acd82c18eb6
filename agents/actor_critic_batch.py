"""The minibatch of an off-policy actor-critic."""

from __future__ import annotations

from typing import NotRequired, TypedDict

import torch
from torch import Tensor

from ..core.tree import Tree
from .policies.critics import Critics
from .policies.policy import Policy
from .replay.sample import Sample, warmed


class Memories(TypedDict):
    """Memories, trees of [*, N, *]; all are () without memory."""

    actor: Tree  # of the policy, before obs[0]
    critics: Tree  # before obs[0]
    next_actor: Tree  # of the policy that acts in targets, before obs[1]
    next_critics: Tree  # of the target critics, before obs[1]


class Batch(TypedDict):
    """N sequences of L steps, and the n - 1 steps after them: S = L + n - 1."""

    obs: Tree  # [S+1, N, *obs]
    first: Tensor  # [S+1, N] bool
    action: Tensor  # [S, N, *act]
    reward: Tensor  # [S, N]
    discount: Tensor  # [S, N], 0 at terminations
    successor: Tensor  # [S, N] bool, False where the step was a reset
    noise: Tensor  # [S+1, N, K], random numbers for new actions in all states
    memory: Memories
    valid: Tensor  # [L, N], 0 at resets
    weight: Tensor  # [L, N], importance weights times the weights of a mean
    actor_valid: NotRequired[Tensor]  # [L, N], `valid` where the policy learns in some updates only


@torch.no_grad()
def memories(
    sample: Sample,
    begin: int,
    policy: Policy,
    next_policy: Policy,
    critics: Critics,
    target: Critics | None,
) -> Memories:
    """Each network's memory where a sequence begins, by its own weights.

    Args:
        sample: The windows.
        begin: Steps of burn-in before the sequence.
        policy: It acts.
        next_policy: Its actions make the targets.
        critics: They learn.
        target: The target critics; None: there are none.
    """
    stored, empty = sample.state, critics.initial_state(sample.first.shape[1])

    def unrolled(network: Critics, end: int) -> Tree:
        def unroll(obs: Tree, state: Tree, first: Tensor) -> tuple[Tree, Tree]:
            return network.unroll(policy.inputs(obs), state, first)

        return warmed(unroll, sample, empty, 0, end)

    return {
        "actor": warmed(policy, sample, stored, 0, begin),
        "critics": unrolled(critics, begin),
        "next_actor": warmed(next_policy, sample, stored, 0, begin + 1),
        "next_critics": () if target is None else unrolled(target, begin + 1),
    }
