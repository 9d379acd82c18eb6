"""The multilayer perceptron."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from .backbone import Backbone, BlockConfig, State
from .dense import ACTIVATED, dense
from .layers import ACTIVATIONS, Activation, Init, Norm, drop, initialise, vector_norm


class _Linear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        """Maps input [..., in] to [..., out].

        The compiler takes a weight's gradient transposed if the weight lies so, which in a layer
        that widens takes half the time, see `dense`.
        """
        if not torch.compiler.is_dynamo_compiling() or self.in_features >= self.out_features:
            return super().forward(input)
        return F.linear(input, self.weight.t().contiguous().t(), self.bias)


class MLP(Backbone):
    """Fully connected layers, each with an activation; no memory."""

    class Config(BlockConfig, frozen=True):
        """Settings of the fully connected layers."""

        name: Literal["mlp"] = "mlp"
        """The word that chooses this block."""
        sizes: tuple[PositiveInt, ...] = Field(default=(64, 64), min_length=1)
        """Units of each layer, from the first to the last."""
        activation: Activation = "tanh"
        """Function after each layer: tanh, relu, elu, silu or gelu."""
        norm: Norm = "none"
        """Normalisation between a layer and its activation (PQN wants `layer`)."""
        dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
        """Part of each layer's outputs set to 0 in the update, never when acting."""
        init: Init = "orthogonal"
        """Start weights: orthogonal (gain sqrt 2), xavier, kaiming, or PyTorch's default."""

    def __init__(self, config: Config, in_shape: tuple[int, ...]) -> None:
        super().__init__(config, in_shape)
        layers: list[nn.Module] = []
        size = in_shape[0]
        for out_size in config.sizes:
            layers += [
                initialise(_Linear(size, out_size, bias=config.norm != "batch"), config.init),
                *vector_norm(config.norm, out_size),
                ACTIVATIONS[config.activation](),
                *drop(config.dropout),
            ]
            size = out_size
        self.layers = nn.Sequential(*layers)
        self.activation = config.activation
        bare = config.norm == "none" and not config.dropout and config.activation in ACTIVATED
        self.fused = list(self.layers.parameters()) if bare else []
        self.out_size = size

    def forward(self, x: Tensor, state: State, first: Tensor) -> tuple[Tensor, State]:
        """Maps x [T,B,in] to y [T,B,sizes[-1]]."""
        compiling = torch.compiler.is_compiling()  # which fuses by itself
        if self.fused and not compiling and not torch.is_autocast_enabled(x.device.type):
            return dense(x, self.fused, self.activation), state
        return self.layers(x), state
