"""Values that change over a run."""

from __future__ import annotations

import math
from typing import Literal, TypeVar

from torch import Tensor

Shape = Literal["constant", "linear", "cosine"]
"""How a value goes from its start to its end: not at all, in a line, or by half a cosine wave."""
N = TypeVar("N", float, Tensor)


def scheduled(start: float, shape: Shape, share: float, end: N = 0.0) -> N | float:
    """The value at a share of its way from `start` to `end`.

    Args:
        start: Where the share is 0, or below.
        shape: `constant`, `linear`, or `cosine`, which is slow at both ends (Loshchilov & Hutter
            2017, without restarts).
        share: Of the way, mostly the progress of the run.
        end: Where the share is 1, and from there on; many at once if it is a tensor.
    """
    if shape == "constant":
        return start
    share = min(max(share, 0.0), 1.0)
    if shape == "cosine":
        share = (1 - math.cos(math.pi * share)) / 2
    return start + (end - start) * share
