"""Makes the environments of a config: any Gymnasium id, with its wrappers and transforms."""

from __future__ import annotations

from functools import partial
from typing import Any

from gymnasium import spaces
from gymnasium import wrappers as gym_wrappers
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import AutoresetMode, VectorEnv

from ..core.memory import lower
from ..core.secret_values import take
from . import arguments, ids
from .atari import AtariEnvs, vector_kwargs
from .config import EnvConfig
from .episodes import Column
from .native import NativeEnvs
from .observations import Space, checked_kind, supported, with_layout
from .single import building, make_single, prepare_film
from .sync import SyncEnvs
from .vector import Envs
from .wrappers import single_wrappers, transforms
from .wrappers.action_masks import ActionMasks, Masked, beside_mask
from .wrappers.actions import of_actions
from .wrappers.last_action import LastActionEnvs
from .wrappers.transforms import Transform, TransformedEnvs


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
        seed: seed of the run; an episode depends on it, the column and the episode's number only.
        first_column: number of the first column, counted over all workers.
        render_mode: Gymnasium's, for every environment.
        video: folder for the MP4 file of the first environment's first episode.

    Raises:
        ValueError: such environments cannot be made.
    """
    take(config.kwargs, "env.kwargs")
    spec = ids.find(config.id)
    arguments.check(config, spec)
    columns = range(first_column, first_column + num_envs)
    if _native(config, spec, render_mode, video):
        envs = _make_native(config, spec, seed, columns)
    else:
        envs = _make_sync(config, spec, seed, columns, render_mode, video)
    return _transformed(envs, config)


def _native(config: EnvConfig, spec: EnvSpec, render_mode: str | None, video: str | None) -> bool:
    if config.vectorization == "sync":
        return False
    reason = None
    if spec.vector_entry_point is None:
        reason = "it has no vector entry point"
    elif spec.namespace == "phys2d":
        reason = "its vector entry point is JAX, not NumPy"
    elif spec.additional_wrappers:
        reason = "its additional_wrappers are for single environments"
    elif config.reseed == "once" and spec.namespace != "ALE":  # whose games have no other seeds
        reason = "env.reseed=once is for single environments"
    elif config.levels:
        reason = "env.levels is for single environments"
    elif config.frame_stack > 1:
        reason = "env.frame_stack wraps single environments"
    elif config.action_mask and spec.namespace == "ALE":
        reason = "its vector form gives no action masks"
    elif render_mode or video:
        reason = "rendering needs single environments"
    if reason and (config.vectorization == "native" or spec.entry_point is None):
        way = "use env.vectorization=sync" if spec.entry_point else "and it has no single form"
        raise ValueError(f"env.vectorization={config.vectorization}: {reason} ({config.id}); {way}")
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
    with building(config), lower(f"num_envs={columns.stop - columns.start}"):
        vector: VectorEnv = creator(num_envs=len(columns), **{**kwargs, **config.kwargs})
    if vector.metadata.get("autoreset_mode") != AutoresetMode.NEXT_STEP:
        raise ValueError(
            f"env.vectorization={config.vectorization}: {config.id}'s vector form does not reset "
            "itself in NEXT_STEP mode; use env.vectorization=sync"
        )
    if atari:
        return AtariEnvs(vector, seed, columns, config.id, config.atari)
    masks = None
    if config.action_mask:
        one = vector.single_observation_space, vector.single_action_space
        masks = ActionMasks(config, *one, (len(columns),))
    return NativeEnvs(vector, seed, columns, config.id, config.check, masks)


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
        prepare_film(config, spec)
    for index, number in enumerate(columns):
        with building(config), lower(f"num_envs={columns.stop - columns.start}"):
            env = make_single(config, spec, "rgb_array" if video else render_mode)
            if video and index == 0:
                env = gym_wrappers.RecordVideo(
                    single_wrappers.Pictures(env),
                    video,
                    episode_trigger=lambda number: number == 0,
                    disable_logger=True,
                )
        if config.action_mask:
            env = Masked(env, ActionMasks(config, env.observation_space, env.action_space))
        with building(config):
            made.append(Column(env, seed, number, config.reseed == "once", config.levels))
    space = supported(made[0].env.observation_space, f"{config.id}: observation_space")
    return SyncEnvs(made, space, config.id, config.check)


def _transformed(envs: Envs, config: EnvConfig) -> Envs:
    """The environments as the config wants the agent to see them."""
    envs.observation_space = with_layout(envs.observation_space, config)
    of_obs = of_observations(envs.observation_space, config)
    what = f"{config.id}: action_space"
    space = envs.action_space
    if isinstance(space, spaces.Dict | spaces.Tuple):
        raise ValueError(f"{what} is a {type(space).__name__}; flatten it in a wrapper of your own")
    of_action = of_actions(checked_kind(space, what), config.rescale_actions)
    if of_obs or of_action:
        envs = TransformedEnvs(envs, of_obs, of_action)
    if config.last_action:
        envs = LastActionEnvs(envs, config.reward_scale, config.reward_clip)
    return envs


def of_observations(space: Space, config: EnvConfig) -> list[Transform]:
    """From the environments' observations to the agent's, one transform after the other."""
    of_obs: list[Transform] = []
    positions = partial(transforms.without_velocity, env_id=config.id)
    for wanted, build in (
        (True, transforms.count_from_zero),
        (config.mask_velocity, partial(beside_mask, positions)),
        (config.frame_stack > 1, transforms.join_frames),
        (config.flatten, partial(beside_mask, transforms.flatten)),
    ):
        transform = build(space) if wanted else None
        if transform is not None:
            of_obs.append(transform)
            space, _ = transform
    return of_obs
