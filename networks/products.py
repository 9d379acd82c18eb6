"""Matrix products by the faster of PyTorch's two libraries.

PyTorch multiplies float32 matrices with Intel's MKL, which does not use AVX-512 on the processors
of others. oneDNN, with which it computes convolutions, does: twice as fast on an AMD EPYC (Zen 5)
from 2 million multiplications on, and slower for small products (`python benchmarks/products.py`).
So on such a processor large products go there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from . import twice

LARGE = 2**21
"""Multiplications from which on oneDNN is faster."""

# An operator of its own: the compiler takes oneDNN's only with weights that never change.
_library = torch.library.Library("neuraxis", "DEF")
_library.define("affine(Tensor x, Tensor weight, Tensor? bias) -> Tensor")


@torch.library.impl(_library, "affine", "CPU")
def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@torch.library.register_fake("neuraxis::affine")
def _shape(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


def _helps() -> bool:
    """Whether MKL leaves half of this processor unused."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()):
        return False
    told = Path("/proc/cpuinfo")
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return wide and told.exists() and "GenuineIntel" not in told.read_text()


ONEDNN = _helps()


def is_large(x: Tensor, outputs: int) -> bool:
    """Whether the product of x [N,K] with [K,outputs] goes to oneDNN."""
    return (
        ONEDNN
        and x.shape[0] * x.shape[1] * outputs >= LARGE
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_exporting()
    )


def affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Maps x [N,in], of which `is_large` holds, by weight [out,in] and bias [out]."""
    if torch.is_grad_enabled():
        return _Affine.apply(x, weight, bias)
    return torch.ops.neuraxis.affine(x, weight, bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Maps x [*,in] to [*,out], as `torch.nn.functional.linear` does."""
    rows = x.reshape(-1, x.shape[-1])
    if not is_large(rows, weight.shape[0]):
        return F.linear(x, weight, bias)
    return affine(rows, weight, bias).view(*x.shape[:-1], weight.shape[0])


def product(a: Tensor, b: Tensor) -> Tensor:
    """A [N,K] times b [K,M]; no gradients flow through it."""
    return torch.ops.neuraxis.affine(a, b.t(), None) if is_large(a, b.shape[1]) else a.mm(b)


def outer(grad: Tensor, x: Tensor) -> Tensor:
    """Grad [N,out] transposed times x [N,in]: the gradient [out,in] of a weight.

    For few inputs the transposed product is faster (3x).
    """
    if x.shape[1] < grad.shape[1]:
        return product(x.t(), grad).t()
    return product(grad.t(), x)


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        return affine(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), (x, weight, bias) = grad_outputs, ctx.saved_tensors
        needed = ctx.needs_input_grad
        if twice.wanted():
            given = (x, weight) if bias is None else (x, weight, bias)
            found = twice.gradients(F.linear, given, needed[: len(given)], grad)
            return *found, *[None] * (3 - len(given))
        return (
            product(grad, weight) if needed[0] else None,
            outer(grad, x) if needed[1] else None,
            grad.sum(0) if needed[2] else None,
        )
