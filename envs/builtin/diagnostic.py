"""Small environments with a known optimum or a known fault: `neuraxis/Identity-v0` and others.

They are registered with Gymnasium when `neuraxis.envs` is imported.
"""

from __future__ import annotations

from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from .counting import Counter, Episode, Faulty, Step, Truncation


def _chosen(kinds: dict[str, spaces.Space], name: str) -> spaces.Space:
    """The action space of a name; raises ValueError if there is none."""
    if name not in kinds:
        raise ValueError(f"action_space={name!r}; choose from {', '.join(kinds)}")
    return kinds[name]


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
        self.action_space = self.observation_space = _chosen(kinds, action_space)
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
    """The cue of the start must be named `delay` steps later; the best return is 1.

    Without memory that is a guess.

    The observation [cues + 1] is the one-hot cue, then blanks, at last the go flag (last entry).
    Only the last action counts: reward 1 for the cue, else -1; then the episode terminates. In a
    box the cues lie from -1 to 1, equally far apart, and the reward is 1 minus the distance.

    Args:
        delay: steps from the cue to the answer.
        cues: how many there are.
        action_space: discrete or box.
    """

    def __init__(
        self, delay: int = 32, cues: int = 2, action_space: Literal["discrete", "box"] = "discrete"
    ) -> None:
        kinds = {
            "discrete": spaces.Discrete(cues),
            "box": spaces.Box(-1.0, 1.0, (1,), np.float32),
        }
        self.observation_space = spaces.Box(0.0, 1.0, (cues + 1,), np.float32)
        self.action_space = _chosen(kinds, action_space)
        self._delay, self._cues = delay, cues

    def _open(self) -> np.ndarray:
        self._cue = int(self.np_random.integers(self._cues))
        obs = np.zeros(self._cues + 1, np.float32)
        obs[self._cue] = 1.0
        return obs

    def step(self, action: Any) -> Step:
        """Counts the delay; judges the action that answers the go flag."""
        obs = np.zeros(self._cues + 1, np.float32)
        if self._count == self._delay:
            return obs, self._reward(action), True, False, {}
        self._count += 1
        obs[-1] = float(self._count == self._delay)
        return obs, 0.0, False, False, {}

    def _reward(self, action: Any) -> float:
        if isinstance(self.action_space, spaces.Box):
            return 1.0 - abs(float(action[0]) - np.linspace(-1.0, 1.0, self._cues)[self._cue])
        return 1.0 if int(action) == self._cue else -1.0


class Chain(Episode):
    """A walk to the last of `length` cells, where the only reward is, 1; a random walk fails.

    The observation is the cell. Which of two actions goes forward differs from cell to cell, the
    other goes back. The episode terminates in the last cell, and is truncated after 2 `length`
    steps.
    """

    def __init__(self, length: int = 40) -> None:
        self.observation_space, self.action_space = spaces.Discrete(length), spaces.Discrete(2)
        self._forward = np.random.default_rng(0).integers(2, size=length)

    def _open(self) -> np.int64:
        self._cell = np.int64(0)
        return self._cell

    def step(self, action: int) -> Step:
        """Goes one cell forward or back."""
        self._count += 1
        move = 1 if int(action) == self._forward[self._cell] else -1
        self._cell = np.maximum(self._cell + move, 0)
        length = len(self._forward)
        end = bool(self._cell == length - 1)
        return self._cell, float(end), end, self._count >= 2 * length, {}


class Dict(Episode):
    """The action's four bits are hidden in an image, a vector, a number and a tuple.

    The reward is the share of right bits, the best return is `length`; then truncation. In a box a
    bit is a number, -1 or 1, and the reward 1 minus half the mean distance.

    Args:
        size: pixels of the image's sides.
        length: steps of an episode.
        action_space: discrete (the bits as a number), multidiscrete, multibinary or box.
    """

    def __init__(
        self,
        size: int = 36,
        length: int = 10,
        action_space: Literal["discrete", "multidiscrete", "multibinary", "box"] = "discrete",
    ) -> None:
        self.observation_space = spaces.Dict(
            {
                "image": spaces.Box(0, 255, (size, size, 1), np.uint8),
                "vector": spaces.Box(-1.0, 1.0, (3,), np.float32),
                "number": spaces.Discrete(2),
                "tuple": spaces.Tuple((spaces.Discrete(2), spaces.MultiBinary(2))),
            }
        )
        kinds = {
            "discrete": spaces.Discrete(16),
            "multidiscrete": spaces.MultiDiscrete([2] * 4),
            "multibinary": spaces.MultiBinary(4),
            "box": spaces.Box(-1.0, 1.0, (4,), np.float32),
        }
        self.action_space = _chosen(kinds, action_space)
        self._size, self._length = size, length

    def step(self, action: Any) -> Step:
        """Rewards the share of right bits, or closeness to all of them."""
        self._count += 1
        if isinstance(self.action_space, spaces.Box):
            guess = (np.asarray(action, np.float64) + 1) / 2
        elif isinstance(self.action_space, spaces.Discrete):
            guess = int(action) >> np.arange(4) & 1
        else:
            guess = np.asarray(action, np.float64)
        reward = 1.0 - float(np.mean(np.abs(guess - self._bits)))
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


ENVS = (Identity, Memory, Chain, Truncation, Counter, Faulty, Dict)

for _env in ENVS:
    gymnasium.register(f"neuraxis/{_env.__name__}-v0", f"{_env.__module__}:{_env.__name__}")
