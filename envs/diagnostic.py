"""Small environments with a known optimum or a known fault: `neuraxis/Identity-v0` and its like.

They are registered with Gymnasium when `neuraxis.envs` is imported.
"""

from __future__ import annotations

import os
import time
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

Reset = tuple[Any, dict[str, Any]]
Step = tuple[Any, float, bool, bool, dict[str, Any]]


class Episode(gymnasium.Env[Any, Any]):
    """Counts the steps of an episode; `_open` gives the first observation."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Reset:
        """Starts to count."""
        super().reset(seed=seed)
        self._count = 0
        return self._open(), {}

    def _open(self) -> Any:
        return np.zeros(1, np.float32)


class Identity(Episode):
    """The action must equal the observation; the best return is `length`.

    Args:
        action_space: discrete, multidiscrete, multibinary or box.
        size: choices of a discrete action, or numbers in the other kinds.
        length: steps, then truncation.
    """

    def __init__(
        self,
        action_space: Literal["discrete", "multidiscrete", "multibinary", "box"] = "discrete",
        size: int = 3,
        length: int = 10,
    ) -> None:
        kinds = {
            "discrete": spaces.Discrete(size),
            "multidiscrete": spaces.MultiDiscrete([size] * size),
            "multibinary": spaces.MultiBinary(size),
            "box": spaces.Box(-1.0, 1.0, (size,), np.float32),
        }
        if action_space not in kinds:
            raise ValueError(f"action_space={action_space!r}; choose from {', '.join(kinds)}")
        self.action_space = self.observation_space = kinds[action_space]
        self._length = length

    def step(self, action: Any) -> Step:
        """Rewards closeness to the target: the share that is right, or 1 - mean distance."""
        self._count += 1
        distance = np.abs(np.asarray(action, np.float64) - self._target)
        if not isinstance(self.action_space, spaces.Box):
            distance = distance != 0
        reward = 1.0 - float(np.mean(distance))
        return self._open(), reward, False, self._count >= self._length, {}

    def _open(self) -> Any:
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            self._target = self.np_random.integers(space.n)
        elif isinstance(space, spaces.MultiDiscrete):
            self._target = self.np_random.integers(space.nvec)
        elif isinstance(space, spaces.MultiBinary):
            self._target = self.np_random.integers(0, 2, space.shape, np.int8)
        else:
            self._target = self.np_random.uniform(-1, 1, space.shape).astype(np.float32)
        return self._target


class Memory(Episode):
    """Name, `delay` steps later, the cue seen at the start: best return 1, without memory chance.

    The observation [cues + 1] is the one-hot cue, then blanks, at last the go flag (last entry).
    Only the last action counts: reward 1 for the cue, else -1; then the episode terminates.
    """

    def __init__(self, delay: int = 32, cues: int = 2) -> None:
        self.observation_space = spaces.Box(0.0, 1.0, (cues + 1,), np.float32)
        self.action_space = spaces.Discrete(cues)
        self._delay, self._cues = delay, cues

    def _open(self) -> np.ndarray:
        self._cue = int(self.np_random.integers(self._cues))
        obs = np.zeros(self._cues + 1, np.float32)
        obs[self._cue] = 1.0
        return obs

    def step(self, action: int) -> Step:
        """Counts the delay; judges the action that answers the go flag."""
        obs = np.zeros(self._cues + 1, np.float32)
        if self._count == self._delay:
            return obs, 1.0 if int(action) == self._cue else -1.0, True, False, {}
        self._count += 1
        obs[-1] = float(self._count == self._delay)
        return obs, 0.0, False, False, {}


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
        """Counts one further."""
        self._count += 1
        end = self._count >= self._length
        obs = np.full(1, self._count, np.float32)
        return obs, float(self._count), end and not self._truncate, end and self._truncate, {}


class Faulty(Episode):
    """Raises, hangs, dies or rewards NaN on demand; steps and resets count from 1 for ever.

    Args:
        raise_at_step: this step raises RuntimeError.
        raise_at_reset: this reset raises RuntimeError.
        hang_at_step: this step sleeps for an hour.
        exit_at_step: this step ends the process.
        nan_reward_at: this step's reward is NaN.
        probability: of raising, at any step; not seeded, so that a retry has other luck.
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


class Dict(Episode):
    """The action's four bits are hidden in an image, a vector, a number and a tuple.

    The reward is the share of right bits, the best return is `length`; then truncation.
    """

    def __init__(self, size: int = 36, length: int = 10) -> None:
        self.observation_space = spaces.Dict(
            {
                "image": spaces.Box(0, 255, (size, size, 1), np.uint8),
                "vector": spaces.Box(-1.0, 1.0, (3,), np.float32),
                "number": spaces.Discrete(2),
                "tuple": spaces.Tuple((spaces.Discrete(2), spaces.MultiBinary(2))),
            }
        )
        self.action_space = spaces.Discrete(16)
        self._size, self._length = size, length

    def step(self, action: int) -> Step:
        """Rewards the share of right bits."""
        self._count += 1
        guess = int(action) >> np.arange(4) & 1
        reward = float(np.mean(guess == self._bits))
        return self._open(), reward, False, self._count >= self._length, {}

    def _open(self) -> dict[str, Any]:
        self._bits = self.np_random.integers(0, 2, 4)
        image, vector, number, pair = (int(bit) for bit in self._bits)
        return {
            "image": np.full((self._size, self._size, 1), 255 * image, np.uint8),
            "vector": np.full(3, 2 * vector - 1, np.float32),
            "number": np.int64(number),
            "tuple": (np.int64(pair), np.array([pair, 1 - pair], np.int8)),
        }


ENVS = (Identity, Memory, Truncation, Counter, Faulty, Dict)

for _env in ENVS:
    gymnasium.register(f"neuraxis/{_env.__name__}-v0", f"{__name__}:{_env.__name__}")
