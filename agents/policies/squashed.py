"""The policy of bounded continuous actions: a Gaussian, squashed into (-1, 1) by tanh."""

from __future__ import annotations

import math

import gymnasium
import torch
from gymnasium import spaces
from torch import Tensor

from ...core.acting import ActResult
from ...core.errors import shorten
from ...core.tree import Tree
from ...networks.backbone import NetworkConfig, build
from ...networks.heads.distribution import normal
from ...networks.heads.squashed import log_slope
from ...networks.layers import linear
from .policy import BackbonePolicy

Gaussian = tuple[Tensor, Tensor]
"""Mean and logarithm of the deviation before squashing, [..., A] each."""


class SquashedGaussian(BackbonePolicy):
    """a = tanh(mean + deviation * noise); mean and deviation depend on the observation.

    "Soft actor-critic" by Haarnoja et al. (2018a), appendix C.

    Args:
        network: The backbone's blocks.
        observation_space: Of one environment.
        action_space: A Box from -1 to 1 with one axis, as `env.rescale_actions` makes it.
        normalize: Keep running statistics of vector observations.
        log_std_min: Least logarithm of the deviation.
        log_std_max: Greatest logarithm of the deviation.
        noise_repeat: Steps for which the noise of acting stays the same.

    Raises:
        ValueError: The actions have other bounds, or the limits cross.
    """

    def __init__(
        self,
        network: NetworkConfig,
        observation_space: gymnasium.Space,
        action_space: spaces.Box,
        normalize: bool,
        log_std_min: float,
        log_std_max: float,
        noise_repeat: int = 1,
    ) -> None:
        super().__init__(observation_space, action_space, normalize)
        if log_std_min > log_std_max:
            raise ValueError(
                f"agent.log_std_min={log_std_min}: expected at most agent.log_std_max={log_std_max}"
            )
        self.noise_size = bounded_size(action_space)
        self.noise_repeat = noise_repeat
        self.limits = log_std_min, log_std_max
        self.backbone = build(network.blocks, self.input_space)
        self.head = linear(self.backbone.out_size, 2 * self.noise_size, gain=0.01)

    def noise(self, uniform: Tensor, columns: Tensor | None = None) -> Tensor:
        """See `Policy.noise`: normal numbers [..., A]."""
        return normal(held(uniform, self.noise_repeat))

    def forward(self, obs: Tree, state: Tree, first: Tensor) -> tuple[Gaussian, Tree]:
        """The Gaussian [T, B, A] of each observation, and the memory after row T-1."""
        y, state = self.features(obs, state, first)
        return self._gaussian(y), state

    def _gaussian(self, y: Tensor) -> Gaussian:
        mean, log_std = self.head(y).chunk(2, -1)
        return mean, log_std.clamp(*self.limits)

    def act(
        self,
        obs: Tree,
        state: Tree,
        first: Tensor,
        noise: Tensor | None = None,
        greedy: bool = False,
    ) -> ActResult:
        """See `Policy.act`; greedy is the squashed mean."""
        y, state = self.features_of_one(obs, state, first)
        mean, log_std = self._gaussian(y)
        if not greedy:
            mean = torch.addcmul(mean, self._given_or_drawn(noise, first), log_std.exp())
        return mean.tanh(), {}, state


def bounded_size(space: spaces.Box) -> int:
    """A, the numbers of an action; raises ValueError unless tanh reaches all actions."""
    bounds = (space.low == -1).all() and (space.high == 1).all()
    if len(space.shape) != 1 or not bounds:
        raise ValueError(
            f"action space {shorten(space)}: expected finite bounds and one axis, with "
            "env.rescale_actions=true"
        )
    return int(space.shape[0])


def held(uniform: Tensor, steps: int) -> Tensor:
    """The numbers [T, B, K] of a rollout, every `steps`-th of them repeated until the next."""
    if steps == 1 or uniform.ndim < 3:  # one step alone
        return uniform
    return uniform[torch.arange(len(uniform), device=uniform.device) // steps * steps]


def squashed_sample(gaussian: Gaussian, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Draws actions; they and their log-probabilities have gradients for mean and deviation.

    Args:
        gaussian: Mean and log-deviation, [..., A].
        noise: Normal numbers [..., A].

    Returns:
        Actions [..., A] in [-1, 1], and logarithms of their probability densities [...].
    """
    mean, log_std = gaussian
    u = torch.addcmul(mean, noise, log_std.exp())
    log_density = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
    log_prob = (log_density - log_slope(u)).sum(-1)
    return u.tanh(), log_prob
