"""Single environments: made from their spec, with the wrappers that the config asks for."""

from __future__ import annotations

import copy

import gymnasium
from gymnasium.envs.registration import EnvSpec

from ..core.errors import Guard
from ..core.secret_values import masked
from .atari import preprocess, single_kwargs
from .config import EnvConfig
from .wrappers import single_wrappers
from .wrappers.single_wrappers import Env


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
