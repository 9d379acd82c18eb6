"""What the blocks share: activations, normalisation, dropout and the start values of weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .dense import affine

Activation = Literal["tanh", "relu", "elu", "silu", "gelu"]
Norm = Literal["none", "layer", "batch"]
Init = Literal["orthogonal", "xavier", "kaiming", "default"]


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}
HIDDEN_GAIN = math.sqrt(2.0)  # for every activation, as PPO's reference code does

M = TypeVar("M", bound=nn.Module)


class BatchStatistics(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation whose statistics are of a minibatch that may be shared by learners."""

    total: Callable[[Tensor], Tensor] | None = None
    """Sums over all learners, gradients included; None: this one sees the whole minibatch."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalises each channel of [N,C,*]."""
        if self.total is None or not self.training:
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(input.ndim)]
        size = input.new_full((1,), input.numel() // input.shape[1])
        *_, count = totals = self.total(torch.cat((input.sum(axes), size)))
        mean = totals[:-1] / count
        centred = input - mean.view(shape)
        variance = self.total(centred.square().sum(axes)) / count
        self._remember(mean, variance * (count / (count - 1).clamp(min=1)))
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Moves the running statistics towards those of the minibatch, as PyTorch does."""
        assert self.running_mean is not None and self.running_var is not None
        assert self.momentum is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class ImageBatchNorm(BatchStatistics, nn.BatchNorm2d):
    """Batch normalisation of [N,C,H,W]."""


class FoldedBatchNorm(BatchStatistics, nn.BatchNorm1d):
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
    return [nn.GroupNorm(1, channels) if norm == "layer" else ImageBatchNorm(channels)]


def float32_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear map that stays in float32 where autocast has made x less precise."""
    kind = x.device.type
    if not torch.is_autocast_enabled(kind):
        return affine(x, weight, bias) if x.ndim == 2 else F.linear(x, weight, bias)
    with torch.autocast(kind, enabled=False):
        return F.linear(x.float(), weight, bias)


class Float32Linear(nn.Linear):
    """A last layer: distributions and values need all digits of float32."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps input [..., in] to [..., out]."""
        return float32_linear(input, self.weight, self.bias)


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
