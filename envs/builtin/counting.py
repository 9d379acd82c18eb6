"""Diagnostic environments that count their steps: their ends, their resets and their faults."""

from __future__ import annotations

import os
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

Reset = tuple[Any, dict[str, Any]]
Step = tuple[Any, float, bool, bool, dict[str, Any]]


class Episode(gymnasium.Env[Any, Any]):
    """Counts the steps of an episode; `_open` gives the first observation."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Reset:
        """Starts the count."""
        super().reset(seed=seed)
        self._count = 0
        return self._open(), {}

    def _open(self) -> Any:
        return np.zeros(1, np.float32)


class Truncation(Episode):
    """Reward 1 for ever, truncated at `limit`: the value is 1 / (1 - gamma)."""

    def __init__(self, limit: int = 10) -> None:
        self.observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._limit = limit

    def step(self, action: int) -> Step:
        """Rewards 1, whatever the action."""
        self._count += 1
        return np.zeros(1, np.float32), 1.0, False, self._count >= self._limit, {}


class Counter(Episode):
    """The observation and the reward are the step number, to check the bookkeeping of resets.

    Args:
        length: steps of an episode.
        truncate: it ends by truncation, else by termination.
    """

    def __init__(self, length: int = 5, truncate: bool = False) -> None:
        self.observation_space = spaces.Box(0.0, np.inf, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._length, self._truncate = length, truncate

    def step(self, action: int) -> Step:
        """Counts one more step."""
        self._count += 1
        end = self._count >= self._length
        obs = np.full(1, self._count, np.float32)
        return obs, float(self._count), end and not self._truncate, end and self._truncate, {}


class Faulty(Episode):
    """Raises, hangs, dies or rewards NaN on demand; steps and resets are counted from 1 on.

    Args:
        raise_at_step: this step raises RuntimeError.
        raise_at_reset: this reset raises RuntimeError.
        hang_at_step: this step sleeps for an hour.
        exit_at_step: this step ends the process.
        nan_reward_at: this step's reward is NaN.
        probability: of raising in each step; not seeded, so that a retry may succeed.
        length: steps of an episode.
    """

    def __init__(
        self,
        raise_at_step: int | None = None,
        raise_at_reset: int | None = None,
        hang_at_step: int | None = None,
        exit_at_step: int | None = None,
        nan_reward_at: int | None = None,
        probability: float = 0.0,
        length: int = 10,
    ) -> None:
        self.observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._raise_at_step, self._raise_at_reset = raise_at_step, raise_at_reset
        self._hang_at_step, self._exit_at_step = hang_at_step, exit_at_step
        self._nan_reward_at, self._probability = nan_reward_at, probability
        self._length = length
        self._luck = np.random.default_rng()
        self._resets = self._steps = 0

    def _open(self) -> np.ndarray:
        self._resets += 1
        if self._resets == self._raise_at_reset:
            raise RuntimeError(f"reset {self._resets} is faulty")
        return np.zeros(1, np.float32)

    def step(self, action: int) -> Step:
        """Steps, or fails in the way that was asked for."""
        self._steps += 1
        self._count += 1
        if self._steps == self._hang_at_step:
            time.sleep(3600)
        if self._steps == self._exit_at_step:
            os._exit(1)
        if self._steps == self._raise_at_step or self._luck.random() < self._probability:
            raise RuntimeError(f"step {self._steps} is faulty")
        reward = np.nan if self._steps == self._nan_reward_at else 1.0
        return np.zeros(1, np.float32), reward, self._count >= self._length, False, {}
