"""Single environments: made from their spec, with the wrappers that the config asks for."""

from __future__ import annotations

import copy
import os
import sys
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from ..core.errors import Guard
from ..core.secret_values import masked
from .atari import preprocess, single_kwargs
from .config import EnvConfig
from .wrappers import single_wrappers
from .wrappers.single_wrappers import Env

DISPLAYS = "DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"
"""Variables of which one is set where a window can be opened on Linux."""


def prepare_film(config: EnvConfig, spec: EnvSpec) -> None:
    """Lets pygame and MuJoCo draw without a screen; ValueError if the environment cannot draw."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
    _check_draws(config, spec, "filmed", ["rgb_array"])


def prepare_window(config: EnvConfig, spec: EnvSpec) -> None:
    """Raises ValueError if there is no screen, or the environment cannot draw.

    Gymnasium opens the window of an environment that only makes pictures.
    """
    if sys.platform == "linux" and not any(map(os.environ.get, DISPLAYS)):
        raise ValueError(
            "no window can be opened: there is no screen (DISPLAY is not set); a film needs none: "
            "--video FILE.mp4"
        )
    _check_draws(config, spec, "shown", ["human", "rgb_array"])


def _check_draws(config: EnvConfig, spec: EnvSpec, done: str, needed: list[str]) -> None:
    """Raises ValueError if the environment has none of the render modes."""
    creator: Any = spec.entry_point
    if isinstance(creator, str):
        with building(config):
            creator = load_env_creator(creator)
    modes = getattr(creator, "metadata", {}).get("render_modes", ["rgb_array"])
    if not set(needed) & set(modes):
        found, wanted = ", ".join(map(str, modes)) or "no render mode", " or ".join(needed)
        raise ValueError(f"env.id={config.id!r}: cannot be {done}: it has {found}, not {wanted}")


def make_single(config: EnvConfig, spec: EnvSpec, render_mode: str | None) -> Env:
    """One environment with what its kind needs, without a seed; call it in `building`."""
    atari = spec.namespace == "ALE"
    limit = None if atari else config.time_limit
    spec = copy.copy(spec)  # arguments of any name reach the constructor, those of `make` too
    ours = single_kwargs(config.atari, config.time_limit) if atari else {}
    spec.kwargs = {**spec.kwargs, **ours, **config.kwargs}
    if render_mode:
        spec.kwargs["render_mode"] = render_mode
    env: Env = gymnasium.make(spec, limit, disable_env_checker=True)
    if atari:
        env = preprocess(env, config.atari)
    elif single_wrappers.is_from(single_wrappers.BIPEDAL_WALKER, env):
        env = single_wrappers.FreshWorld(env)
    elif single_wrappers.is_from(single_wrappers.MINATAR, env):
        env = single_wrappers.FreshActions(env)
    elif single_wrappers.is_from(single_wrappers.MINIGRID, env):
        env = single_wrappers.MiniGrid(env)
    return env


def building(config: EnvConfig) -> Guard:
    """Makes a ValueError of what the environment's constructor raises; says which one it is."""
    kwargs = f" env.kwargs={masked(config.kwargs, 'env.kwargs')}" if config.kwargs else ""
    return Guard(lambda: f"env.id={config.id!r}{kwargs}", ValueError)
