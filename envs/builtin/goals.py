"""Environments with goals and a sparse reward: `neuraxis/BitFlip-v0` and `neuraxis/PointGoal-v0`.

Their observations are Dicts of `observation`, `achieved_goal` and `desired_goal`, and they have the
functions of Gymnasium-Robotics' GoalEnv: the reward and the end follow from the two goals. These
take one pair of goals, or N of them.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from .counting import Episode, Step


class GoalEpisode(Episode):
    """Reward 0 where the desired goal is achieved, else -1; truncated after `length` steps.

    Args:
        goal: space of the observation and of both goals.
        length: steps of an episode.
        terminates: an achieved goal ends the episode.
    """

    def __init__(self, goal: gymnasium.Space[Any], length: int, terminates: bool) -> None:
        names = ("observation", "achieved_goal", "desired_goal")
        self.observation_space = spaces.Dict({name: goal for name in names})
        self._length, self._terminates = length, terminates

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        """Rewards of goals [*], or [N,*], achieved by a step; no `info` is needed."""
        return self._reached(achieved_goal, desired_goal).astype(np.float32) - 1

    def compute_terminated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        """Whether the episode ends there, of goals [*] or [N,*]."""
        return self._reached(achieved_goal, desired_goal) & self._terminates

    def _reached(self, achieved_goal: Any, desired_goal: Any) -> Any:
        """Whether the desired goal is achieved, of goals [*] or [N,*]."""
        raise NotImplementedError

    def _seen(self) -> dict[str, np.ndarray]:
        state = self._state
        return {
            "observation": state.copy(),
            "achieved_goal": state.copy(),
            "desired_goal": self._goal.copy(),
        }

    def _open(self) -> dict[str, np.ndarray]:
        self._state, self._goal = self._drawn(), self._drawn()
        return self._seen()

    def _drawn(self) -> np.ndarray:
        """A state or a goal, uniformly."""
        raise NotImplementedError

    def _judged(self) -> Step:
        """What a step gives, once the state has changed."""
        self._count += 1
        goals = self._state, self._goal
        reward = float(self.compute_reward(*goals, {}))
        terminated = bool(self.compute_terminated(*goals, {}))
        success = bool(self._reached(*goals))
        return (
            self._seen(),
            reward,
            terminated,
            self._count >= self._length,
            {"is_success": success},
        )


class BitFlip(GoalEpisode):
    """An action flips one of n bits, to reach the desired ones (Andrychowicz et al. 2017, 3.1).

    Args:
        bits: n; an episode has as many steps.
        terminates: see `GoalEpisode`.
    """

    def __init__(self, bits: int = 8, terminates: bool = True) -> None:
        self.action_space = spaces.Discrete(bits)
        self._bits = bits
        super().__init__(spaces.MultiBinary(bits), bits, terminates)

    def step(self, action: int) -> Step:
        """Flips a bit."""
        self._state[action] ^= 1
        return self._judged()

    def _reached(self, achieved_goal: Any, desired_goal: Any) -> Any:
        return (achieved_goal == desired_goal).all(-1)

    def _drawn(self) -> np.ndarray:
        return self.np_random.integers(0, 2, self._bits, np.int8)


class PointGoal(GoalEpisode):
    """A point in [-1, 1]^size moves by up to 0.1 along each axis, to a goal anywhere in there.

    Args:
        size: axes.
        radius: the goal is achieved within this distance.
        length: steps of an episode.
        terminates: see `GoalEpisode`.
    """

    def __init__(
        self, size: int = 3, radius: float = 0.05, length: int = 50, terminates: bool = False
    ) -> None:
        self.action_space = spaces.Box(-1.0, 1.0, (size,), np.float32)
        self._radius = radius
        super().__init__(spaces.Box(-1.0, 1.0, (size,), np.float32), length, terminates)

    def step(self, action: Any) -> Step:
        """Moves; the walls stop the point."""
        self._state = (self._state + np.float32(0.1) * action).clip(-1, 1).astype(np.float32)
        return self._judged()

    def _reached(self, achieved_goal: Any, desired_goal: Any) -> Any:
        return np.linalg.norm(achieved_goal - desired_goal, axis=-1) <= self._radius

    def _drawn(self) -> np.ndarray:
        return self.np_random.uniform(-1, 1, self.action_space.shape).astype(np.float32)


for _env in (BitFlip, PointGoal):
    gymnasium.register(f"neuraxis/{_env.__name__}-v0", f"{_env.__module__}:{_env.__name__}")
