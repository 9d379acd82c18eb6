"""The LSTM block; shapes as in `recurrent`."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from .recurrent import SHUT, Memory, Recurrent, RecurrentConfig


class LSTM(Recurrent):
    """Long short-term memory: a memory cell with input, forget and output gates."""

    class Config(RecurrentConfig, frozen=True):
        """Settings of the LSTM."""

        name: Literal["lstm"] = "lstm"
        """The word that chooses this block."""

    parts = 2

    def __init__(self, config: Config, in_shape: tuple[int, ...]) -> None:
        super().__init__(nn.LSTM, config, in_shape)

    def kernel(self, x: Tensor, state: Memory, weights: list[Tensor]) -> tuple[Tensor, Memory]:
        """See `Recurrent.kernel`."""
        with torch.autocast("cpu", enabled=False):  # some CPUs have no such kernel in bfloat16
            x = x.float()
            y, *after = torch.lstm(
                x, state, weights, True, 1, 0.0, self.differentiated, False, False
            )
        return y, tuple(after)

    def shutters(self, bias: Tensor) -> Tensor:
        """Shuts all gates; the candidate does not matter, because the input gate is shut."""
        return bias.new_full((4 * self.out_size, 1), SHUT)

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
