"""The GRU block, its layer with the backward written out; shapes as in `recurrent`.

PyTorch has no fused GRU on the CPU: a step takes a dozen operations and as many autograd nodes,
230 us at 64 units. Here it takes six operations forward and three backward. What does not depend on
the step before or after (products with the input, the gradients of the weights, most derivatives)
is one operation over all steps.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from . import twice
from .products import linear, product
from .recurrent import SHUT, Memory, Recurrent, RecurrentConfig


class GRU(Recurrent):
    """Gated recurrent unit: one memory that two gates reset and update."""

    class Config(RecurrentConfig, frozen=True):
        """Settings of the GRU."""

        name: Literal["gru"] = "gru"
        """The word that chooses this block."""

    parts = 1

    def __init__(self, config: Config, in_shape: tuple[int, ...]) -> None:
        super().__init__(nn.GRU, config, in_shape)

    def kernel(self, x: Tensor, state: Memory, weights: list[Tensor]) -> tuple[Tensor, Memory]:
        """See `Recurrent.kernel`."""
        if x.device.type == "cpu":
            y = GRULayer.apply(x, state[0][0], *weights)
            return y, (y[-1:],)
        y, h = torch.gru(x, state[0], weights, True, 1, 0.0, self.differentiated, False, False)
        return y, (h,)

    def shutters(self, bias: Tensor) -> Tensor:
        """Shuts both gates and subtracts the candidate's bias: its gradient cancels as well."""
        gates = bias.new_full((2 * self.out_size,), SHUT)
        return torch.cat((gates, -bias[2 * self.out_size :])).unsqueeze(1)

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


class GRULayer(torch.autograd.Function):
    """Outputs y [T,B,H] of a GRU layer for x [T,B,I] after h [B,H]; weights as in `nn.GRU`.

    r, z = sigmoid(x W + b + h U + c);  n = tanh(x W + b + r (h U + c));  h' = n + z (h - n)
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: Any, x: Tensor, h: Tensor, w: Tensor, u: Tensor, b: Tensor, c: Tensor
    ) -> Tensor:
        """Runs the steps; w [3H,I], u [3H,H], b and c [3H], in the order r, z, n."""
        size, transposed, start = h.shape[1], u.t(), h
        gates = linear(x, w, b)
        hidden, outputs = torch.empty_like(gates), x.new_empty(*x.shape[:2], size)
        rz, n = gates.split((2 * size, size), -1)
        hidden_rz, hidden_n = hidden.split((2 * size, size), -1)
        parts = gates[..., :size], gates[..., size : 2 * size], rz, n, hidden, hidden_rz, hidden_n
        steps = zip(*(part.unbind(0) for part in (*parts, outputs)), strict=True)
        for r_t, z_t, rz_t, n_t, hidden_t, hidden_rz_t, hidden_n_t, y_t in steps:
            torch.addmm(c, h, transposed, out=hidden_t)
            rz_t.add_(hidden_rz_t).sigmoid_()
            n_t.addcmul_(r_t, hidden_n_t).tanh_()
            h = torch.lerp(n_t, h, z_t, out=y_t)
        ctx.save_for_backward(x, start, w, u, b, c, gates, hidden_n, outputs)
        return outputs

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, h, w, u, b and c."""
        x, start, w, u, b, c, gates, hidden_n, outputs = ctx.saved_tensors
        if twice.wanted():
            inputs = x, start, w, u, b, c
            return twice.gradients(_gru, inputs, ctx.needs_input_grad, grad_outputs[0])
        r, z, n = gates.chunk(3, -1)
        before = torch.cat((start.unsqueeze(0), outputs[:-1]))
        # The derivatives of h' by the inputs of the sigmoids r and z, and by the hidden part of n.
        slope_n = (1 - z) * (1 - n * n)
        slopes = torch.stack(
            (slope_n * hidden_n * r * (1 - r), (before - n) * z * (1 - z), slope_n * r), 2
        )
        grad = torch.cat((torch.zeros_like(before[:1]), grad_outputs[0]))  # of h, then of y
        inner = torch.empty_like(gates)
        each = grad[:-1], grad[1:], z, inner, grad[1:].unsqueeze(2), slopes, inner.view_as(slopes)
        steps = zip(*(part.unbind(0)[::-1] for part in each), strict=True)
        for before_t, grad_t, z_t, inner_t, wide_t, slopes_t, parts_t in steps:
            torch.mul(wide_t, slopes_t, out=parts_t)
            before_t.addmm_(inner_t, u).addcmul_(grad_t, z_t)
        rows = inner.flatten(0, 1)
        grad_u, grad_c = product(rows.t(), before.flatten(0, 1)), rows.sum(0)
        inner_n = inner[..., 2 * start.shape[1] :]  # so far of the hidden part
        torch.mul(grad[1:], slope_n, out=inner_n)
        grad_x = product(rows, w).view_as(x) if ctx.needs_input_grad[0] else None
        return grad_x, grad[0], product(rows.t(), x.flatten(0, 1)), grad_u, rows.sum(0), grad_c


def _gru(x: Tensor, h: Tensor, *weights: Tensor) -> Tensor:
    """`GRULayer` in PyTorch's operations."""
    return torch.gru(x, h[None], weights, True, 1, 0.0, False, False, False)[0]
