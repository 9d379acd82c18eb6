"""The reward that the agent learns from."""

from __future__ import annotations

import numpy as np


def scaled(reward: np.ndarray, scale: float, limit: float | None) -> np.ndarray:
    """Rewards times a factor, then clipped to plus and minus a limit, if there is one."""
    if scale != 1:
        reward = reward * np.float32(scale)
    if limit is not None:
        reward = reward.clip(-limit, limit)
    return reward
