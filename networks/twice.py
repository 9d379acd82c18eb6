"""Gradients of gradients, where a backward is written out.

Such a backward makes the numbers of a gradient, but no graph of how they came about; its own
gradient would be wrong without an error. So it asks first whether one is wanted.
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
    # Views, lest an input of which another one was made has the gradient of that one as well.
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
    """Within it a module is computed by kernels whose gradients have gradients.

    Fused attention has none, and neither have cuDNN's recurrent layers. PyTorch's own switch of
    attention is one for all threads: two that leave it in the order in which they came turn fused
    attention off for good, and with it the last bits of everything that the process computes then.
    """
    recurrent = any(isinstance(layer, nn.RNNBase) for layer in module.modules())
    _thread.within_kernels = True
    try:
        with torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext():
            yield
    finally:
        _thread.within_kernels = False
