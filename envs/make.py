"""Makes the environments of a config: any Gymnasium id, with its wrappers and transforms."""

from __future__ import annotations

from typing import Any

from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import AutoresetMode, VectorEnv

from ..core.memory import lower
from ..core.secret_values import take
from . import arguments, ids
from .atari import AtariEnvs, vector_kwargs
from .columns import OwnSpaces, make_sync
from .config import EnvConfig
from .drawing import NOTHING, Drawing
from .native import NativeEnvs
from .processes.async_envs import AsyncEnvs
from .single import building
from .vector import Envs
from .wrappers.action_masks import ActionMasks
from .wrappers.interface import Interface
from .wrappers.last_action import LastActionEnvs
from .wrappers.transforms import TransformedEnvs


def make(
    config: EnvConfig,
    num_envs: int,
    seed: int,
    first_column: int = 0,
    drawing: Drawing = NOTHING,
) -> Envs:
    """Makes the environments of columns first_column ... first_column + num_envs - 1.

    Args:
        config: what to make.
        num_envs: B.
        seed: seed of the run; an episode depends on it, the column and the episode's number only.
        first_column: number of the first column, counted over all workers.
        drawing: what is drawn of the first environment.

    Raises:
        ValueError: such environments cannot be made.
    """
    columns = range(first_column, first_column + num_envs)
    envs, own = _make(config, seed, columns, drawing)
    try:
        return _transformed(envs, Interface(config, *own))
    except BaseException:
        envs.close()
        raise


def probe(config: EnvConfig, seed: int) -> Interface:
    """Makes an environment to see its spaces; arguments and errors as those of `make`."""
    envs, own = _make(config, seed, range(1))
    envs.close()
    return Interface(config, *own)


def _make(
    config: EnvConfig, seed: int, columns: range, drawing: Drawing = NOTHING
) -> tuple[Envs, OwnSpaces]:
    """The environments, and the spaces of one before stacks, masks and transforms."""
    take(config.kwargs, "env.kwargs")
    spec = ids.find(config)
    arguments.check(config, spec)
    if _native(config, spec, drawing):
        return _make_native(config, spec, seed, columns)
    if config.vectorization == "async" and len(columns) > 1:
        assert not drawing.mode, "films and windows are of vectorization=sync"
        envs = AsyncEnvs(config, spec, seed, columns)
        return envs, envs.own_spaces
    return make_sync(config, spec, seed, columns, drawing)


def _native(config: EnvConfig, spec: EnvSpec, drawing: Drawing) -> bool:
    if config.vectorization in ("sync", "async"):
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
    elif drawing.mode:
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


def _make_native(
    config: EnvConfig, spec: EnvSpec, seed: int, columns: range
) -> tuple[Envs, OwnSpaces]:
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
    own = vector.single_observation_space, vector.single_action_space
    if atari:
        return AtariEnvs(vector, seed, columns, config.id, config.atari), own
    masks = ActionMasks(config, *own, (len(columns),)) if config.action_mask else None
    return NativeEnvs(vector, seed, columns, config.id, config.check, masks), own


def _transformed(envs: Envs, interface: Interface) -> Envs:
    """The environments as the agent sees them."""
    envs.observation_space = interface.given_space
    if interface.of_obs or interface.of_action:
        envs = TransformedEnvs(envs, interface.of_obs, interface.of_action)
    if interface.last_action is not None:
        envs = LastActionEnvs(envs, interface.last_action)
    return envs
