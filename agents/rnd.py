"""Random network distillation: a reward for observations that the agent has seldom seen.

"Exploration by random network distillation" by Burda et al. (2018). A network with random weights,
which never change, maps observations to numbers; a second one, the predictor, learns them from what
the agent sees. Its error is large where it has not learned yet.

Deviations: one reward, extrinsic plus `coef` times intrinsic, and one value of their sum, so that
every agent that learns from fresh rollouts can have it, whatever its targets; the paper has two
values, of which the intrinsic one goes on over the ends of episodes. Predictor and target have the
same size, and the predictor learns once from each step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from ..core.action_mask import mask_path, without
from ..core.rollout import Rollout
from ..core.tree import Tree, map_tree
from ..networks.backbone import Blocks, NetworkConfig, build, may_remember, read_block
from ..networks.layers import HIDDEN_GAIN, linear
from ..networks.weight_norm import followers
from .agent import Metrics
from .learning.losses import masked_mean, mean_weights
from .learning.minibatches import cut, minibatches
from .learning.optimizer import Optimizer
from .learning.terms import Terms
from .policies.normalize import Normalizer, ReturnScale
from .setup import Setup

OUTPUTS = 64
"""Numbers of an observation that the predictor learns."""


class RNDConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Settings of random network distillation."""

    coef: float = Field(default=0.0, ge=0)
    """Weight of the intrinsic reward, whose discounted sum has a deviation of 1; 0: none."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Step of the predictor's Adam: how fast novelty wears off."""
    batch_size: int = Field(default=256, gt=0)
    """Most steps in a minibatch of the predictor, which sees each step of a rollout once."""


class RND:
    """Adds intrinsic rewards to rollouts, and learns from them.

    Both networks have the blocks of the agent's network that have no memory (an MLP if there is
    none) and a linear layer. Vector observations are normalised within +-5, by statistics that
    include the newest rollout.

    Args:
        config: Its settings.
        setup: What the agent is built for.
        gamma: Discount of the intrinsic return, by whose running deviation rewards are divided.
    """

    def __init__(self, config: RNDConfig, setup: Setup, gamma: float) -> None:
        self.config = config
        self.mask_path = mask_path(setup.observation_space)
        seen = without(setup.observation_space, self.mask_path)
        self.normalizer = Normalizer(seen, limit=5.0).to(setup.device)
        self.target, self.predictor = (
            Embedding(setup.network, self.normalizer.space).to(setup.device).eval()
            for _ in range(2)
        )
        self.target.requires_grad_(False)
        follow, rate = followers(self.predictor), config.learning_rate
        self.optimizer = Optimizer(self.predictor, learning_rate=rate, followers=follow)
        self.scale = ReturnScale(setup.num_envs, gamma)
        self.parts = {
            "normalizer": self.normalizer,
            "target": self.target,
            "predictor": self.predictor,
            "optimizer": self.optimizer,
            "scale": self.scale,
        }

    def __call__(
        self, rollout: Rollout[Tensor], rng: np.random.Generator
    ) -> tuple[Rollout[Tensor], Metrics]:
        """Rewards the novelty of the observations that a rollout led to, and learns them.

        Args:
            rollout: Of the newest steps.
            rng: Shuffles the minibatches.

        Returns:
            The rollout with both rewards; metrics.
        """
        obs = map_tree(lambda leaf: leaf[1:], without(rollout.obs, self.mask_path))
        self.normalizer.update(obs)
        valid = rollout.valid.float()
        batch = {"obs": obs, "first": rollout.first[1:], "valid": valid}
        with torch.no_grad():
            novelty = self.errors(batch) * valid
        # an intrinsic return goes on over the ends of episodes: nothing opens
        intrinsic = self.scale(novelty, torch.zeros_like(rollout.first), rollout.columns)
        reward = rollout.reward + self.config.coef * intrinsic
        metrics = {
            "train/intrinsic_reward": masked_mean(intrinsic, valid),
            "loss/rnd": masked_mean(novelty, valid),
        }
        steps, size = map_tree(lambda leaf: cut(leaf, 1), batch), self.config.batch_size
        for minibatch in minibatches(steps, valid.numel(), size, 1, rng):
            self.optimizer.step(self._loss, minibatch)
        return replace(rollout, reward=reward), metrics

    def errors(self, batch: Any) -> Tensor:
        """The predictor's mean squared errors [L, N]."""
        inputs, first = self.normalizer(batch["obs"]), batch["first"]
        with torch.no_grad():
            target = self.target(inputs, first)
        return (self.predictor(inputs, first) - target).square().mean(-1)

    def _loss(self, batch: Any) -> tuple[Tensor, Terms]:
        return (self.errors(batch) * mean_weights(batch["valid"])).sum(), {}

    def state_dict(self) -> dict[str, Any]:
        """Both networks, the optimizer and the statistics."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` stood."""
        for name, part in self.parts.items():
            part.load_state_dict(state[name])


class Embedding(nn.Module):
    """Maps observations to `OUTPUTS` numbers, without memory."""

    def __init__(self, network: NetworkConfig, space: Any) -> None:
        super().__init__()
        blocks: Blocks = tuple(block for block in network.blocks if not may_remember(block))
        self.backbone = build(blocks or (read_block({"name": "mlp"}),), space)
        self.head = linear(self.backbone.out_size, OUTPUTS, gain=HIDDEN_GAIN)

    def forward(self, inputs: Tree, first: Tensor) -> Tensor:
        """Maps a tree of [L, N, *obs] to [L, N, OUTPUTS]."""
        return self.head(self.backbone(inputs, (), first)[0])
