"""How the first environment is drawn: into a film, or into a window."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from gymnasium import wrappers as gym_wrappers
from gymnasium.envs.registration import EnvSpec, load_env_creator

from .config import EnvConfig
from .single import building
from .wrappers.single_wrappers import Env, Pictures

DISPLAYS = "DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"
"""Variables of which one is set where a window can be opened on Linux."""


class Drawing(NamedTuple):
    """What is drawn of the first environment; by default nothing."""

    video: str | None = None
    """Folder for the MP4 file of its first episode."""
    window: bool = False
    """Shows it in a window."""
    extend: Callable[[np.ndarray], np.ndarray] | None = None
    """From a picture of the environment to the one that is shown, both [H, W, 3] uint8."""

    @property
    def mode(self) -> str | None:
        """Gymnasium's render mode."""
        if self.window and self.extend is None:
            return "human"
        return "rgb_array" if self.window or self.video else None

    def prepare(self, config: EnvConfig, spec: EnvSpec) -> None:
        """Raises ValueError if the environment cannot be drawn so."""
        if self.video:  # pygame and MuJoCo draw without a screen
            os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
            if sys.platform == "linux" and not os.environ.get("DISPLAY"):
                os.environ.setdefault("MUJOCO_GL", "egl")
            _check_modes(config, spec, "filmed", ["rgb_array"])
        elif self.window:
            if sys.platform == "linux" and not any(map(os.environ.get, DISPLAYS)):
                raise ValueError(
                    "no window can be opened: there is no screen (DISPLAY is not set); a film "
                    "needs none: --video FILE.mp4"
                )
            # Gymnasium opens the window of an environment that only makes pictures.
            own = ["human"] if self.extend is None else []
            _check_modes(config, spec, "shown", [*own, "rgb_array"])

    def around(self, env: Env) -> Env:
        """The environment with what draws it."""
        if self.video:
            return gym_wrappers.RecordVideo(
                Pictures(env, self.extend),
                self.video,
                episode_trigger=lambda number: number == 0,
                disable_logger=True,
            )
        if self.window and self.extend is not None:
            return gym_wrappers.HumanRendering(Pictures(env, self.extend))
        return env


NOTHING = Drawing()


def _check_modes(config: EnvConfig, spec: EnvSpec, done: str, needed: list[str]) -> None:
    """Raises ValueError if the environment has none of the render modes."""
    creator: Any = spec.entry_point
    if isinstance(creator, str):
        with building(config):
            creator = load_env_creator(creator)
    modes = getattr(creator, "metadata", {}).get("render_modes", ["rgb_array"])
    if not set(needed) & set(modes):
        found, wanted = ", ".join(map(str, modes)) or "no render mode", " or ".join(needed)
        raise ValueError(f"env.id={config.id!r}: cannot be {done}: it has {found}, not {wanted}")
