"""Gradients of gradients, where a backward is written out.

Such a backward makes the numbers of a gradient, but no graph of how they came about; its own
gradient would be wrong without an error. So it asks first whether one is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


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


@contextmanager
def kernels(module: nn.Module) -> Iterator[None]:
    """Within it PyTorch computes a module by kernels whose gradients have gradients.

    Its fused attention has none, and neither have cuDNN's recurrent layers.
    """
    recurrent = any(isinstance(layer, nn.RNNBase) for layer in module.modules())
    cudnn = torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()
    with sdpa_kernel(SDPBackend.MATH), cudnn:
        yield
