"""Recurrent blocks: LSTM and GRU.

Shapes: x [T,B,in], first [T,B], every part of the state [L,B,H] (L layers, H units), y [T,B,H].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from .backbone import Backbone, BlockConfig
from .layers import Init, drop, initialise, vector_norm

Memory = tuple[Tensor, ...]  # LSTM (h, c), GRU (h,), each [L,B,H]


class RecurrentConfig(BlockConfig, frozen=True):
    """Settings of LSTM and GRU."""

    size: PositiveInt = 128
    """Units of each layer, which is also the number of features."""
    layers: PositiveInt = 1
    """Layers, each fed by the one before."""
    norm: Literal["none", "layer"] = "none"
    """Normalisation of the output; the memory is not touched."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Part of each layer's outputs set to 0 in the update, never when acting."""
    init: Init = "orthogonal"
    """Start weights: orthogonal (gain 1), xavier, kaiming, or PyTorch's default; biases 0."""
    timescale: int = Field(default=0, ge=0)
    """Steps that the gates at first remember over, at most (chrono initialisation); 0: bias 0."""


class Recurrent(Backbone):
    """What LSTM and GRU share: time runs in a fused kernel from one reset to the next."""

    parts: int  # tensors in the memory

    def __init__(
        self, kind: Callable[..., nn.RNNBase], config: RecurrentConfig, in_shape: tuple[int, ...]
    ) -> None:
        super().__init__(config, in_shape)
        between = config.dropout if config.layers > 1 else 0.0
        core = kind(in_shape[0], config.size, config.layers, dropout=between)
        self.core = initialise(core, config.init, gain=1.0)
        if config.timescale:
            self.remember(config.timescale)
        self.tail = nn.Sequential(*vector_norm(config.norm, config.size), *drop(config.dropout))
        self.out_size = config.size

    def initial_state(self, batch: int) -> Memory:
        """Zeros, [L,B,H] each."""
        shape = (self.core.num_layers, batch, self.out_size)
        weight = self.core.all_weights[0][0]
        return tuple(weight.new_zeros(shape) for _ in range(self.parts))

    def forward(self, x: Tensor, state: Memory, first: Tensor) -> tuple[Tensor, Memory]:
        """Maps x [T,B,in] to y [T,B,H]; the memory of a column is zeroed where it is `first`."""
        if len(x) == 1 and not self.training:  # acting: the cell is 1.1 to 3 times faster
            y, state = self.step(x[0], _forget(state, first[0]))
            return self.tail(y.unsqueeze(0)), state
        outputs = []
        for start, stop in _stretches(first):
            y, state = self.unroll(x[start:stop], _forget(state, first[start]))
            outputs.append(y)
        return self.tail(outputs[0] if len(outputs) == 1 else torch.cat(outputs)), state

    def unroll(self, x: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        """Runs x [T,B,in] through the kernel, no resets inside."""
        raise NotImplementedError

    def step(self, x: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        """Runs one step x [B,in] through the cells of all layers."""
        raise NotImplementedError

    def remember(self, timescale: int) -> None:
        """Sets the gates' biases so that units forget after 1 to `timescale` steps.

        "Can recurrent neural networks warp time?" by Tallec and Ollivier (2018), section 2: without
        it a gradient halves with every step back, and what lies 30 steps back is never found.
        """
        raise NotImplementedError


class LSTM(Recurrent):
    """Long short-term memory: a memory cell with input, forget and output gates."""

    class Config(RecurrentConfig, frozen=True):
        """Settings of the LSTM."""

        name: Literal["lstm"] = "lstm"
        """The word that chooses this block."""

    parts = 2

    def __init__(self, config: Config, in_shape: tuple[int, ...]) -> None:
        super().__init__(nn.LSTM, config, in_shape)

    def unroll(self, x: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        """Runs x [T,B,in] through the kernel, no resets inside."""
        with torch.autocast("cpu", enabled=False):  # some CPUs have no such kernel in bfloat16
            return self.core(x.float(), state)

    def step(self, x: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        """Runs one step x [B,in] through the cells of all layers."""
        hidden, cells = [], []
        for weights, h, c in zip(self.core.all_weights, *state, strict=True):
            x, c = torch.lstm_cell(x, (h, c), *weights)
            hidden.append(x)
            cells.append(c)
        return x, (torch.stack(hidden), torch.stack(cells))

    @torch.no_grad()
    def remember(self, timescale: int) -> None:
        """Opens the forget gate and closes the input gate alike; see `Recurrent.remember`."""
        for weights in self.core.all_weights:
            inputs, forget, _, _ = weights[2].chunk(4)
            forget.uniform_(1, max(timescale - 1, 1)).log_()
            inputs.copy_(-forget)


class GRU(Recurrent):
    """Gated recurrent unit: one memory that two gates reset and update."""

    class Config(RecurrentConfig, frozen=True):
        """Settings of the GRU."""

        name: Literal["gru"] = "gru"
        """The word that chooses this block."""

    parts = 1

    def __init__(self, config: Config, in_shape: tuple[int, ...]) -> None:
        super().__init__(nn.GRU, config, in_shape)

    def unroll(self, x: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        """Runs x [T,B,in] through the kernel, no resets inside."""
        y, h = self.core(x, state[0])
        return y, (h,)

    def step(self, x: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        """Runs one step x [B,in] through the cells of all layers."""
        hidden = []
        for weights, h in zip(self.core.all_weights, *state, strict=True):
            x = torch.gru_cell(x, h, *weights)
            hidden.append(x)
        return x, (torch.stack(hidden),)

    @torch.no_grad()
    def remember(self, timescale: int) -> None:
        """Opens the update gate, PyTorch's share of the old memory; see `Recurrent.remember`."""
        for weights in self.core.all_weights:
            weights[2].chunk(3)[1].uniform_(1, max(timescale - 1, 1)).log_()


def _forget(state: Memory, first: Tensor) -> Memory:
    """The memory [L,B,H] with zeros in the columns where first [B]; `where` also stops a NaN."""
    reset = first.unsqueeze(-1)
    return tuple(torch.where(reset, 0.0, part) for part in state)


def _stretches(first: Tensor) -> zip[tuple[int, int]]:
    """The (start, stop) rows between which no column resets; reading `first` waits for a GPU."""
    cuts = [row for row, cut in enumerate(first[1:].any(1).tolist(), start=1) if cut]
    return zip([0, *cuts], [*cuts, len(first)], strict=True)
