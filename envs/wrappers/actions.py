"""From the agent's actions to the environment's."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from ...core.errors import shorten
from ..observations import Space, float32
from .transforms import Transform, count_from_zero

COUNTED = 2.0**53  # up to here a float64 counts whole numbers
FLOAT32 = float(np.finfo(np.float32).max)


def of_actions(space: Space, rescale: bool) -> Transform | None:
    """From the agent's actions [B,*] to the environment's; None where they are the same.

    Discrete actions count from 0. A Box is clipped to its bounds, and rounded if it has integers;
    with `rescale`, a Box with bounds on all sides is Box(-1, 1) to the agent, clipped and scaled.
    The greatest number of the dtype or of float32, and an integer beyond 2^53, is no bound.
    """
    if not isinstance(space, spaces.Box):
        return _count_from_start(space)
    low, high, bounded = bounds(space)
    if (low <= -FLOAT32).all() and (FLOAT32 <= high).all():
        return None
    dtype, whole = space.dtype, space.dtype.kind != "f"

    def fit(action: np.ndarray) -> np.ndarray:
        action = np.rint(action) if whole else action
        return np.minimum(np.maximum(action, low), high).astype(dtype)

    if not (rescale and bounded):
        return space, fit
    middle, half = (low + high) / 2, (high - low) / 2

    def scale(action: np.ndarray) -> np.ndarray:
        return fit(middle + half * action)

    return spaces.Box(-1.0, 1.0, low.shape, np.float32), scale


def to_agent(space: Space, rescale: bool) -> Transform:
    """The agent's space of actions, and from the environment's actions [B,*] back to the agent's.

    What `of_actions` clips stays as it is.
    """
    transform = of_actions(space, rescale)
    if not isinstance(space, spaces.Box):
        back = count_from_zero(space)
        return back or (space, lambda action: action)
    if transform is None or transform[0] is space:
        return space, float32
    low, high, _ = bounds(space)
    middle, half = (low + high) / 2, (high - low) / 2
    half = np.where(half > 0, half, 1.0)  # where there is one action only
    return transform[0], lambda action: float32((action - middle) / half)


def bounds(space: spaces.Box) -> tuple[np.ndarray, np.ndarray, bool]:
    """The least and the greatest actions as float64, and whether all of them are true bounds.

    Raises:
        ValueError: an action can only be beyond what float32 holds or float64 counts.
    """
    most = COUNTED
    if space.low.dtype.kind == "f":
        most = min(float(np.finfo(space.dtype.name).max), FLOAT32)
    if (space.low > most).any() or (space.high < -most).any():
        raise ValueError(f"action space {shorten(space)}: expected numbers within +-{most:.4g}")
    low = np.maximum(space.low, -most).astype(np.float64)
    high = np.minimum(space.high, most).astype(np.float64)
    bounded = space.bounded_below & space.bounded_above & (-most < low) & (high < most)
    return low, high, bool(bounded.all())


def _count_from_start(space: Space) -> Transform | None:
    """Adds the `start` of a Discrete or MultiDiscrete to an action that counts from 0."""
    from_zero = count_from_zero(space)
    if from_zero is None:
        return None
    start = getattr(space, "start", 0)
    return from_zero[0], lambda action: action.astype(space.dtype) + start
