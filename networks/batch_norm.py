"""Batch normalisation and batch renormalisation, over rows that may be masked or shared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BatchStatistics(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over a minibatch that several learners may share."""

    total: Callable[[Tensor], Tensor] | None = None
    """Sums over all learners, with gradients; None: this learner has the whole minibatch."""
    counted: Tensor | None = None
    """[N]: 1 for the rows that statistics are made of, 0 for others; None: all; see `counting`."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalises each channel of [N,C,*]."""
        if not self.training or (self.total is None and self.counted is None):
            return super().forward(input)
        centred, mean, variance, count = self._moments(input)
        self._remember(mean, variance * (count / (count - 1).clamp(min=1)))
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * _beside(scale, input) + _beside(self.bias, input)

    def _moments(self, input: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Input minus mean; mean and biased variance [C] of the rows that count; their number."""
        axes = [axis for axis in range(input.ndim) if axis != 1]
        input = input.float()  # a sum needs all digits
        size = input.new_full((1,), input.numel() // input.shape[1])
        if self.counted is not None:
            size = (self.counted.sum() * input[0, 0].numel())[None]

        def total(x: Tensor) -> Tensor:
            if self.counted is not None:
                x = x * self.counted.view(-1, *[1] * (input.ndim - 1))
            return x.sum(axes)

        totals = self._over_learners(torch.cat((total(input), size)))
        count = totals[-1].clamp(min=1)
        mean = totals[:-1] / count
        centred = input - _beside(mean, input)
        return centred, mean, self._over_learners(total(centred.square())) / count, count

    def _over_learners(self, x: Tensor) -> Tensor:
        return x if self.total is None else self.total(x)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Moves the running statistics towards those of the minibatch, as PyTorch does."""
        assert self.running_mean is not None and self.running_var is not None
        assert self.momentum is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class BatchRenorm(BatchStatistics):
    """Batch renormalisation of [N,C,*]: training normalises nearly as acting does.

    "Batch renormalization" by Ioffe (2017), algorithm 1. After `warm_up` minibatches, in which it
    is batch normalisation, the running statistics normalise, but gradients flow through those of
    the minibatch. Numbers as in CrossQ (Bhatt et al. 2024).

    Deviations: variances are the unbiased ones, as in Stable-Baselines3's CrossQ, and the limits
    open at once, not by and by.
    """

    r_max, d_max, warm_up = 3.0, 5.0, 100_000

    def __init__(self, size: int) -> None:
        super().__init__(size, eps=1e-3, momentum=0.01)

    def forward(self, input: Tensor) -> Tensor:
        """Normalises each channel of [N,C,*]."""
        assert self.running_mean is not None and self.running_var is not None
        if not self.training:
            given = self.running_mean, self.running_var, self.weight, self.bias
            return F.batch_norm(input, *given, eps=self.eps)
        centred, mean, variance, count = self._moments(input)
        variance = variance * (count / (count - 1).clamp(min=1))
        deviation = (variance + self.eps).sqrt()
        ratio, shift = self._corrections(mean.detach(), deviation.detach())
        self._remember(mean, variance)
        scale, shift = self.weight * ratio / deviation, self.weight * shift + self.bias
        return centred * _beside(scale, input) + _beside(shift, input)

    def _corrections(self, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        """R and d [C], which turn the minibatch's statistics into the running ones."""
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None
        running = (self.running_var + self.eps).sqrt()
        ratio = (deviation / running).clamp(1 / self.r_max, self.r_max)
        shift = ((mean - self.running_mean) / running).clamp(-self.d_max, self.d_max)
        warm = self.num_batches_tracked >= self.warm_up
        return torch.where(warm, ratio, 1.0), torch.where(warm, shift, 0.0)


class _Folded(nn.Module):
    """Normalises [T,B,D] over time and batch together."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalises over the first two axes."""
        return super().forward(input.flatten(0, 1)).view_as(input)


class ImageBatchNorm(BatchStatistics, nn.BatchNorm2d):
    """Batch normalisation of [N,C,H,W]."""


class FoldedBatchNorm(_Folded, BatchStatistics, nn.BatchNorm1d):
    """Batch normalisation of [T,B,D] over time and batch together."""


class FoldedBatchRenorm(_Folded, BatchRenorm):
    """Batch renormalisation of [T,B,D] over time and batch together."""


@contextmanager
def counting(module: nn.Module, rows: Tensor) -> Iterator[None]:
    """Context in which the batch statistics of a module's layers leave rows out.

    Args:
        module: Its layers get inputs as [T,B,*], or folded to [T*B,*].
        rows: [T,B]: 1 for a row that counts, 0 for one that does not.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, BatchStatistics)]
    for layer in layers:
        layer.counted = rows.reshape(-1)
    try:
        yield
    finally:
        for layer in layers:
            layer.counted = None


def share_statistics(modules: Iterable[nn.Module], total: Callable[[Tensor], Tensor]) -> None:
    """Computes the batch statistics of all layers from the shares of all learners.

    Args:
        modules: The modules with these layers.
        total: See `BatchStatistics.total`.
    """
    for layer in (layer for module in modules for layer in module.modules()):
        if isinstance(layer, BatchStatistics):
            layer.total = total


def _beside(channels: Tensor, input: Tensor) -> Tensor:
    """Numbers of the channels [C] in the shape that goes with input [N,C,*]."""
    return channels.view(-1, *[1] * (input.ndim - 2))
