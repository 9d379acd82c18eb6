"""Goals that episodes had or could have had: what environments and learners tell each other."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import numpy as np
from gymnasium import spaces

GoalRewards = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray | None]]
"""Computes, from achieved and desired goals, [N, *] each, the rewards [N] float32 that the agent
learns from, and whether each step terminates its episode, [N] bool. The second result is None where
the environment does not say."""


def has_goals(space: gymnasium.Space) -> bool:
    """Whether observations have an achieved and a desired goal of the same shape and dtype."""
    if not isinstance(space, spaces.Dict):
        return False
    achieved, desired = (space.spaces.get(key) for key in ("achieved_goal", "desired_goal"))
    if achieved is None or desired is None or isinstance(achieved, spaces.Dict | spaces.Tuple):
        return False
    return (achieved.shape, achieved.dtype) == (desired.shape, desired.dtype)
