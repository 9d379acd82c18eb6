"""Several learners of one run: each takes its share of every minibatch, and gradients are summed.

All learners hold the same agent, get every rollout and draw the same minibatches. Each computes the
loss and its gradient on its own share of the columns (axis 1); the gradients are summed, and all
take the same step. So a loss must be a weighted sum over steps, with weights that were computed
from the whole minibatch: then the sum over the shares is the loss of a single learner.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from ...core.tree import Tree, leaves, map_tree
from .terms import Terms


class ReplicaError(RuntimeError):
    """The replica of another learner does not answer."""


class Replicas:
    """The replicas of a data-parallel agent, one in each learner, as one learner sees them.

    The learner calls `connect` before the first update.

    Args:
        rank: The number of this learner, from 0.
        count: How many learners there are.
    """

    def __init__(self, rank: int, count: int) -> None:
        self.rank = rank
        self.count = count
        self._group: ProcessGroup | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Replicas:
        """A copy of a network has the same replicas."""
        return self

    def __reduce__(self) -> tuple[type[Replicas], tuple[int, int]]:
        """In another process, where a copy of the network only acts, nobody is connected."""
        return Replicas, (self.rank, self.count)

    def connect(self, group: ProcessGroup) -> None:
        """Takes the process group through which sums are computed."""
        self._group = group

    def disconnect(self) -> None:
        """Leaves the group: a learner that waits for a sum with this one fails at once."""
        if self._group is not None:
            self._group.abort()
            self._group = None

    def share(self, batch: Tree) -> Tree:
        """This learner's part of a minibatch: some columns of leaves [*, N, *], and all scalars.

        Shares differ by at most one column; with fewer columns than learners some are empty.
        """
        columns = slice(*self._borders(_columns(batch)))
        return map_tree(lambda leaf: leaf[:, columns] if leaf.ndim > 1 else leaf, batch)

    def gather(self, terms: Terms, batch: Tree) -> Terms:
        """Puts together the terms of all shares, the same on every learner.

        Args:
            terms: Those of this learner's share, [L, n, *] each. A scalar stays as it is, so it
                must be the same on all learners, as the norm of the summed gradient is.
            batch: The whole minibatch, of N columns.

        Returns:
            The terms of all columns, [L, N, *] each, and the scalars.
        """
        count = _columns(batch)
        columns = slice(*self._borders(count))
        wholes: Terms = {}
        for name, term in terms.items():
            if term.ndim:
                wholes[name] = term.new_zeros(len(term), count, *term.shape[2:])
                wholes[name][:, columns] = term
        if not wholes:
            return terms
        total = self.sum(torch.cat([whole.reshape(-1) for whole in wholes.values()]))
        parts = total.split([whole.numel() for whole in wholes.values()])
        pairs = zip(wholes.items(), parts, strict=True)
        return terms | {name: part.view_as(whole) for (name, whole), part in pairs}

    def sum(self, x: Tensor) -> Tensor:
        """The sum of x over all learners; gradients flow through it to the x of each.

        Raises:
            ReplicaError: Another learner has gone, or does not answer in time.
        """
        return _Sum.apply(x, self)

    @contextmanager
    def own_draws(self, drops: bool) -> Iterator[None]:
        """Context in which each learner draws its own dropout masks; after it all draw the same.

        Args:
            drops: Whether there is any dropout.
        """
        if not drops:
            yield
            return
        seed = int(torch.randint(2**62, ()))
        gpus = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(gpus):
            torch.manual_seed(seed + self.rank)
            yield

    def _borders(self, count: int) -> tuple[int, int]:
        """The first column of this learner's share of `count` columns, and the first after it."""
        size, rest = divmod(count, self.count)
        begin = self.rank * size + min(self.rank, rest)
        return begin, begin + size + (self.rank < rest)

    def _reduce(self, x: Tensor) -> Tensor:
        assert self._group is not None, "connect before the first update"
        total = x.detach().clone(memory_format=torch.contiguous_format)
        try:
            self._group.allreduce([total]).wait()
        except RuntimeError as error:
            raise ReplicaError(
                f"learner {self.rank} got no sum from the others: {error}"
            ) from error
        return total


class _Sum(torch.autograd.Function):
    """The sum over learners. The total loss is the sum of theirs, so gradients are summed, too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, replicas: Replicas) -> Tensor:
        ctx.replicas = replicas
        return replicas._reduce(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.replicas.sum(grads[0]), None  # which has a gradient itself


def _columns(batch: Tree) -> int:
    return next(leaf.shape[1] for leaf in leaves(batch) if leaf.ndim > 1)
