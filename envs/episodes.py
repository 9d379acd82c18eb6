"""One environment column: a seed for every episode, and the actions that bring it back."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

REPLAY_LIMIT = 100_000
"""Actions kept since the reset; an episode that is longer reopens instead of being replayed."""


def episode_seed(seed: int, column: int, episode: int) -> int:
    """Seed in [0, 2^32) of an episode: of run seed, column and episode number, nothing else."""
    sequence = np.random.SeedSequence(seed, spawn_key=(column, episode))
    return int(sequence.generate_state(1)[0])


class Column:
    """A Gymnasium environment that opens each episode with its own seed and remembers its actions.

    Args:
        env: the environment; `reset(seed)` and the same actions must bring the same episode.
        seed: of the run.
        number: of the column, counted over all workers.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], seed: int, number: int) -> None:
        self.env = env
        self.number = number
        self.episode = -1
        self.count = 0
        self._run_seed = seed
        shape, dtype = env.action_space.shape, env.action_space.dtype
        self._actions = np.empty((64, *(shape or ())), dtype)
        env.action_space.seed(episode_seed(seed, number, 0))

    @property
    def seed(self) -> int:
        """Seed of the episode that is open."""
        return episode_seed(self._run_seed, self.number, max(self.episode, 0))

    @property
    def actions(self) -> np.ndarray:
        """The actions [count,*] since the reset, empty when they are more than REPLAY_LIMIT."""
        return self._actions[: self.count if self.count <= REPLAY_LIMIT else 0].copy()

    def reset(self) -> Any:
        """Opens the next episode and returns its first observation."""
        self.episode += 1
        self.count = 0
        return self.env.reset(seed=self.seed)[0]

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps the environment and logs the action."""
        if self.count < REPLAY_LIMIT:
            if self.count == len(self._actions):
                self._actions = np.concatenate((self._actions, np.empty_like(self._actions)))
            self._actions[self.count] = action
        self.count += 1
        return self.env.step(action)

    def replay(self, episode: int, actions: np.ndarray, count: int) -> Any:
        """Repeats an episode; returns its last observation, or None if it went another way."""
        self.episode = episode - 1
        obs = self.reset()
        if len(actions) != count:
            return None
        for action in actions:
            obs, _, terminated, truncated, _ = self.step(action)
            if terminated or truncated:
                return None
        return obs
