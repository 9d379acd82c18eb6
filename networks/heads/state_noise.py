"""Exploration noise that is a function of the state and stays the same for several steps."""

from __future__ import annotations

import math

import torch
from gymnasium import spaces
from torch import Tensor, nn

from ..dense import float32_linear
from .distribution import normal
from .gaussian import Gaussian, GaussianConfig, Params, limited


class StateNoise(Gaussian):
    """Generalised state-dependent exploration: params (mean [...,A], log_std [...,A], y [...,D]).

    "Smooth exploration for robotic reinforcement learning" by Raffin et al. (2021). An action is
    mean + E y with a matrix E [A,D] of normal numbers that is drawn every `sde_sample_freq` steps
    and at the start of each rollout. So in the same state the noise is the same, and a step's
    action is Gaussian with the variance sum_d (std[a,d] y[d])^2 + 1e-6. Its gradient goes to the
    deviations [A,D], not to the features y.
    """

    def __init__(
        self, in_size: int, gain: float, space: spaces.Box, config: GaussianConfig
    ) -> None:
        super().__init__(in_size, gain, space, config)
        self.shape = math.prod(space.shape), in_size
        self.noise_size = math.prod(self.shape)
        self.log_std = nn.Parameter(torch.full(self.shape, config.log_std_init))
        self.steps = config.sde_sample_freq
        self.least: Tensor
        self.register_buffer("least", torch.full(self.shape[:1], 1e-6), persistent=False)

    def forward(self, y: Tensor) -> Params:
        """Mean and log standard deviation [...,A], and features without gradient [...,D]."""
        log_std, seen = limited(self.log_std, *self.limits), y.detach()
        variance = float32_linear(seen.float().square(), (2.0 * log_std).exp(), self.least)
        return self.linear(y), 0.5 * variance.log(), seen

    def noise(self, uniform: Tensor) -> Tensor:
        """Matrices [...,A,D] of normal numbers for `sample`.

        Of uniforms [T,...,A*D] it uses those of the steps at which E is drawn; [B,A*D] is one step.
        """
        if uniform.ndim < 3:
            return normal(uniform).unflatten(-1, self.shape)
        steps = len(uniform) if self.steps < 0 else self.steps
        drawn = normal(uniform[::steps]).unflatten(-1, self.shape)
        held = torch.arange(len(uniform), device=uniform.device) // steps
        return drawn[held] if len(drawn) > 1 else drawn.expand(len(uniform), *drawn.shape[1:])

    def sample(self, params: Params, noise: Tensor) -> Tensor:
        """Mean + E y."""
        mean, _, y = params
        scaled = noise * limited(self.log_std, *self.limits).exp()
        return mean + (scaled @ y.float().unsqueeze(-1)).squeeze(-1)
