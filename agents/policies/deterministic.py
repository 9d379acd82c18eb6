"""The deterministic policy of bounded continuous actions, with Gaussian noise to explore."""

from __future__ import annotations

import gymnasium
import torch
from gymnasium import spaces
from torch import Tensor

from ...core.acting import ActResult
from ...core.tree import Tree
from ...networks.backbone import NetworkConfig, build
from ...networks.heads.distribution import normal
from ...networks.layers import linear
from .policy import BackbonePolicy
from .squashed import bounded_size, held


class Deterministic(BackbonePolicy):
    """a = tanh(head(features)); to explore, a normal number is added and the sum is clipped.

    "Continuous control with deep reinforcement learning" by Lillicrap et al. (2016), with the noise
    of "Addressing function approximation error in actor-critic methods" by Fujimoto et al. (2018).

    Args:
        network: The backbone's blocks.
        observation_space: Of one environment.
        action_space: A Box from -1 to 1 with one axis, as `env.rescale_actions` makes it.
        normalize: Keep running statistics of vector observations.
        noise_repeat: Steps for which the noise of acting stays the same.

    Attributes:
        noise_std: Deviation of the noise that explores; an action reaches from -1 to 1.
        share: Factor on the policy's action while it explores, 0 or 1: at 0 actions are uniform.

    Raises:
        ValueError: The actions have other bounds.
    """

    def __init__(
        self,
        network: NetworkConfig,
        observation_space: gymnasium.Space,
        action_space: spaces.Box,
        normalize: bool,
        noise_repeat: int = 1,
    ) -> None:
        super().__init__(observation_space, action_space, normalize)
        self.noise_size = bounded_size(action_space)
        self.backbone = build(network.blocks, self.input_space)
        self.head = linear(self.backbone.out_size, self.noise_size, gain=0.01)
        self.noise_repeat = noise_repeat
        self.noise_std: Tensor
        self.share: Tensor
        self.register_buffer("noise_std", torch.zeros(()))
        self.register_buffer("share", torch.ones(()))

    def noise(self, uniform: Tensor, columns: Tensor | None = None) -> Tensor:
        """See `Policy.noise`: what `act` adds to the policy's share of an action [..., A]."""
        uniform = held(uniform, self.noise_repeat)
        return torch.where(self.share > 0, self.noise_std * normal(uniform), 2 * uniform - 1)

    def forward(self, obs: Tree, state: Tree, first: Tensor) -> tuple[Tensor, Tree]:
        """The action [T, B, A] of each observation, and the memory after row T-1."""
        y, state = self.features(obs, state, first)
        return self.head(y).tanh(), state

    def act(
        self,
        obs: Tree,
        state: Tree,
        first: Tensor,
        noise: Tensor | None = None,
        greedy: bool = False,
    ) -> ActResult:
        """See `Policy.act`; greedy is without noise."""
        y, state = self.features_of_one(obs, state, first)
        action = self.head(y).tanh()
        if not greedy:
            noise = self._given_or_drawn(noise, first)
            action = torch.addcmul(noise, action, self.share).clamp(-1.0, 1.0)
        return action, {}, state
