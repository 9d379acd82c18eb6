"""The multilayer perceptron."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from .backbone import Backbone, BlockConfig, State
from .dense import ACTIVATED, dense
from .layers import ACTIVATIONS, Activation, Init, Linear, Norm, drop, initialise, vector_norm
from .weight_norm import WeightNorm, normed


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
        norm_inputs: bool = False
        """Normalise the inputs of each layer and the features instead, as CrossQ does."""
        weight_norm: WeightNorm = "none"
        """Normalisation of each layer's weights: spectral (the largest singular value becomes 1) or
        weight (direction and length of each row are learned apart)."""
        dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
        """Part of each layer's outputs set to 0 in the update, never when acting."""
        init: Init = "orthogonal"
        """Start weights: orthogonal (gain sqrt 2), xavier, kaiming, or PyTorch's default."""

        @model_validator(mode="after")
        def _norm_of_inputs(self) -> MLP.Config:
            if self.norm_inputs and self.norm == "none":
                raise ValueError("norm_inputs=true: expected a norm: layer, batch or batch_renorm")
            return self

    def __init__(self, config: Config, in_shape: tuple[int, ...]) -> None:
        super().__init__(config, in_shape)
        size, before, weight_norm = in_shape[0], config.norm_inputs, config.weight_norm
        layers = vector_norm(config.norm, size) if before else []
        for out_size in config.sizes:
            bias = before or not config.norm.startswith("batch")
            norm, activation = vector_norm(config.norm, out_size), ACTIVATIONS[config.activation]()
            layers += [
                normed(initialise(Linear(size, out_size, bias=bias), config.init), weight_norm),
                *([activation, *norm] if before else [*norm, activation]),
                *drop(config.dropout),
            ]
            size = out_size
        self.layers = nn.Sequential(*layers)
        self.activation = config.activation
        self.linears = [layer for layer in self.layers if isinstance(layer, nn.Linear)]
        bare = config.norm == weight_norm == "none" and not config.dropout
        self.fused = bare and config.activation in ACTIVATED
        self.out_size = size

    def forward(self, x: Tensor, state: State, first: Tensor) -> tuple[Tensor, State]:
        """Maps x [T,B,in] to y [T,B,sizes[-1]]."""
        if self.fused and not torch.is_autocast_enabled(x.device.type):
            # Looked up in each call, because `functional_call` replaces the parameters.
            weights = [w for layer in self.linears for w in (layer.weight, layer.bias)]
            return dense(x, weights, self.activation), state
        return self.layers(x), state
