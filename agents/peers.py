"""Several learners of one run: each takes its share of every minibatch, and their sums are one's.

All of them hold the same agent, see every rollout and draw the same minibatches. They part where a
gradient is made: a learner computes loss and gradient on its share of the columns (axis 1), then
the gradients are summed, and all take the same step. So a loss is a weighted sum whose weights were
made from the whole minibatch: then the sum over the shares is the loss of one learner.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from ..envs.tree import Tree, leaves, map_tree


class PeerError(RuntimeError):
    """Another learner does not answer."""


class Peers:
    """The learners of a run, as one of them sees them; `connect` before the first update.

    Args:
        rank: Which of them this one is, from 0.
        count: How many there are.
    """

    def __init__(self, rank: int, count: int) -> None:
        self.rank = rank
        self.count = count
        self._group: ProcessGroup | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Peers:
        """A copy of a network has the same peers."""
        return self

    def __reduce__(self) -> tuple[type[Peers], tuple[int, int]]:
        """In another process, where a copy of the network only acts, nobody is connected."""
        return Peers, (self.rank, self.count)

    def connect(self, group: ProcessGroup) -> None:
        """Takes the group through which sums are made."""
        self._group = group

    def disconnect(self) -> None:
        """Leaves: who waits for a sum with this one fails at once."""
        if self._group is not None:
            self._group.abort()
            self._group = None

    def share(self, batch: Tree) -> Tree:
        """The own part of a minibatch: of leaves [*, N, *] some columns, scalars as they are.

        Shares differ by at most one column; with fewer columns than learners some are empty.
        """
        columns = slice(*self._borders(_columns(batch)))
        return map_tree(lambda leaf: leaf[:, columns] if leaf.ndim > 1 else leaf, batch)

    def total(
        self, grad: Tensor, trace: dict[str, Tensor], batch: Tree
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The gradient and the trace of the whole minibatch, the same on every learner.

        Args:
            grad: Of the own share, [P].
            trace: Terms of the own share, [L, n, *] each.
            batch: The whole minibatch, of N columns.

        Returns:
            The sum of all gradients [P], and each term of all columns [L, N, *].
        """
        count = _columns(batch)
        columns = slice(*self._borders(count))
        terms = []
        for term in trace.values():
            whole = term.new_zeros(len(term), count, *term.shape[2:])
            whole[:, columns] = term
            terms.append(whole)
        total = self.sum(torch.cat((grad, *(term.reshape(-1) for term in terms))))
        grad, *parts = total.split([len(grad), *(term.numel() for term in terms)])
        wholes = (part.view_as(term) for part, term in zip(parts, terms, strict=True))
        return grad, dict(zip(trace, wholes, strict=True))

    def sum(self, x: Tensor) -> Tensor:
        """The sum of every learner's x; a gradient runs back through it to every x.

        Raises:
            PeerError: Another learner has gone, or does not answer in time.
        """
        return _Sum.apply(x, self)

    @contextmanager
    def own_draws(self, module: nn.Module, device: torch.device) -> Iterator[None]:
        """Within it dropout has masks of this learner's own; after it all draw alike again."""
        if not any(getattr(m, "dropout", isinstance(m, nn.Dropout)) for m in module.modules()):
            yield
            return
        seed = int(torch.randint(2**62, ()))
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed + self.rank)
            yield

    def _borders(self, count: int) -> tuple[int, int]:
        """Where the own share of `count` columns begins and ends."""
        size, rest = divmod(count, self.count)
        begin = self.rank * size + min(self.rank, rest)
        return begin, begin + size + (self.rank < rest)

    def _reduce(self, x: Tensor) -> Tensor:
        assert self._group is not None, "connect before the first update"
        total = x.detach().clone(memory_format=torch.contiguous_format)
        try:
            self._group.allreduce([total]).wait()
        except RuntimeError as error:
            raise PeerError(
                f"learner {self.rank} waited in vain for the others: {error}"
            ) from error
        return total


class _Sum(torch.autograd.Function):
    """The sum over learners. Each adds its own loss, so gradients of the sum add up, too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, peers: Peers) -> Tensor:
        ctx.peers = peers
        return peers._reduce(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.peers._reduce(grads[0]), None


def _columns(batch: Tree) -> int:
    return next(leaf.shape[1] for leaf in leaves(batch) if leaf.ndim > 1)
