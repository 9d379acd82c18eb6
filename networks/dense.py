"""Stacks of fully connected layers with their backward written out.

PyTorch's record of one layer is three operations, each with Python and a node of its own; in small
networks that takes longer than the products. Here a whole stack is one node of the fewest
operations. They compute what `nn.Linear` and the activation do, rounded otherwise in the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

MANY_ROWS = 32
"""From which on arithmetic takes longer than one more operation."""


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Maps x [N,in] by weight [out,in] and bias [out].

    Of few rows the sum is made apart: `addmm` has more code, which is cold after each step of an
    environment, so that its three layers take 36 us of an act and these 25.
    """
    if len(x) < MANY_ROWS:
        return torch.add(torch.mm(x, weight.t()), bias)
    return torch.addmm(bias, x, weight.t())


def _tanh(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """1 - 2 sigmoid(-2z), to 1e-7: of many rows a quarter of tanh's time on some processors."""
    if len(x) < MANY_ROWS:
        return torch.tanh(affine(x, weight, bias))
    negated = torch.addmm(bias, x, weight.t(), beta=-2, alpha=-2)
    return torch.rsub(negated.sigmoid_(), 1, alpha=2)


def _relu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return affine(x, weight, bias).relu_()


Forward = Callable[[Tensor, Tensor, Tensor], Tensor]
Backward = Callable[[Tensor, Tensor], Tensor]  # of the gradient and the output
ACTIVATED: dict[str, tuple[Forward, Backward]] = {
    "tanh": (_tanh, torch.ops.aten.tanh_backward.default),
    "relu": (_relu, lambda grad, y: torch.ops.aten.threshold_backward.default(grad, y, 0)),
}


def dense(x: Tensor, parameters: Sequence[Tensor], activation: str) -> Tensor:
    """Maps x [*,in] through layers with an activation each.

    Args:
        x: [*,in].
        parameters: Weight [out,in] and bias [out] of each layer, in turn.
        activation: One of `ACTIVATED`.
    """
    rows = x.reshape(-1, x.shape[-1])
    if torch.is_grad_enabled():
        y = _Dense.apply(rows, activation, *parameters)
    else:
        y = _forward(rows, activation, parameters)[-1]
    return y.view(*x.shape[:-1], y.shape[-1])  # not -1: a learner's share may be empty


def _forward(x: Tensor, activation: str, parameters: Sequence[Tensor]) -> list[Tensor]:
    """The input of the first layer and the output of each."""
    layer, outputs = ACTIVATED[activation][0], [x]
    for i in range(0, len(parameters), 2):
        x = layer(x, parameters[i], parameters[i + 1])
        outputs.append(x)
    return outputs


class _Dense(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, activation: str, *parameters: Tensor) -> Tensor:
        outputs = _forward(x, activation, parameters)
        ctx.activation = activation
        ctx.save_for_backward(*outputs, *parameters[::2])
        return outputs[-1]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        saved, derivative = ctx.saved_tensors, ACTIVATED[ctx.activation][1]
        count = len(saved) // 2
        grads: list[Tensor] = []  # of the last parameter first
        for i in reversed(range(count)):
            x, y, weight = saved[i], saved[i + 1], saved[count + 1 + i]
            grad = derivative(grad, y)
            grads += [grad.sum(0), _outer(grad, x)]
            if i or ctx.needs_input_grad[0]:
                grad = grad.mm(weight)
        return grad if ctx.needs_input_grad[0] else None, None, *reversed(grads)


def _outer(grad: Tensor, x: Tensor) -> Tensor:
    """The gradient [out,in] of a weight; of a narrow input, a third of the time transposed."""
    if x.shape[1] < grad.shape[1]:
        return x.t().mm(grad).t()
    return grad.t().mm(x)
