"""Wrappers of single environments; the others are Gymnasium's own (see `make`)."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

Env = gymnasium.Env[Any, Any]


class WithoutMission(gymnasium.ObservationWrapper[Any, Any, Any]):
    """MiniGrid without its mission text; the image's bound is its true one, 10, not 255."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Dict)
        kept = {k: v for k, v in env.observation_space.spaces.items() if k != "mission"}
        image = kept["image"]
        kept["image"] = spaces.Box(0, 10, image.shape, np.uint8)
        self.observation_space = spaces.Dict(kept)
        self._keys = tuple(kept)

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """Drops the mission."""
        return {key: observation[key] for key in self._keys}


class FreshWorld(gymnasium.Wrapper[Any, Any, Any, Any]):
    """BipedalWalker with a new Box2D world for each episode.

    Gymnasium keeps one world, whose leftovers change the contacts of later episodes, so that a seed
    and its actions do not bring an episode back (LunarLander was cured of it upstream).
    """

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Replaces the world, then resets."""
        walker: Any = self.unwrapped
        walker._destroy()
        walker.world = type(walker.world)()
        return self.env.reset(seed=seed, options=options)


def has_mission(space: spaces.Space[Any]) -> bool:
    """Whether the space is MiniGrid's: a Dict with an image and a mission text."""
    return isinstance(space, spaces.Dict) and {"image", "mission"} <= set(space.spaces)
