"""Atari games: ALE's C++ vector environment, or single ones with the same preprocessing."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import wrappers
from pydantic import BaseModel, Field

from .episodes import episode_seed
from .errors import Guard, close
from .tree import Tree
from .vector import Envs, Step

Env = gymnasium.Env[Any, Any]


class AtariConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """How ALE's frames become observations [stack, size, size] uint8."""

    frame_skip: int = Field(default=4, gt=0)
    """Frames an action is held for; the last two are max-pooled."""
    stack: int = Field(default=4, gt=0)
    """Grey frames in an observation, one every `frame_skip`."""
    noop_max: int = Field(default=30, ge=0)
    """At most so many idle frames open an episode, so that starts differ."""
    size: int = Field(default=84, gt=0)
    """Height and width in pixels."""
    sticky: float = Field(default=0.25, ge=0, lt=1)
    """Probability of repeating the last action (0.25: Machado et al. 2018; 0: Mnih et al. 2015)."""
    episodic_life: bool = False
    """Lost lives end episodes; for training only, it makes returns incomparable."""
    fire_reset: bool = True
    """Presses fire at the start where the game waits for it."""
    max_frames: int = Field(default=108_000, gt=0)
    """An episode is truncated after so many frames (30 minutes of play)."""


class AtariEnvs(Envs):
    """ALE's C++ vector environment: fast, but it can't be brought back to where it stood.

    Args:
        vector: an `ale_py.vector_env.AtariVectorEnv` in NEXT_STEP mode.
        seed: of the run.
        columns: numbers of its columns, counted over all workers.
        env_id: for error messages.
    """

    def __init__(self, vector: Any, seed: int, columns: range, env_id: str) -> None:
        self.num_envs = vector.num_envs
        self.observation_space = vector.single_observation_space
        self.action_space = vector.single_action_space
        self.action_space.seed(episode_seed(seed, columns[0], 0))
        self._vector = vector
        self._seed = seed
        self._columns = columns
        self._opened = -1
        self._place = f"{env_id}, columns {columns[0]} to {columns[-1]}, run seed {seed}"
        self._guard = Guard(lambda: self._place)

    def reset(self) -> Tree:
        """Opens a new episode in every column; returns the observations [B,*]."""
        self._opened += 1
        seeds = [episode_seed(self._seed, column, self._opened) for column in self._columns]
        with self._guard:
            # ALE takes 31 bits.
            obs, _ = self._vector.reset(seed=np.array(seeds) >> 1)
        self.obs = obs
        return obs

    def step(self, action: np.ndarray) -> Step:
        """Takes actions [B]; see `Envs.step`."""
        with self._guard:
            obs, reward, terminated, truncated, _ = self._vector.step(action)
        self.obs = obs
        return obs, reward.astype(np.float64), terminated, truncated

    def snapshot(self) -> dict[str, Any]:
        """How often it was reset: the seeds that are used up."""
        return {"opened": self._opened}

    def restore(self, snapshot: dict[str, Any]) -> np.ndarray:
        """Opens new episodes with seeds that were not used yet; no column is restored."""
        self._opened = int(snapshot["opened"])
        self.reset()
        return np.zeros(self.num_envs, bool)

    def close(self) -> None:
        """Frees the emulators."""
        close(self._vector.close, self._place)


class FireReset(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Presses fire after the reset where the game waits for it, as ALE's vector environment."""

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
        "episodic_life": config.episodic_life,
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
    env = wrappers.AtariPreprocessing(
        env, config.noop_max, config.frame_skip, config.size, config.episodic_life
    )
    if config.fire_reset:
        env = FireReset(env)
    return wrappers.FrameStackObservation(env, config.stack, padding_type="zero")
