"""Atari games: ALE's C++ vector environment, or single ones with the same preprocessing."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces, wrappers

from ..core.errors import Guard, close
from ..core.tree import Tree
from .config import AtariConfig
from .episodes import episode_seed
from .vector import Envs, Step

Env = gymnasium.Env[Any, Any]


class AtariEnvs(Envs):
    """ALE's C++ vector environment: fast, but its state cannot be restored.

    Args:
        vector: an `ale_py.vector_env.AtariVectorEnv` in NEXT_STEP mode.
        seed: seed of the run.
        columns: numbers of its columns, counted over all workers.
        env_id: for error messages.
        config: says whether lost lives end episodes.
    """

    def __init__(
        self, vector: Any, seed: int, columns: range, env_id: str, config: AtariConfig
    ) -> None:
        self.num_envs = vector.num_envs
        self.observation_space = vector.single_observation_space
        self.action_space = vector.single_action_space
        self.action_space.seed(episode_seed(seed, columns[0], 0))
        self._vector = vector
        self._seed = seed
        self._columns = columns
        self._opened = -1
        self._episodic_life = config.episodic_life
        meanings = [action.name for action in vector.ale.get_action_set()]
        self._idle_action = idle_action(self.action_space, meanings, config.fire_reset)
        self._place = f"{env_id}, columns {columns[0]} to {columns[-1]}, run seed {seed}"
        self._guard = Guard(lambda: self._place)

    def reset(self) -> Tree:
        """Opens a new episode in every column; returns the observations [B,*]."""
        self._opened += 1
        seeds = [episode_seed(self._seed, column, self._opened) for column in self._columns]
        with self._guard:
            obs, info = self._vector.reset(seed=np.array(seeds))
        self._lives = info["lives"]
        self._life_lost = np.zeros(self.num_envs, bool)
        self.obs = obs
        return obs

    def step(self, action: np.ndarray) -> Step:
        """Takes actions [B]; see `Envs.step`."""
        with self._guard:
            if self._episodic_life:
                obs, reward, terminated, truncated = self._step_lives(action)
            else:
                obs, reward, terminated, truncated, _ = self._vector.step(action)
        self.obs = obs
        return obs, reward.astype(np.float64), terminated, truncated

    def _step_lives(self, action: np.ndarray) -> Step:
        """A step in which a lost life terminates; the next step idles and opens an episode."""
        idle = self._life_lost
        if idle.any():
            action = action.copy()
            action[idle] = self._idle_action
        obs, reward, terminated, truncated, info = self._vector.step(action)
        over = terminated | truncated
        if (idle & over).any():  # the game ended while idling: open the next one at once
            obs, info = self._vector.reset(options={"reset_mask": idle & over})
        lives = info["lives"]
        # Without lives a game may run on for some frames: that is its end, not another life.
        self._life_lost = ~idle & ~over & (lives > 0) & (lives < self._lives)
        self._lives = lives
        reward[idle] = 0
        return obs, reward, ~idle & (terminated | self._life_lost), ~idle & truncated

    def snapshot(self) -> dict[str, Any]:
        """How often it was reset: seeds that were used are not used again."""
        return {"opened": self._opened}

    def restore(self, snapshot: dict[str, Any]) -> np.ndarray:
        """Opens new episodes with seeds that were not used yet; no column is restored."""
        self._opened = int(snapshot["opened"])
        self.reset()
        return np.zeros(self.num_envs, bool)

    def close(self) -> None:
        """Frees the emulators."""
        close(self._vector.close, self._place)


class EpisodicLife(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A lost life terminates, and the game goes on: `info["life_lost"]` says so to `Column`.

    Args:
        env: a single ALE environment.
        fire: whether the game's fire button opens the next life.

    Attributes:
        idle_action: what `Column` does to open it.
    """

    def __init__(self, env: Env, fire: bool) -> None:
        super().__init__(env)
        meanings = self.get_wrapper_attr("get_action_meanings")()
        self.idle_action = idle_action(env.action_space, meanings, fire)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Opens a new game."""
        obs, info = self.env.reset(seed=seed, options=options)
        self._lives = info["lives"]
        return obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps, and looks whether a life was lost."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        lost = not (terminated or truncated) and 0 < info["lives"] < self._lives
        self._lives = info["lives"]
        info["life_lost"] = lost
        return obs, reward, terminated or lost, truncated, info


class FireReset(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Presses fire after the reset where the game waits for it; ALE's vector form does so, too."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets and fires."""
        obs, info = self.env.reset(seed=seed, options=options)
        meanings = self.get_wrapper_attr("get_action_meanings")()
        if "FIRE" in meanings:
            obs, _, terminated, truncated, info = self.env.step(meanings.index("FIRE"))
            if terminated or truncated:
                return self.env.reset(options=options)
        return obs, info


def idle_action(space: gymnasium.Space[Any], meanings: list[str], fire: bool) -> np.ndarray:
    """The action that opens the next life: fire where the game has it and `fire`, else nothing."""
    press = fire and "FIRE" in meanings
    if isinstance(space, spaces.Box):  # radius, angle, fire
        return np.array([0, 0, press], space.dtype)
    return np.array(meanings.index("FIRE") if press else 0)


def vector_kwargs(config: AtariConfig, time_limit: int | None, game: str) -> dict[str, Any]:
    """Arguments of ALE's vector environment."""
    return {
        "game": game,
        "frameskip": config.frame_skip,
        "stack_num": config.stack,
        "noop_max": config.noop_max,
        "img_height": config.size,
        "img_width": config.size,
        "repeat_action_probability": config.sticky,
        "episodic_life": False,  # it would restart the game
        "use_fire_reset": config.fire_reset,
        "max_num_frames_per_episode": max_frames(config, time_limit),
        "reward_clipping": False,
    }


def single_kwargs(config: AtariConfig, time_limit: int | None) -> dict[str, Any]:
    """Arguments of a single ALE environment that `preprocess` then wraps."""
    return {
        "frameskip": 1,
        "repeat_action_probability": config.sticky,
        "max_num_frames_per_episode": max_frames(config, time_limit),
    }


def max_frames(config: AtariConfig, time_limit: int | None) -> int:
    """The shorter of ALE's limit and the time limit (in steps), in frames."""
    return min(config.max_frames, (time_limit or config.max_frames) * config.frame_skip)


def preprocess(env: Env, config: AtariConfig) -> Env:
    """Grey, small, max-pooled and stacked frames [stack, size, size]."""
    env = wrappers.AtariPreprocessing(env, config.noop_max, config.frame_skip, config.size)
    if config.fire_reset:
        env = FireReset(env)
    env = wrappers.FrameStackObservation(env, config.stack, padding_type="zero")
    return EpisodicLife(env, config.fire_reset) if config.episodic_life else env
