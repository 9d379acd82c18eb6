"""What the blocks share: activations, normalisation, dropout and the start values of weights."""

from __future__ import annotations

import math
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

Activation = Literal["tanh", "relu", "elu", "silu", "gelu"]
Norm = Literal["none", "layer", "batch"]
Init = Literal["orthogonal", "xavier", "kaiming", "default"]


class Tanh(nn.Module):
    """The hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        """Applies it to each number."""
        if (
            torch.compiler.is_dynamo_compiling()
        ):  # the compiler's sigmoid takes a quarter of its tanh
            return 2 * torch.sigmoid(2 * x) - 1
        return torch.tanh(x)


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}
HIDDEN_GAIN = math.sqrt(2.0)  # for every activation, as PPO's reference code does

M = TypeVar("M", bound=nn.Module)


class FoldedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of [T,B,D] over time and batch together."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalises over the first two axes."""
        return super().forward(input.flatten(0, 1)).view_as(input)


def vector_norm(norm: Norm, size: int) -> list[nn.Module]:
    """The layer that normalises [T,B,size], in a list; no layer for `none`."""
    if norm == "none":
        return []
    return [nn.LayerNorm(size) if norm == "layer" else FoldedBatchNorm(size)]


def image_norm(norm: Norm, channels: int) -> list[nn.Module]:
    """The layer that normalises [N,channels,H,W], in a list; no layer for `none`.

    `layer` has its statistics over channels and pixels and a scale per channel (one group).
    """
    if norm == "none":
        return []
    return [nn.GroupNorm(1, channels) if norm == "layer" else nn.BatchNorm2d(channels)]


def drop(dropout: float) -> list[nn.Module]:
    """The dropout layer in a list; no layer for 0."""
    return [nn.Dropout(dropout)] if dropout else []


def initialise(layer: M, init: Init, gain: float = HIDDEN_GAIN) -> M:
    """Sets the start weights of a layer, each matrix by itself, and its biases to 0.

    `default` leaves PyTorch's own values. Orthogonal with gain sqrt(2): "The 37 Implementation
    Details of Proximal Policy Optimization" by Huang et al. (2022).
    """
    if init == "default":
        return layer
    for parameter in layer.parameters():
        if parameter.ndim == 1:
            nn.init.zeros_(parameter)
        elif init == "orthogonal":
            nn.init.orthogonal_(parameter, gain)
        elif init == "xavier":
            nn.init.xavier_uniform_(parameter, gain)
        else:
            nn.init.kaiming_uniform_(parameter, nonlinearity="relu")
    return layer
