"""Second derivatives through blocks whose backward pass is written out.

Such a backward pass computes the values of a gradient, but records no graph of the computation. The
gradient of this gradient would be wrong without an error. So the backward pass first asks whether a
second derivative is wanted.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_thread = threading.local()


def wanted() -> bool:
    """Whether, in a backward, a gradient of the gradient is wanted (`create_graph=True`)."""
    return torch.is_grad_enabled()


def gradients(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    needed: Sequence[bool],
    grad: Tensor,
) -> tuple[Tensor | None, ...]:
    """The gradients of a function by autograd, which computes the function again.

    Args:
        function: What the forward computes, in operations that autograd knows.
        inputs: Of the function; tensors that the forward saved.
        needed: For which of them there is to be a gradient.
        grad: The gradient of the function's result.

    Returns:
        For each input its gradient, which has a gradient itself, or None.
    """
    # Views: an input from which another input was made would also get the gradient of that one.
    inputs = [x.view_as(x) for x in inputs]
    chosen = [x for x, need in zip(inputs, needed, strict=True) if need]
    found = iter(torch.autograd.grad(function(*inputs), chosen, grad, create_graph=True))
    return tuple(next(found) if need else None for need in needed)


def attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Attention, fused except within `kernels`.

    Args:
        query: [H, B, T, E].
        key: [H, B, S, E].
        value: [H, B, S, E].
        bias: [H, B, T, S], added to the scores; -inf where nothing is seen.

    Returns:
        [H, B, T, E].
    """
    if not getattr(_thread, "within_kernels", False):
        return F.scaled_dot_product_attention(query, key, value, bias)
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    return (scores + bias).softmax(-1) @ value


@contextmanager
def kernels(module: nn.Module) -> Iterator[None]:
    """Context in which a module runs on kernels that have second derivatives.

    Fused attention has none, nor have cuDNN's recurrent layers. PyTorch's own switch for attention
    is shared by all threads. If two threads enter it and then leave it in the same order, fused
    attention stays off for good, and the last bits of all later results change.
    """
    recurrent = any(isinstance(layer, nn.RNNBase) for layer in module.modules())
    _thread.within_kernels = True
    try:
        with torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext():
            yield
    finally:
        _thread.within_kernels = False
