"""What updates report: terms by name, one number for each step; `learn` takes their means."""

from __future__ import annotations

import torch
from torch import Tensor

Terms = dict[str, Tensor]
"""By name and without gradient: terms of each step of a minibatch [L, N], and scalars. With several
learners a scalar must be the same on all of them, see `Replicas.gather`."""


def joined(updates: list[Terms]) -> Terms:
    """Joins the terms of U updates: scalars to [U], terms of steps to [L, sum of all N].

    An update that was forbidden (see `Optimizer.step`) lacks `grad_norm`; it is left out of that.
    """
    found: dict[str, list[Tensor]] = {}
    for terms in updates:
        for name, value in terms.items():
            found.setdefault(name, []).append(value)
    return {
        name: torch.cat(values, 1) if values[0].ndim else torch.stack(values)
        for name, values in found.items()
    }
