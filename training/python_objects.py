"""Environments, agents and networks that a program gives as objects instead of names."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import gymnasium
from gymnasium.vector import VectorEnv

from .. import configs
from ..agents.agent import Agent
from ..agents.choices import agent_class
from ..configs import Config
from ..core.errors import Guard, shorten
from ..core.registry import PROGRAM
from ..envs import EnvConfig
from ..networks import Backbone, block_class

Env = gymnasium.Env[Any, Any]
Maker = Callable[..., Env]
_CHOICES: dict[str, tuple[type[Any], Callable[[str], type[Any]]]] = {
    "agent": (Agent, agent_class),
    "network": (Backbone, block_class),
}
"""What a class must be, and which one a name chooses."""


def load_config(
    words: Iterable[str],
    overrides: Mapping[str, Any],
    load: Callable[..., Config] = configs.load,
) -> Config:
    """The configuration of words and Python values, of which some may be objects.

    Args:
        words: As on the command line.
        overrides: More words. `env` may be a class of environments, a function that makes one, or
            an environment, of which each column gets a copy; `agent` and `network` may be classes.
        load: Takes both, with names in place of objects.

    Raises:
        ValueError: An object cannot be used; names the key, and what is expected. Or see `load`.
    """
    values, maker = dict(overrides), None
    for key in _CHOICES:
        if inspect.isclass(values.get(key)):
            values[key] = _class_name(key, values[key])
    if not isinstance(values.get("env", ""), str):
        values["env"], maker = _environment(values["env"])
    cfg = load(words, **values)
    names = [cfg.agent.name, *cfg.block_names()]
    here = next((name for name in names if name.startswith(f"{PROGRAM}:")), None)
    learner = cfg.learner
    if here and (cfg.ray.workers or learner.count > 1 or learner.placement == "actor"):
        own = f"learner.count={learner.count}, learner.placement={learner.placement}"
        where = f"ray.workers={cfg.ray.workers}, {own}"
        raise ValueError(
            f"{here}: other processes ({where}) cannot import it; put the class into a module"
        )
    return cfg if maker is None else cfg.model_copy(update={"env": cfg.env.made_by(maker)})


def given(config: EnvConfig, env: Any) -> EnvConfig:
    """The settings of an environment with another one in its place, see `load_config`."""
    name, maker = (env, None) if isinstance(env, str) else _environment(env)
    return config.model_copy(update={"id": name}).made_by(maker)


def _environment(given: Any) -> tuple[str, Maker | None]:
    """The name of an environment, and what makes it."""
    kind = given if inspect.isclass(given) else type(given)
    if issubclass(kind, VectorEnv):
        raise ValueError(
            f"env: {kind.__name__} has several environments; give one, and num_envs=8 for instance"
        )
    if isinstance(given, gymnasium.Env):
        return f"{PROGRAM}:{type(given.unwrapped).__name__}", _copies(given)
    if not callable(given) or (inspect.isclass(given) and not issubclass(given, gymnasium.Env)):
        raise ValueError(
            f"env={shorten(given)}: expected an id, a class of gymnasium.Env, a function that "
            "makes an environment, or an environment"
        )
    if _is_importable(given):
        return f"{given.__module__}:{given.__name__}", None
    name = getattr(given, "__name__", type(given).__name__)
    maker: Any = given
    return f"{PROGRAM}:{name.strip('<>')}", maker


def _copies(env: Env) -> Maker:
    """What makes copies of an environment. Raises ValueError if it cannot be copied."""
    name = type(env.unwrapped).__name__
    way = "give its class, or a function that makes it"
    with Guard(
        lambda: f"env: {name} cannot be copied, and each column needs one; {way}", ValueError
    ):
        kept = copy.deepcopy(env)  # as it is now, whatever becomes of it

    def copied(render_mode: str | None = None) -> Env:
        if render_mode not in (None, env.render_mode):
            raise ValueError(f"made with render_mode={env.render_mode}, not {render_mode}")
        return copy.deepcopy(kept)

    return copied


def _class_name(key: str, cls: type[Any]) -> str:
    """The name that chooses a class: its own, or MODULE:CLASS.

    Raises ValueError if it is no such class, or at the top of no module.
    """
    base, chosen = _CHOICES[key]
    if not issubclass(cls, base) or not hasattr(cls, "Config"):
        expected = f"a subclass of {base.__name__} with its Config inside"
        raise ValueError(f"{key}={cls.__name__}: expected {expected}")
    own = cls.Config.model_fields["name"].default
    with suppress(ValueError):
        if isinstance(own, str) and chosen(own) is cls:
            return own
    if not _is_at_top(cls):
        raise ValueError(
            f"{key}={cls.__qualname__}: expected a class at the top of a module, where a stored "
            "run finds it again"
        )
    return f"{cls.__module__}:{cls.__name__}"


def _is_at_top(thing: Any) -> bool:
    """Whether its module has it by its name."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__name__", "")
    return getattr(sys.modules.get(module or ""), name, None) is thing


def _is_importable(thing: Any) -> bool:
    """Whether another program finds it by its module and its name."""
    return thing.__module__ != PROGRAM and _is_at_top(thing)
