"""Wrappers of single environments; the others are Gymnasium's own (see `make`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from ..observations import Space, map_space, space_leaves

Env = gymnasium.Env[Any, Any]
MINIGRID = "minigrid.minigrid_env"
MINATAR = "minatar.gym"
BIPEDAL_WALKER = "gymnasium.envs.box2d.bipedal_walker"
SYMBOLS = {"FullyObsWrapper": 10, "ViewSizeWrapper": 10, "OneHotPartialObsWrapper": 1}
"""The largest number in the images that these wrappers of MiniGrid make; their spaces say 255."""


class MiniGrid(gymnasium.ObservationWrapper[Any, Any, Any]):
    """MiniGrid without the text of its mission; images of symbols with their true bound, not 255.

    The bound is 10 in what the environment itself shows. Other images stay as their wrapper says.
    """

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        space = env.observation_space
        self._kept: list[str] | None = None
        if isinstance(space, spaces.Dict):
            self._kept = [key for key in space if key != "mission" or not _is_text(space[key])]
            space = spaces.Dict({key: space[key] for key in self._kept})
        self.observation_space = map_space(self._bounded, space)

    def observation(self, observation: Any) -> Any:
        """The observation without the mission."""
        return observation if self._kept is None else {key: observation[key] for key in self._kept}

    def _bounded(self, space: Space) -> Space:
        if not isinstance(space, spaces.Box) or space.dtype != np.uint8:
            return space
        maker = layer = self.env
        while isinstance(layer, gymnasium.Wrapper):
            layer = layer.env
            if any(part is space for part in space_leaves(layer.observation_space)):
                maker = layer  # those around it only hand it on
        bound = SYMBOLS.get(type(maker).__name__)
        own: Any = self.unwrapped
        if maker is own and own.gen_obs.__module__ == MINIGRID:
            bound = 10
        return spaces.Box(0, bound, space.shape, np.uint8) if bound else space


class FreshWorld(gymnasium.Wrapper[Any, Any, Any, Any]):
    """BipedalWalker with a new Box2D world for each episode.

    Gymnasium keeps one world, and what an episode leaves in it changes the contacts of later ones:
    the same seed and actions do not repeat an episode. (In LunarLander Gymnasium has mended it.)
    """

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Replaces the world, then resets."""
        walker: Any = self.unwrapped
        walker._destroy()
        walker.world = type(walker.world)()
        return self.env.reset(seed=seed, options=options)


class FreshActions(gymnasium.Wrapper[Any, Any, Any, Any]):
    """MinAtar without sticky actions across a reset: before the first action stands a no-op.

    Otherwise the same seed and actions do not repeat an episode.
    """

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Forgets the last action, then resets."""
        game: Any = self.unwrapped
        game.game.last_action = 0
        return self.env.reset(seed=seed, options=options)


class Pictures(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Refuses at once a result that is no picture; Gymnasium's recorder only writes no film.

    Args:
        env: Renders pictures.
        extend: Makes the picture that is given from the environment's own; None: it is that.
    """

    def __init__(self, env: Env, extend: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        super().__init__(env)
        self._extend = extend

    def render(self) -> Any:
        """The picture [height, width, channels]. Raises ValueError if `render` gives none."""
        frame = self.env.render()
        if not isinstance(frame, np.ndarray) or frame.ndim != 3:
            found = f"shape {frame.shape}" if isinstance(frame, np.ndarray) else repr(frame)
            raise ValueError(
                f"render() gave {found[:50]}, expected a picture [height, width, channels]"
            )
        if frame.dtype.kind == "f":  # MinAtar's are in [0, 1]: a film of them would be black
            frame = (frame * (255 if frame.max() <= 1 else 1)).round().astype(np.uint8)
        return frame if self._extend is None else self._extend(frame)


def is_from(module: str, env: Env) -> bool:
    """Whether the environment below all wrappers is of a class of this module, or of its kind."""
    return any(base.__module__ == module for base in type(env.unwrapped).__mro__)


def _is_text(space: Space) -> bool:
    return space.dtype is not None and space.dtype.kind == "U"
