"""What every action head has: a linear layer, and the distribution that its outputs describe.

Shapes: y [...,D], params [...,*], noise [...,noise_size], action [...,*action]; log_prob, entropy
and kl [...]. Sampling is a pure function of `noise`, made from uniform numbers in [0,1) that are
drawn for each column, a whole rollout at once. Nothing here is `torch.distributions`, which costs
more than the network; tests compare the two.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from ..layers import linear

P = TypeVar("P")  # the parameters of the distribution
EPSILON = 2.0**-24  # of uniforms in float32: keeps 0 and a rounded-up 1 from becoming infinite


class ActionHead(nn.Module, Generic[P]):
    """A linear layer and the distribution over actions that its outputs describe."""

    noise_size: int

    def __init__(self, in_size: int, out_size: int, gain: float) -> None:
        super().__init__()
        self.linear = linear(in_size, out_size, gain)

    def forward(self, y: Tensor) -> P:
        """The parameters of the distribution for features y [...,D]."""
        raise NotImplementedError

    def noise(self, uniform: Tensor) -> Tensor:
        """The noise that `sample` takes, from uniform numbers [...,noise_size] in [0,1)."""
        return uniform

    def sample(self, params: P, noise: Tensor) -> Tensor:
        """The action that `noise` [...,noise_size] chooses."""
        raise NotImplementedError

    def mode(self, params: P) -> Tensor:
        """The most likely action."""
        raise NotImplementedError

    def log_prob(self, params: P, action: Tensor) -> Tensor:
        """The log-probability (density for a Box) of an action."""
        raise NotImplementedError

    def entropy(self, params: P) -> Tensor:
        """The entropy in nats (differential for a Box)."""
        raise NotImplementedError

    def kl(self, params: P, other: P) -> Tensor:
        """The divergence KL(params || other) in nats; its gradient also has a gradient."""
        raise NotImplementedError


def normal(uniform: Tensor) -> Tensor:
    """Normal numbers [...]: the quantiles of uniforms in [0,1)."""
    return torch.special.ndtri(uniform.clamp(EPSILON, 1.0 - EPSILON))
