"""L1 and L2 of weights as terms of a loss, with the gradient written out for a flat vector."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .terms import Terms


@dataclass(frozen=True)
class Penalty:
    """The coefficients of l1 * sum |w| + l2 / 2 * sum w^2; 0 and 0 are no term at all.

    The gradient l1 sign(w) + l2 w goes through the clip and the moments of the optimizer, as that
    of any term of a loss; that of `weight_decay` does not.
    """

    l1: float = 0.0
    l2: float = 0.0

    def gradient(self, flat: Tensor, marks: Tensor) -> Tensor:
        """The gradient [P] for weights [P]; only those with `marks` [P] of 1 count."""
        return marks * (self.l1 * flat.sign() + self.l2 * flat)

    def value(self, flat: Tensor, marks: Tensor) -> Tensor:
        """The term that it adds to the loss, a scalar."""
        weights = marks * flat
        return self.l1 * weights.abs().sum() + 0.5 * self.l2 * weights.square().sum()

    def sums(self, flat: Tensor, marks: Tensor) -> Terms:
        """The sum of |w| and half the sum of w^2, before their coefficients; those above 0 only."""
        weights = marks * flat
        found: Terms = {}
        if self.l1:
            found["l1"] = weights.abs().sum()
        if self.l2:
            found["l2"] = 0.5 * weights.square().sum()
        return found

    def marks(self, parameters: Sequence[Tensor], counted: Iterable[Tensor]) -> Tensor | None:
        """1 for each number of the parameters that counts, and 0 for others, [P].

        None: nothing counts, or both coefficients are 0.
        """
        chosen = {id(parameter) for parameter in counted}
        if not (self.l1 or self.l2) or chosen.isdisjoint(map(id, parameters)):
            return None
        return torch.cat(
            [torch.full_like(p.detach(), id(p) in chosen).flatten() for p in parameters]
        )


NO_PENALTY = Penalty()
METRICS = {"l1": "loss/l1", "l2": "loss/l2", "weight_decay": "loss/weight_decay"}


def logged(found: Iterable[Terms]) -> Terms:
    """The metrics of what `Vector.penalties` found in the parts of an agent, added up."""
    metrics: Terms = {}
    for sums in found:
        for name, metric in METRICS.items():
            if name in sums:
                metrics[metric] = metrics.get(metric, 0.0) + sums[name]
    return metrics
