"""Values that change over a run."""

from __future__ import annotations

from typing import Literal

Shape = Literal["constant", "linear"]


def scheduled(value: float, shape: Shape, progress: float) -> float:
    """`value` throughout, or falling linearly to 0 at the end of the run (`progress` 1)."""
    return value * (1 - progress) if shape == "linear" else value


def ramp(start: float, end: float, share: float) -> float:
    """From `start` to `end` as `share` goes from 0 to 1, and `end` from there on."""
    return start + (end - start) * min(max(share, 0.0), 1.0)
