"""What of an agent was loaded from another one; see `transfer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .counterparts import Named

STATISTICS = "normalizer."
"""The beginning of the names of the observation statistics."""


def is_statistic(name: str) -> bool:
    """Whether a tensor is of observation statistics: the policy's, or those of another part."""
    return f".{STATISTICS}" in f".{name}"


@dataclass(frozen=True)
class Report:
    """What of an agent was loaded.

    Attributes:
        loaded: Names here, each with the name there.
        sliced: Those names of `loaded` of which only a part was loaded.
        new: Names here that stay as they were built; statistics are not among them.
        skipped: Names there from which nothing was loaded; statistics are not among them.
        parameters: How many numbers of parameters were loaded.
        total: How many numbers the parameters here have.
    """

    loaded: Mapping[str, str]
    sliced: Sequence[str]
    new: Sequence[str]
    skipped: Sequence[str]
    parameters: int
    total: int


def report(
    values: Named, sliced: Named, there: Named, here: Named, origin: Mapping[str, str]
) -> Report:
    """Counts what was loaded; of a sliced tensor only the common part.

    Args:
        values: What tensors here were given, by name.
        sliced: Tensors of which a part was given.
        there: Tensors by name.
        here: Tensors by name, of which `nn.Parameter`s are weights.
        origin: For names here those there.
    """
    loaded = {name: origin[name] for name in values}
    weights = {name: x for name, x in here.items() if isinstance(x, nn.Parameter)}
    taken = [common(there[loaded[name]], here[name]).numel() for name in weights if name in values]
    used = {*loaded.values()}
    return Report(
        loaded=loaded,
        sliced=[name for name in values if name in sliced],
        new=[n for n in here if n not in values and not n.startswith(STATISTICS)],
        skipped=[n for n in there if n not in used and not n.startswith(STATISTICS)],
        parameters=sum(taken),
        total=sum(x.numel() for x in weights.values()),
    )


def common(one: Tensor, other: Tensor) -> torch.Size:
    """The shape of the common part of two tensors with equally many axes."""
    return torch.Size(map(min, one.shape, other.shape))
