"""Distributions over the Box from -1 to 1: the tanh of another distribution."""

from __future__ import annotations

import math

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.errors import shorten
from .distribution import ActionHead
from .gaussian import Gaussian, Params

LARGEST = 1.0 - 2.0**-24
"""The largest float32 below 1, the tanh of 8.66."""
NODES = 20


class Squashed(ActionHead[Params]):
    """The tanh of a Gaussian: params are the Gaussian's; actions [...,A] in [-1,1].

    An action is stored as it is sent to the environment, and its log-probability is that of the
    number before tanh. Where tanh is rounded to 1 this number is taken as 8.66.

    Args:
        inner: The distribution before tanh.
        space: A Box from -1 to 1, as `env.rescale_actions` makes it.

    Raises:
        ValueError: The Box has other bounds.
    """

    def __init__(self, inner: Gaussian, space: spaces.Box) -> None:
        nn.Module.__init__(self)
        if (space.low != -1).any() or (space.high != 1).any():
            raise ValueError(
                f"agent.gaussian.squashed=true: got the action space {shorten(space)}; expected "
                "finite bounds, with env.rescale_actions=true"
            )
        self.inner: Gaussian
        self.inner = inner
        self.noise_size = inner.noise_size
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        self.nodes: Tensor
        self.weights: Tensor
        weights = torch.tensor(weights / weights.sum(), dtype=torch.float32)
        self.register_buffer("nodes", torch.tensor(nodes, dtype=torch.float32), persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, y: Tensor) -> Params:
        """The parameters before tanh."""
        return self.inner(y)

    def noise(self, uniform: Tensor) -> Tensor:
        """The noise before tanh."""
        return self.inner.noise(uniform)

    def sample(self, params: Params, noise: Tensor) -> Tensor:
        """The tanh of the sample."""
        return self.inner.sample(params, noise).tanh()

    def mode(self, params: Params) -> Tensor:
        """The tanh of the mean."""
        return self.inner.mode(params).tanh()

    def log_prob(self, params: Params, action: Tensor) -> Tensor:
        """The log-density before tanh, minus the logarithm of tanh's slope."""
        before = action.clamp(-LARGEST, LARGEST).atanh()
        return self.inner.log_prob(params, before) - log_slope(before).sum(-1)

    def entropy(self, params: Params) -> Tensor:
        """The entropy before tanh, plus the mean logarithm of tanh's slope.

        The mean by Gauss-Hermite quadrature: to 0.002 for deviations up to 3.
        """
        mean, log_std = params[:2]
        before = mean.unsqueeze(-1) + log_std.exp().unsqueeze(-1) * self.nodes
        return self.inner.entropy(params) + (log_slope(before) @ self.weights).sum(-1)

    def kl(self, params: Params, other: Params) -> Tensor:
        """The divergence before tanh: a bijection changes none."""
        return self.inner.kl(params, other)


def log_slope(u: Tensor) -> Tensor:
    """log(1 - tanh(u)^2), finite also where tanh(u) is rounded to 1."""
    return 2.0 * (math.log(2.0) - u - F.softplus(-2.0 * u))
