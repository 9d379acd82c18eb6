"""Layers whose weights are normalised where they are used: by spectral or by weight normalisation.

An update computes what acting computes: there is no state that `train()` changes, so ratios of
probabilities begin at 1, and updates can be recorded and compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import products

WeightNorm = Literal["none", "spectral", "weight"]
ITERATIONS = 30
"""Power iterations at the start."""
LEAST = 1e-12
"""The least number to divide by."""

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


class Spectral(nn.Module):
    """Divides a weight [out,*] by its largest singular value: |W x| is at most |x|.

    "Spectral normalization for generative adversarial networks" by Miyato et al. (2018). The
    singular vectors u [out] and v [in] are constants of the gradient.

    Deviation: they follow the weight after each step of the optimizer, by one power iteration, and
    not in each forward pass.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        rows = weight.detach().flatten(1)
        self.u: Tensor
        self.v: Tensor
        self.register_buffer("u", torch.randn(rows.shape[0]))
        self.register_buffer("v", torch.zeros(rows.shape[1]))
        self.begin(rows)

    def begin(self, weight: Tensor) -> None:
        """Finds the singular vectors of a weight [out,*] that was replaced."""
        for _ in range(ITERATIONS):
            self.follow(weight)

    def forward(self, weight: Tensor) -> Tensor:
        """Maps a weight [out,*] to the same shape."""
        value = (weight.flatten(1) * torch.outer(self.u, self.v)).sum()
        return weight / value.clamp(min=LEAST)

    @torch.no_grad()
    def follow(self, weight: Tensor) -> None:
        """Turns u and v towards the singular vectors of a weight [out,*]."""
        rows = weight.flatten(1)  # sums, as autocast would make a product less precise
        self.v.copy_(F.normalize((rows * self.u[:, None]).sum(0), dim=0, eps=LEAST))
        self.u.copy_(F.normalize((rows * self.v).sum(1), dim=0, eps=LEAST))


class Scaled(nn.Module):
    """Makes of each row of a weight [out,*] its direction times a length that is learned apart.

    "Weight normalization" by Salimans and Kingma (2016). Lengths begin as they are, so that nothing
    changes at the start.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(weight.detach().flatten(1).norm(dim=1))

    @torch.no_grad()
    def begin(self, weight: Tensor) -> None:
        """Takes over the lengths of a weight [out,*] that was replaced."""
        self.scale.copy_(weight.flatten(1).norm(dim=1))

    def forward(self, weight: Tensor) -> Tensor:
        """Maps a weight [out,*] to the same shape."""
        factor = self.scale / weight.flatten(1).norm(dim=1).clamp(min=LEAST)
        return weight * factor.view(-1, *[1] * (weight.ndim - 1))


class NormedLinear(nn.Linear):
    """A linear layer with a norm of its weight."""

    norm: Spectral | Scaled

    def forward(self, input: Tensor) -> Tensor:
        """Maps input [...,in] to [...,out]."""
        return products.linear(input, self.norm(self.weight), self.bias)


class NormedConv2d(nn.Conv2d):
    """A convolution with a norm of its weight."""

    norm: Spectral | Scaled

    def forward(self, input: Tensor) -> Tensor:
        """Maps input [N,C,H,W] to [N,C',H',W']."""
        return self._conv_forward(input, self.norm(self.weight), self.bias)


def normed(layer: Layer, norm: WeightNorm) -> Layer:
    """The layer, which has its start weights, with a norm of its weight; as it is for `none`."""
    if norm == "none":
        return layer
    layer.add_module("norm", (Spectral if norm == "spectral" else Scaled)(layer.weight))
    if isinstance(layer, nn.Linear):
        layer.__class__ = NormedLinear
    else:
        layer.__class__ = NormedConv2d
    return layer


def followers(module: nn.Module) -> list[Callable[[], None]]:
    """The functions to call after each step of the optimizer: they follow the changed weights."""
    return [
        partial(_follow, layer, layer.norm)
        for layer in module.modules()
        if isinstance(layer, NormedLinear | NormedConv2d) and isinstance(layer.norm, Spectral)
    ]


def _follow(layer: NormedLinear | NormedConv2d, norm: Spectral) -> None:
    if layer.weight.requires_grad:  # what is frozen stays as it is
        norm.follow(layer.weight)
