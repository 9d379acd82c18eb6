"""Stacks of fully connected layers with their backward written out.

For one layer autograd records three operations, each with Python and a node of its own. In small
networks that takes longer than the matrix products. Here a whole stack of layers is one node with
few operations. The results are those of `nn.Linear` and the activation, up to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from . import products, twice
from .products import is_large, linear, outer, product

MANY_ROWS = 32
"""With so many rows the arithmetic takes longer than the overhead of one more operation."""


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Maps x [N,in] by weight [out,in] and bias [out].

    For few rows the sum is an operation of its own: the code of `addmm` is larger, and after each
    step of an environment it is no longer in the CPU's cache. Three layers take 36 us of acting
    with `addmm` and 25 us so.
    """
    if x.shape[0] < MANY_ROWS:  # `len(x)` would make the batch a constant of an exported graph
        return torch.add(torch.mm(x, weight.t()), bias)
    if is_large(x, weight.shape[0]):
        return products.affine(x, weight, bias)
    return torch.addmm(bias, x, weight.t())


def float32_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear map that stays in float32 where autocast has made x less precise."""
    kind = x.device.type
    if not torch.is_autocast_enabled(kind):
        return affine(x, weight, bias) if x.ndim == 2 else linear(x, weight, bias)
    with torch.autocast(kind, enabled=False):
        return F.linear(x.float(), weight, bias)


def _tanh(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Tanh; for many rows as 1 - 2 sigmoid(-2z), equal to 1e-7: up to four times as fast."""
    if x.shape[0] < MANY_ROWS:
        return torch.tanh(affine(x, weight, bias))
    if is_large(x, weight.shape[0]):
        negated = products.affine(x, weight, bias).mul_(-2)
    else:
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
        ctx.save_for_backward(*outputs, *parameters)
        return outputs[-1]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        saved, derivative = ctx.saved_tensors, ACTIVATED[ctx.activation][1]
        count = len(saved) // 3
        outputs, parameters = saved[: count + 1], saved[count + 1 :]
        if twice.wanted():
            x_needed, _, *needed = ctx.needs_input_grad

            def plain(x: Tensor, *parameters: Tensor) -> Tensor:
                return _forward(x, ctx.activation, parameters)[-1]

            inputs = (outputs[0], *parameters)
            of_x, *others = twice.gradients(plain, inputs, (x_needed, *needed), grad)
            return of_x, None, *others
        grads: list[Tensor] = []  # of the last parameter first
        for i in reversed(range(count)):
            x, y, weight = outputs[i], outputs[i + 1], parameters[2 * i]
            grad = derivative(grad, y)
            grads += [grad.sum(0), outer(grad, x)]
            if i or ctx.needs_input_grad[0]:
                grad = product(grad, weight)
        return grad if ctx.needs_input_grad[0] else None, None, *reversed(grads)
