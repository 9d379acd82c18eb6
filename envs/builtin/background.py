"""Observations with numbers that tell nothing: `neuraxis/Background-v0`.

To see whether a policy that has met few levels fails on others: the numbers are those of the level
and have nothing to do with the task. After Song et al. 2020, "Observational overfitting in
reinforcement learning", whose numbers are functions of the state.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import DiscretizeAction


class Background(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Another environment, whose observations have normal numbers that each episode draws once.

    Args:
        task: id of the other environment, whose observations are vectors.
        size: how many numbers.
        choices: makes actions in a Box a choice of so many for each number; None: they stay.
        render_mode: Gymnasium's.

    Raises:
        ValueError: there is no such environment, or it has other observations, or a count is none.
    """

    def __init__(
        self,
        task: str = "Pendulum-v1",
        size: int = 16,
        choices: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        if task not in gymnasium.registry:  # "module:Id" would import a module
            raise ValueError(f"task={task}: expected an id that is registered")
        for name, count, least in (("size", size, 1), ("choices", choices, 2)):
            whole = isinstance(count, int) and not isinstance(count, bool)
            if count is not None and not (whole and count >= least):
                raise ValueError(f"{name}={count}: expected a whole number, {least} or more")
        env: Any = gymnasium.make(task, render_mode=render_mode, disable_env_checker=True)
        if choices is not None and not isinstance(env.action_space, spaces.Box):
            raise ValueError(f"choices={choices}: expected null, {task} has choices already")
        if choices is not None:
            env = DiscretizeAction(env, choices)
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise ValueError(f"task={task}: has the observations {space}; expected a vector")
        ends = np.full(size, np.inf, np.float32)
        low, high = np.append(space.low, -ends), np.append(space.high, ends)
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        self._size = size

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Opens an episode, with numbers of its own."""
        obs, info = self.env.reset(seed=seed, options=options)
        self._numbers = self.np_random.standard_normal(self._size)
        return self._beside(obs), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps the other environment."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return self._beside(obs), reward, terminated, truncated, info

    def _beside(self, obs: np.ndarray) -> np.ndarray:
        return np.append(obs, self._numbers).astype(np.float32)


gymnasium.register("neuraxis/Background-v0", f"{__name__}:Background")
