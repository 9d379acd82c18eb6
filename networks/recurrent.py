"""What the recurrent blocks share: settings, layers, and resets within a sequence.

Shapes: x [T,B,in], first [T,B], every part of the state [L,B,H] (L layers, H units), y [T,B,H].

PyTorch's kernels know no resets, and each call takes 0.5 ms, even a short one. So a sequence is not
cut at its resets. Instead a reset becomes a step of its own before the episode's first one: an
additional input, 1 in that step and 0 in all others, shuts the gates, so that the memory becomes 0.
Each layer runs over all T steps at once; columns without resets run apart from the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from .backbone import Backbone, BlockConfig
from .layers import Init, drop, initialise, vector_norm

Memory = tuple[Tensor, ...]  # LSTM (h, c), GRU (h,), each [L,B,H]
SHUT = -1e30  # its sigmoid is exactly 0, whatever else a gate adds up


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
    """Most steps that the gates remember at the start (chrono initialisation); 0: biases 0."""


class Recurrent(Backbone):
    """What LSTM and GRU share: layers over all T steps, resets included."""

    packed: ClassVar[tuple[str, ...]] = ("core",)
    """Names of the layers whose output rows form several groups, here gates."""
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
        state = _forget(state, first[0])
        if len(x) == 1 and not self.training:  # acting: the cell is 1.1 to 3 times faster
            y, state = self.step(x[0], state)
            return self.tail(y.unsqueeze(0)), state
        y, state = self.unroll(x, state, first)
        return self.tail(y), state

    def unroll(self, x: Tensor, state: Memory, first: Tensor) -> tuple[Tensor, Memory]:
        """Runs x [T,B,in] from the memory before it; row 0 of `first` [T,B] is ignored.

        Reading `first` waits for a GPU.
        """
        resets = first[1:].any(0)
        whole, cut = (~resets).nonzero().squeeze(1), resets.nonzero().squeeze(1)
        if not len(cut):
            return self._run(x, state)
        if not len(whole):
            return self._run_cut(x, state, first)
        y, after = self._run(x[:, whole], tuple(part[:, whole] for part in state))
        before = tuple(part[:, cut] for part in state)
        y_cut, after_cut = self._run_cut(x[:, cut], before, first[:, cut])
        order = torch.cat((whole, cut)).argsort()
        pairs = zip((y, *after), (y_cut, *after_cut), strict=True)
        y, *after = (torch.cat(pair, 1)[:, order] for pair in pairs)
        return y, tuple(after)

    def _run_cut(self, x: Tensor, state: Memory, first: Tensor) -> tuple[Tensor, Memory]:
        """Runs columns that all have resets after row 0."""
        place = _places(first)
        length = int(place[-1, 0]) + 1  # all columns end together
        rows = x.new_zeros(length, *x.shape[1:]).scatter(0, place.expand_as(x), x)
        resets = x.new_ones(length, x.shape[1], 1).scatter(0, place, 0.0)
        y, state = self._run(rows, state, resets)
        return y.gather(0, place.expand(*x.shape[:2], self.out_size)), state

    def _run(self, x: Tensor, state: Memory, resets: Tensor | None = None) -> tuple[Tensor, Memory]:
        """Runs x [T,B,in] through all layers; where `resets` [T,B,1] is 1, x is 0."""
        after = []
        for number, parameters in enumerate(self.core.all_weights):
            weights: list[Tensor] = [*parameters]
            if number:
                x = F.dropout(x, self.core.dropout, self.training)
            if resets is not None:
                weights[0] = torch.cat((weights[0], self.shutters(weights[2])), 1)
                x = torch.cat((x, resets), -1)
            x, layer = self.kernel(x, tuple(part[number, None] for part in state), weights)
            after.append(layer)
        return x, tuple(torch.cat(parts) for parts in zip(*after, strict=True))

    @property
    def differentiated(self) -> bool:
        """Whether PyTorch's kernels must save what their backward pass needs.

        In eval mode they save nothing. But a frozen layer is in eval mode, and gradients flow
        through it if layers below it learn.
        """
        return self.training or torch.is_grad_enabled()

    def kernel(self, x: Tensor, state: Memory, weights: list[Tensor]) -> tuple[Tensor, Memory]:
        """Runs x [T,B,*] through one layer with the weights given; state [1,B,H]."""
        raise NotImplementedError

    def shutters(self, bias: Tensor) -> Tensor:
        """The weights [G*H,1] of the additional input, which sets the memory to 0 where it is 1.

        Args:
            bias: [G*H] of a layer's inputs.
        """
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


def _forget(state: Memory, first: Tensor) -> Memory:
    """The memory [L,B,H], set to 0 in the columns where `first` [B] is true."""
    reset = first.unsqueeze(-1)
    return tuple(torch.where(reset, 0.0, part) for part in state)


def _places(first: Tensor) -> Tensor:
    """The row [T,B,1] of each step after an extra row was put before each reset.

    A reset is a row with `first` [T,B], except row 0. A column with fewer resets than others gets
    more extra rows before its first reset, so that all columns end in the same row.
    """
    resets = first.cumsum(0) - first[0].long()
    spare = (resets[-1].max() - resets[-1]) * (resets > 0)
    steps = torch.arange(len(first), device=first.device).unsqueeze(1)
    return (steps + resets + spare).unsqueeze(-1)
