"""Stable-Baselines3's actor-critics beside ours, on the same weights and the same steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import configure
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor, nn

from neuraxis.agents.policies.actor_critic import ActorCritic
from neuraxis.core.rollout import Rollout


def parameters(policy: ActorCritic | ActorCriticPolicy) -> list[nn.Parameter]:
    """Of an actor and a critic with backbones of fully connected layers, in the same order."""
    if isinstance(policy, ActorCritic):
        assert policy.critic is not None
        modules = [policy.actor, policy.head.linear, policy.critic, policy.value]
        deviation = getattr(policy.head, "log_std", None)
    else:
        layers = policy.mlp_extractor
        modules = [layers.policy_net, policy.action_net, layers.value_net, policy.value_net]
        deviation = getattr(policy, "log_std", None)
    found = [parameter for module in modules for parameter in module.parameters()]
    return found if deviation is None else [*found, deviation]


def weights(policy: ActorCritic | ActorCriticPolicy) -> Tensor:
    """A copy of all parameters, as one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in parameters(policy)])


def adopt(model: OnPolicyAlgorithm, policy: ActorCritic) -> None:
    """Gives their model the weights of our policy, and nowhere to log."""
    assert isinstance(model.policy, ActorCriticPolicy)
    for theirs, ours in zip(parameters(model.policy), parameters(policy), strict=True):
        theirs.data.copy_(ours.data)
    model.set_logger(configure(None, []))


def advantages(model: OnPolicyAlgorithm, rollout: Rollout[Tensor]) -> Tensor:
    """Their advantages [T, B] of a rollout without resets, by their values."""
    assert rollout.valid.all()
    steps, columns = rollout.reward.shape
    buffer = RolloutBuffer(
        *(steps, model.observation_space, model.action_space, "cpu"),
        *(model.gae_lambda, model.gamma, columns),
    )
    with torch.no_grad():
        values = [model.policy.predict_values(obs) for obs in rollout.obs]
    for t in range(steps):
        obs, action, reward, first = (
            np.asarray(rows[t])
            for rows in (rollout.obs, rollout.action, rollout.reward, rollout.first)
        )
        buffer.add(obs, action, reward, first, values[t], torch.zeros(columns))
    buffer.compute_returns_and_advantage(values[-1], np.asarray(rollout.discount[-1] == 0))
    return torch.from_numpy(buffer.advantages)


class Batch:
    """Takes the place of their rollout buffer: the valid steps of one of our batches."""

    def __init__(self, batch: dict[str, Any]) -> None:
        keep = batch["valid"].bool()
        names = ("obs", "action", "value", "log_prob", "advantage", "target")
        self.samples = RolloutBufferSamples(*(batch[name][keep] for name in names))
        self.values, self.returns = (np.asarray(batch[x][keep]) for x in ("value", "target"))

    def get(self, batch_size: int | None = None) -> list[RolloutBufferSamples]:
        """All of them, in one minibatch."""
        return [self.samples]
