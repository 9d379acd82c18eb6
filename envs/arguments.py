"""Settings that an environment does not have are refused before anything runs."""

from __future__ import annotations

import inspect
from typing import Any

from gymnasium.envs.registration import EnvSpec, load_env_creator

from ..core.errors import Guard, did_you_mean, nearest
from ..core.secret_values import masked
from .config import AtariConfig, EnvConfig

OURS = {"num_envs", "max_episode_steps"}
"""Arguments of vector forms that other settings decide."""


def check(config: EnvConfig, spec: EnvSpec) -> None:
    """Raises ValueError for `env.atari` of another environment, and for unknown `env.kwargs`."""
    if spec.namespace != "ALE":
        usual = dict(AtariConfig())
        for name, value in config.atari:
            if value != usual[name]:
                raise ValueError(f"env.atari.{name}={value}: {spec.id} is none of ALE/...-v5")
    _check_kwargs(spec, config.kwargs)


def _check_kwargs(spec: EnvSpec, kwargs: dict[str, Any]) -> None:
    """Raises ValueError for an argument that the constructor of neither form takes."""
    known = _known(spec) if kwargs else None
    unknown = [name for name in kwargs if known is not None and name not in known]
    if not unknown or known is None:
        return
    name, value = unknown[0], masked(kwargs)[unknown[0]]
    limit = name == "max_episode_steps"
    hint = did_you_mean([f"env.time_limit={value}"]) if limit else nearest(name, known)
    takes = ", ".join(known) or "none"
    raise ValueError(
        f"env.kwargs.{name}={value}: {spec.id} has no such argument{hint} (it takes: {takes})"
    )


def _known(spec: EnvSpec) -> list[str] | None:
    """The names of the arguments of both forms; None if one takes any."""
    found: dict[str, inspect.Parameter] = {}
    for entry_point in filter(None, (spec.vector_entry_point, spec.entry_point)):
        creator: Any = entry_point
        if isinstance(creator, str):
            with Guard(lambda: f"env.id={spec.id!r}", ValueError):
                creator = load_env_creator(creator)
        own = {} if entry_point is spec.entry_point else OURS
        parameters = inspect.signature(creator).parameters
        found |= {name: parameters[name] for name in parameters if name not in own}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in found.values()):
        return None
    return list(found)
