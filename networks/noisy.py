"""Noisy linear layers: exploration as a part of the weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .dense import float32_linear


class NoisyLinear(nn.Module):
    """A linear layer with factorised Gaussian noise on its weights.

    "Noisy networks for exploration" by Fortunato et al. (2018), section 3.

    The noise is two buffers, so it travels with the weights to every worker and all columns act on
    the same sample. `resample` draws a new one; a fresh or greedy layer has none.

    Args:
        in_size: Inputs.
        out_size: Outputs.
        sigma: Initial deviation, before division by sqrt(in_size).
    """

    def __init__(self, in_size: int, out_size: int, sigma: float = 0.5) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_size)
        self.weight = nn.Parameter(torch.empty(out_size, in_size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_size).uniform_(-bound, bound))
        self.weight_sigma = nn.Parameter(torch.full((out_size, in_size), sigma * bound))
        self.bias_sigma = nn.Parameter(torch.full((out_size,), sigma * bound))
        self.noise_in: Tensor
        self.noise_out: Tensor
        self.register_buffer("noise_in", torch.zeros(in_size))
        self.register_buffer("noise_out", torch.zeros(out_size))

    def forward(self, x: Tensor, noisy: bool = True) -> Tensor:
        """Maps x [..., in_size] to [..., out_size]; without the noise when `noisy` is False."""
        if not noisy:
            return float32_linear(x, self.weight, self.bias)
        noise = torch.outer(self.noise_out, self.noise_in)
        weight = torch.addcmul(self.weight, self.weight_sigma, noise)
        return float32_linear(x, weight, self.bias + self.bias_sigma * self.noise_out)

    def resample(self) -> None:
        """Draws new noise, f(x) = sign(x) sqrt|x| of standard normals, from torch's generator."""
        for noise in (self.noise_in, self.noise_out):
            normal = torch.randn(noise.shape).to(noise.device)
            noise.copy_(normal.sign() * normal.abs().sqrt())
