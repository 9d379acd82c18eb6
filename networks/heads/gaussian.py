"""The Gaussian distribution over a Box of actions; shapes as in `distribution`."""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium import spaces
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn

from ..layers import linear
from .distribution import ActionHead, normal

Params = tuple[Tensor, ...]
"""Mean [...,A], logarithm of the deviation [A] or [...,A], and what else a sample takes."""


class GaussianConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """The standard deviation of a Gaussian over actions; its logarithm, to be exact."""

    log_std_init: float = Field(default=0.0, allow_inf_nan=False)
    """Logarithm of the standard deviation at the start; 0 is a deviation of 1."""
    log_std_min: float | None = Field(default=None, allow_inf_nan=False)
    """The least that it may become; null: no limit."""
    log_std_max: float | None = Field(default=None, allow_inf_nan=False)
    """The most that it may become; null: no limit."""
    state_dependent_std: bool = False
    """The network chooses it for each observation; false: one learned number for each action."""
    squashed: bool = False
    """Squash actions by tanh into the bounds of the Box, which must be finite; false: clip them."""
    use_sde: bool = False
    """Noise that is a function of the features (gSDE, Raffin et al. 2021); then `log_std` are those
    of a matrix from features to noise, and -2 is a usual start."""
    sde_sample_freq: int = Field(default=-1, ge=-1)
    """Steps after which this function is drawn again; -1: at the start of each rollout only."""

    @model_validator(mode="after")
    def _possible(self) -> GaussianConfig:
        low, high, start = self.log_std_min, self.log_std_max, self.log_std_init
        if self.sde_sample_freq == 0:
            raise ValueError("sde_sample_freq=0: expected 1 or more, or -1")
        if self.use_sde and self.state_dependent_std:
            raise ValueError("state_dependent_std=true: expected false with use_sde=true")
        if low is not None and high is not None and low > high:
            raise ValueError(f"log_std_min={low}: expected at most log_std_max={high}")
        if low is not None and start < low:
            raise ValueError(f"log_std_init={start}: expected at least log_std_min={low}")
        if high is not None and start > high:
            raise ValueError(f"log_std_init={start}: expected at most log_std_max={high}")
        return self


class Gaussian(ActionHead[Params]):
    """Box of A numbers: params (mean [...,A], log_std [A]); actions [...,A], not clipped.

    The logarithm of the standard deviation is a parameter or, where it depends on the observation,
    a second linear layer's output [...,A].
    """

    def __init__(
        self, in_size: int, gain: float, space: spaces.Box, config: GaussianConfig
    ) -> None:
        super().__init__(in_size, math.prod(space.shape), gain)
        self.noise_size = math.prod(space.shape)
        self.limits = config.log_std_min, config.log_std_max
        start = torch.full((self.noise_size,), config.log_std_init)
        self.deviation = None
        if config.state_dependent_std:
            self.deviation = linear(in_size, self.noise_size, gain)
            self.deviation.bias.data.copy_(start)
        else:
            self.log_std = nn.Parameter(start)

    def forward(self, y: Tensor) -> Params:
        """Mean [...,A] and log standard deviation, [A] or [...,A]."""
        log_std = self.log_std if self.deviation is None else self.deviation(y)
        return self.linear(y), limited(log_std, *self.limits)

    def noise(self, uniform: Tensor) -> Tensor:
        """Normal numbers [...,A]."""
        return normal(uniform)

    def sample(self, params: Params, noise: Tensor) -> Tensor:
        """Mean + std * noise."""
        mean, log_std = params[:2]
        return torch.addcmul(mean, noise, log_std.exp())

    def mode(self, params: Params) -> Tensor:
        """The mean."""
        return params[0]

    def log_prob(self, params: Params, action: Tensor) -> Tensor:
        """The log-density, summed over the numbers of an action."""
        mean, log_std = params[:2]
        deviation = (action - mean) * (-log_std).exp()
        constant = 0.5 * math.log(2.0 * math.pi) * action.shape[-1]
        return -0.5 * deviation.square().sum(-1) - (log_std.sum(-1) + constant)

    def entropy(self, params: Params) -> Tensor:
        """The sum of log_std + log(2 pi e) / 2 over the numbers of an action."""
        mean, log_std = params[:2]
        constant = 0.5 * math.log(2.0 * math.pi * math.e) * mean.shape[-1]
        return (log_std.sum(-1) + constant).expand(mean.shape[:-1])

    def kl(self, params: Params, other: Params) -> Tensor:
        """See `gaussian_kl`."""
        return gaussian_kl(params, other)


def gaussian_kl(params: Params, other: Params) -> Tensor:
    """KL(params || other): the sum of (s^2 + d^2 - 1) / 2 - log s.

    s are the ratios of the deviations, d the distances of the means in deviations of `other`.
    """
    (mean, log_std), (other_mean, other_log_std) = params[:2], other[:2]
    distance = (mean - other_mean) * (-other_log_std).exp()
    log_ratio = log_std - other_log_std
    return ((2 * log_ratio).expm1() / 2 + distance.square() / 2 - log_ratio).sum(-1)


def limited(x: Tensor, low: float | None, high: float | None) -> Tensor:
    """Clamps x; outside the limits only a gradient that leads back inside passes.

    The gradient of `clamp` is 0 there: a parameter that has passed a limit would stay outside.
    """
    return x if low is None and high is None else _Limited.apply(x, low, high)


class _Limited(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float | None, high: float | None) -> Tensor:
        ctx.save_for_backward(x)
        ctx.limits = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (x,), (grad,), (low, high) = ctx.saved_tensors, grad_outputs, ctx.limits
        # Descent goes against the gradient: below the minimum a positive one leads further away.
        if low is not None:
            grad = grad.masked_fill((x < low) & (grad > 0), 0.0)
        if high is not None:
            grad = grad.masked_fill((x > high) & (grad < 0), 0.0)
        return grad, None, None
