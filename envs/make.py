"""From a config to Envs: any Gymnasium id, with the wrappers that the config asks for."""

from __future__ import annotations

import os
import sys
from typing import Any, Literal

import gymnasium
from gymnasium import spaces
from gymnasium import wrappers as gym_wrappers
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import AutoresetMode, VectorEnv
from pydantic import BaseModel, Field

from . import adapted, ids, wrappers
from .adapted import Adapted, Change
from .atari import AtariConfig, AtariEnvs, preprocess, single_kwargs, vector_kwargs
from .episodes import Column
from .errors import Guard
from .native import NativeEnvs
from .observations import supported
from .vector import Envs, SyncEnvs
from .wrappers import Env


class EnvConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """One environment and what the agent sees of it."""

    id: str = "CartPole-v1"
    """A Gymnasium id, or `module:Id` to import the module that registers it."""
    kwargs: dict[str, Any] = {}
    """Arguments of the environment's constructor."""
    vectorization: Literal["auto", "sync", "native"] = "auto"
    """sync: one after the other; native: the environment's own vector form; auto: native for
    Gymnasium's and ALE's, which are known to do it well, and where there is no single form."""
    time_limit: int | None = Field(default=None, gt=0)
    """Steps after which an episode is truncated; null: the id's own limit."""
    frame_stack: int = Field(default=1, gt=0)
    """Last observations seen together, joined along the channels."""
    mask_velocity: bool = False
    """Hides the velocities, so that memory is needed."""
    flatten: bool = False
    """Makes one float vector of the observation; Discrete parts become one-hot."""
    rescale_actions: bool = True
    """Bounded Box actions are [-1, 1] to the agent, clipped and scaled; false: clipped only."""
    reward_scale: float = 1.0
    """Factor of the reward that the agent learns from; logged returns stay raw."""
    reward_clip: float | None = Field(default=None, gt=0)
    """Limit of the scaled reward's size, so that one learning rate suits many games."""
    atari: AtariConfig = AtariConfig()
    """Preprocessing of ALE ids."""

    def for_evaluation(self, filmed: bool = False) -> EnvConfig:
        """The same game, in whole episodes; from single environments if it is `filmed`."""
        atari = self.atari.model_copy(update={"episodic_life": False})
        vectorization = "sync" if filmed else self.vectorization
        return self.model_copy(update={"atari": atari, "vectorization": vectorization})


def make(
    config: EnvConfig,
    num_envs: int,
    seed: int,
    first_column: int = 0,
    render_mode: str | None = None,
    video: str | None = None,
) -> Envs:
    """Makes the environments of columns first_column ... first_column + num_envs - 1.

    Args:
        config: what to make.
        num_envs: B.
        seed: of the run; an episode depends on seed, column and episode number only.
        first_column: number of the first column, counted over all workers.
        render_mode: Gymnasium's, for every environment.
        video: folder for the MP4 file of the first environment's first episode.

    Raises:
        ValueError: the config asks for what can't be made.
    """
    spec = ids.find(config.id)
    columns = range(first_column, first_column + num_envs)
    if _native(config, spec, render_mode, video):
        envs = _make_native(config, spec, seed, columns)
    else:
        envs = _make_sync(config, spec, seed, columns, render_mode, video)
    return _adapt(envs, config)


def _native(config: EnvConfig, spec: EnvSpec, render_mode: str | None, video: str | None) -> bool:
    if config.vectorization == "sync":
        return False
    reason = None
    if spec.vector_entry_point is None:
        reason = "it has no vector entry point"
    elif spec.namespace == "phys2d":
        reason = "its vector entry point is JAX, not NumPy"
    elif config.frame_stack > 1:
        reason = "env.frame_stack wraps single environments"
    elif render_mode or video:
        reason = "rendering needs single environments"
    if reason and config.vectorization == "native":
        raise ValueError(
            f"env.vectorization=native: {reason} ({config.id}); use env.vectorization=sync"
        )
    foreign = not _module(spec.vector_entry_point).startswith(("gymnasium.", "ale_py."))
    if config.vectorization == "auto" and foreign and spec.entry_point is not None:
        return False
    return reason is None


def _module(entry_point: Any) -> str:
    """The module of an entry point of Gymnasium, text or callable."""
    return entry_point if isinstance(entry_point, str) else getattr(entry_point, "__module__", "")


def _make_native(config: EnvConfig, spec: EnvSpec, seed: int, columns: range) -> Envs:
    atari = spec.namespace == "ALE"
    limit = config.time_limit or spec.max_episode_steps
    if atari:
        kwargs = vector_kwargs(config.atari, config.time_limit, spec.kwargs["game"])
    else:
        kwargs = {**spec.kwargs, **({"max_episode_steps": limit} if limit else {})}
    assert spec.vector_entry_point is not None
    creator: Any = spec.vector_entry_point
    if isinstance(creator, str):
        creator = load_env_creator(creator)
    with _building(config):
        vector: VectorEnv = creator(num_envs=len(columns), **{**kwargs, **config.kwargs})
    if vector.metadata.get("autoreset_mode") != AutoresetMode.NEXT_STEP:
        raise ValueError(
            f"env.vectorization={config.vectorization}: {config.id}'s vector form does not reset "
            "itself in NEXT_STEP mode; use env.vectorization=sync"
        )
    form = AtariEnvs if atari else NativeEnvs
    return form(vector, seed, columns, config.id)


def _make_sync(
    config: EnvConfig,
    spec: EnvSpec,
    seed: int,
    columns: range,
    render_mode: str | None,
    video: str | None,
) -> Envs:
    made = []
    if video:
        _prepare_film(config, spec)
    for index, number in enumerate(columns):
        with _building(config):
            env = _make_one(config, spec, "rgb_array" if video else render_mode)
            if video and index == 0:
                env = gym_wrappers.RecordVideo(
                    env, video, episode_trigger=lambda number: number == 0, disable_logger=True
                )
            made.append(Column(env, seed, number))
    space = supported(made[0].env.observation_space, f"{config.id}: observation_space")
    return SyncEnvs(made, space, config.id)


def _prepare_film(config: EnvConfig, spec: EnvSpec) -> None:
    """Lets pygame and MuJoCo draw without a screen; ValueError if the environment cannot draw."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
    creator: Any = spec.entry_point
    if isinstance(creator, str):
        with _building(config):
            creator = load_env_creator(creator)
    modes = getattr(creator, "metadata", {}).get("render_modes", ["rgb_array"])
    if "rgb_array" not in modes:
        found = ", ".join(map(str, modes)) or "no render mode"
        raise ValueError(f"env.id={config.id!r}: cannot be filmed: it has {found}, not rgb_array")


def _make_one(config: EnvConfig, spec: EnvSpec, render_mode: str | None) -> Env:
    atari = spec.namespace == "ALE"
    limit = None if atari else config.time_limit
    kwargs = single_kwargs(config.atari, config.time_limit) if atari else {}
    kwargs.update(config.kwargs)
    if render_mode:
        kwargs["render_mode"] = render_mode
    env: Env = gymnasium.make(spec, limit, disable_env_checker=True, **kwargs)
    if atari:
        env = preprocess(env, config.atari)
    elif "bipedal_walker" in str(spec.entry_point):
        env = wrappers.FreshWorld(env)
    elif wrappers.has_mission(env.observation_space):
        env = wrappers.WithoutMission(env)
    if config.frame_stack > 1:
        env = gym_wrappers.FrameStackObservation(env, config.frame_stack)
    return env


def _adapt(envs: Envs, config: EnvConfig) -> Envs:
    observe: list[Change] = []
    space = envs.observation_space
    for wanted, build in (
        (True, adapted.from_zero),
        (config.mask_velocity, lambda space: adapted.without_velocity(space, config.id)),
        (config.frame_stack > 1, adapted.join_frames),
        (config.flatten, adapted.flatten),
    ):
        change = build(space) if wanted else None
        if change is not None:
            observe.append(change)
            space = change[0]
    what = f"{config.id}: action_space"
    space = envs.action_space
    if isinstance(space, spaces.Dict | spaces.Tuple):
        raise ValueError(f"{what} is a {type(space).__name__}; flatten it in a wrapper of your own")
    space = supported(space, what)
    act = adapted.actions(space, config.rescale_actions)
    if not observe and act is None:
        return envs
    return Adapted(envs, observe, act)


def _building(config: EnvConfig) -> Guard:
    kwargs = f" env.kwargs={config.kwargs}" if config.kwargs else ""
    return Guard(lambda: f"env.id={config.id!r}{kwargs}", ValueError)
