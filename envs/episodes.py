"""A column: an environment, a seed for each of its episodes, and the actions that restore it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

REPLAY_LIMIT = 100_000
"""The most actions that are kept since a reset. A longer episode cannot be replayed when a run is
resumed: a new one opens."""
NO_COLUMN = 2**32 - 1
"""Takes the place of a column's number."""


def episode_seed(seed: int, column: int, episode: int) -> int:
    """The seed of an episode; depends on run seed, column and episode number only.

    It has 31 bits, as many as every environment takes: ALE, and those with an np.int32 inside.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(column, episode))
    return int(sequence.generate_state(1)[0]) >> 1


def level_seed(seed: int, level: int) -> int:
    """The seed of a level, which all columns of a run share; as `episode_seed`."""
    return episode_seed(seed, NO_COLUMN, level)


class Column:
    """A Gymnasium environment that opens each episode with its own seed and remembers its actions.

    Where only the first one has a seed (`once`), the next ones go on with the environment's
    generator, `np_random`; the state that it had at the start of an episode is remembered, too.

    A game of several lives (`atari.EpisodicLife`) is one episode here: after a lost life `reset`
    does not open a new game but takes the wrapper's idle action.

    Args:
        env: the environment; `reset(seed)` and the same actions must give the same episode.
        seed: seed of the run.
        number: number of the column, counted over all workers.
        once: only the first episode has a seed.
        levels: how many openings there are; None: every episode has its own.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        seed: int,
        number: int,
        once: bool = False,
        levels: int | None = None,
    ) -> None:
        self.env = env
        self.number = number
        self.episode = -1
        self.count = 0
        self.life_lost = False
        self._run_seed, self._once, self._levels = seed, once, levels
        self._opened_with: dict[str, Any] | None = None
        lives = env.has_wrapper_attr("idle_action")
        self._idle_action = env.get_wrapper_attr("idle_action") if lives else None
        shape, dtype = env.action_space.shape, env.action_space.dtype
        self._actions = np.empty((64, *(shape or ())), dtype)
        env.action_space.seed(episode_seed(seed, number, 0))

    @property
    def seed(self) -> int:
        """Seed of the running episode, or of the first one if that alone has one."""
        own = episode_seed(self._run_seed, self.number, 0 if self._once else max(self.episode, 0))
        return own if self._levels is None else level_seed(self._run_seed, own % self._levels)

    def generator(self, over: bool) -> dict[str, Any] | None:
        """The state of np_random from which the running episode opened, or the next one opens.

        Args:
            over: the running episode is over.

        Returns:
            None if the episode has a seed, or the environment no such generator.
        """
        return self._generator() if over and self._once else self._opened_with

    @property
    def actions(self) -> np.ndarray:
        """The actions [count,*] since the reset; empty if there are more than REPLAY_LIMIT.

        A view of what later steps only add to.
        """
        return self._actions[: self.count if self.count <= REPLAY_LIMIT else 0]

    def reset(self) -> Any:
        """Opens the next episode, or the next life of the game; returns its first observation."""
        if self.life_lost:
            obs, _, terminated, truncated, _ = self.step(self._idle_action)
            over = (terminated or truncated) and not self.life_lost
            self.life_lost = False
            if not over:
                return obs
        self.episode += 1
        self.count = 0
        self._actions = np.empty_like(self._actions)
        if self._once and self.episode:
            self._opened_with = self._generator()
            return self.env.reset()[0]
        self._opened_with = None
        return self.env.reset(seed=self.seed)[0]

    def _generator(self) -> dict[str, Any] | None:
        bits = getattr(getattr(self.env.unwrapped, "np_random", None), "bit_generator", None)
        return None if bits is None else bits.state

    def stand_before(self, episode: int, generator: dict[str, Any] | None) -> bool:
        """Lets the next reset open an episode as it opened before; returns whether that works."""
        if self._once and episode:
            self.episode = -1
            self.reset()  # for what it draws from the seed alone
            if generator is None:
                return False
            self.env.unwrapped.np_random.bit_generator.state = generator
        self.episode, self.count, self.life_lost = episode - 1, 0, False
        return True

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps the environment and keeps the action."""
        if self.count < REPLAY_LIMIT:
            if self.count == len(self._actions):
                self._actions = np.concatenate((self._actions, np.empty_like(self._actions)))
            self._actions[self.count] = action
        self.count += 1
        result = self.env.step(action)
        self.life_lost = self._idle_action is not None and result[4]["life_lost"]
        return result

    def reopen(self, episode: int, generator: dict[str, Any] | None) -> Any:
        """Opens an episode again; returns its first observation, or None if that is impossible."""
        possible = self.stand_before(episode, generator)
        obs = self.reset()
        return obs if possible else None

    def repeat(self, obs: Any, actions: np.ndarray) -> Any:
        """Repeats the actions of an episode that was reopened, whose first observation is `obs`.

        Returns:
            The last observation, or None if the episode ends on the way, as it did not before.
        """
        for action in actions:
            obs, _, terminated, truncated, _ = self.step(action)
            if (terminated or truncated) and not self.life_lost:
                return None
        return obs
