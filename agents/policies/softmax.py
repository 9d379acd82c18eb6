"""The policy of discrete actions that has critics: a probability for each of them."""

from __future__ import annotations

import gymnasium
from torch import Tensor

from ...core.acting import ActResult
from ...core.tree import Tree
from ...networks.backbone import NetworkConfig, build
from ...networks.heads.discrete import INVALID, gumbel
from ...networks.layers import linear
from .joint_actions import JointActions
from .policy import BackbonePolicy


class SoftmaxPolicy(BackbonePolicy):
    """Probabilities of joint actions; 0 of those that an action mask forbids.

    Args:
        network: The backbone's blocks.
        observation_space: Of one environment.
        action_space: Discrete, MultiDiscrete or MultiBinary; see `JointActions`.
        normalize: Keep running statistics of vector observations.
    """

    def __init__(
        self,
        network: NetworkConfig,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        normalize: bool,
    ) -> None:
        super().__init__(observation_space, action_space, normalize)
        self.joint = JointActions(action_space)
        self.noise_size = self.joint.count
        self.backbone = build(network.blocks, self.input_space)
        self.head = linear(self.backbone.out_size, self.joint.count, gain=0.01)

    def noise(self, uniform: Tensor, columns: Tensor | None = None) -> Tensor:
        """See `Policy.noise`: Gumbel numbers [..., A]."""
        return gumbel(uniform)

    def forward(self, obs: Tree, state: Tree, first: Tensor) -> tuple[Tensor, Tree]:
        """Log-probabilities [T, B, A] of the joint actions, and the memory after row T-1."""
        y, state = self.features(obs, state, first)
        return self._log_probs(y, obs), state

    def _log_probs(self, y: Tensor, obs: Tree) -> Tensor:
        logits, mask = self.head(y), self.mask(obs)
        if mask is not None:
            logits = logits.masked_fill(~self.joint.mask(mask), INVALID)
        return logits.log_softmax(-1)

    def act(
        self,
        obs: Tree,
        state: Tree,
        first: Tensor,
        noise: Tensor | None = None,
        greedy: bool = False,
    ) -> ActResult:
        """See `Policy.act`; a sample is the greatest log-probability plus Gumbel noise."""
        y, state = self.features_of_one(obs, state, first)
        choice = self._log_probs(y, obs)
        if not greedy:
            choice = choice + self._given_or_drawn(noise, first)
        return self.joint.action(choice.argmax(-1)), {}, state
