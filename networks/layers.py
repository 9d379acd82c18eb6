"""What the blocks share: activations, normalisation, dropout and the start values of weights."""

from __future__ import annotations

import math
from typing import Literal, TypeVar

from torch import Tensor, nn

from . import products
from .batch_norm import BatchRenorm, FoldedBatchNorm, FoldedBatchRenorm, ImageBatchNorm
from .dense import float32_linear
from .noisy import NoisyLinear

Activation = Literal["tanh", "relu", "elu", "silu", "gelu"]
Norm = Literal["none", "layer", "batch", "batch_renorm"]
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


def vector_norm(norm: Norm, size: int) -> list[nn.Module]:
    """The layer that normalises [T,B,size], in a list; no layer for `none`."""
    if norm == "none":
        return []
    kinds = {"layer": nn.LayerNorm, "batch": FoldedBatchNorm, "batch_renorm": FoldedBatchRenorm}
    return [kinds[norm](size)]


def image_norm(norm: Norm, channels: int) -> list[nn.Module]:
    """The layer that normalises [N,channels,H,W], in a list; no layer for `none`.

    `layer` has its statistics over channels and pixels and a scale per channel (one group).
    """
    if norm == "none":
        return []
    if norm == "layer":
        return [nn.GroupNorm(1, channels)]
    return [ImageBatchNorm(channels) if norm == "batch" else BatchRenorm(channels)]


class Linear(nn.Linear):
    """PyTorch's linear layer, by the faster library; see `products`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps input [..., in] to [..., out]."""
        return products.linear(input, self.weight, self.bias)


class Float32Linear(nn.Linear):
    """A linear layer that stays in float32: distributions and values need all of its digits."""

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


def linear(in_size: int, out_size: int, gain: float) -> Float32Linear:
    """A last layer: in float32, with orthogonal weights and zero bias."""
    return initialise(Float32Linear(in_size, out_size), "orthogonal", gain)


def decayed_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The weight matrices of linear, convolutional and recurrent layers: those decay.

    Biases, scales of norms, deviations (also of noisy layers) and position biases do not decay.
    """
    layers = nn.Linear | nn.modules.conv._ConvNd | nn.RNNBase | NoisyLinear
    return [
        parameter
        for layer in module.modules()
        if isinstance(layer, layers)
        for name, parameter in layer.named_parameters(recurse=False)
        if name == "weight" or name.startswith(("weight_ih_", "weight_hh_"))
    ]
