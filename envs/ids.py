"""An environment's id: its Gymnasium spec, the limit of its episodes, and a hint at similar ids."""

from __future__ import annotations

import importlib
import importlib.util
import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import gymnasium
from gymnasium.envs.registration import EnvSpec

from ..core.errors import Guard, did_you_mean, nearest, similar
from ..core.registry import PROGRAM, import_own
from .atari import max_frames
from .config import EnvConfig

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvCreator

MODULES = {"ALE/": "ale_py", "MiniGrid-": "minigrid", "BabyAI-": "minigrid", "MinAtar/": "minatar"}
"""The package that registers the ids with a prefix."""
JAX = ("phys2d", "tabular")
"""Namespaces of Gymnasium that need JAX."""
_ATARI = re.compile(
    r"(?:ALE/)?(?P<game>[A-Z]\w*?)(?:-ram)?(?:NoFrameskip|Deterministic)?(?:-v(?P<version>\d+))?"
)


def find(config: EnvConfig) -> EnvSpec:
    """The spec of what a config makes. Raises ValueError if there is no such environment."""
    if config.maker is not None:
        return EnvSpec(config.id, entry_point=config.maker)
    return _by_id(config.id)


def _by_id(env_id: str) -> EnvSpec:
    """The spec of `Id`, or after importing the module that of `module:Id` or of its class.

    Raises:
        ValueError: the id, its module or its package does not exist.
    """
    module, _, name = env_id.rpartition(":")
    package = known_package(name) or ("ale_py" if "NoFrameskip-v" in name else None)
    place = f"env.id={env_id!r}"
    if module == PROGRAM:
        raise ValueError(
            f"{place}: the program that trained has made it; put it into a module of yours and "
            f"give env.id=my_module:{name}"
        )
    imported = import_own(module, place) if module else None
    if package is not None:  # which is installed: not looked for in the current directory
        with Guard(lambda: place, ValueError):
            _register(package)
    spec = gymnasium.registry.get(name)
    if spec is None and module:
        maker = getattr(imported, name, None)
        if callable(maker):
            return EnvSpec(name, entry_point=cast("EnvCreator", maker))
        own = [key for key, value in vars(imported).items() if _is_environment(value)]
        raise ValueError(f"{place}: {module} registers no {name}{environment_hint(name, own)}")
    if spec is None:
        own = f"; if a module of yours has it: env.id=my_module:{name}"
        versions = {_stem(known) for known in gymnasium.registry}
        hint = environment_hint(name) + ("" if _stem(name) in versions else own)
        raise ValueError(f"env.id={name!r} is not a registered environment{hint}")
    if _old_atari(spec):
        hint = environment_hint(name)
        raise ValueError(f"env.id={name!r} is an Atari id from before ALE/...-v5{hint}")
    return spec


def _is_environment(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, gymnasium.Env)


def time_limit(config: EnvConfig) -> float | None:
    """Steps after which an episode is truncated; None if nothing says that it ever is.

    It is infinite where only the environment's own code knows: in MiniGrid, in our diagnostic
    environments, and in other people's vector forms.
    """
    spec = find(config)
    if spec.namespace == "ALE":
        return max_frames(config.atari, config.time_limit) // config.atari.frame_skip
    if known := config.time_limit or spec.max_episode_steps:
        return known
    vector = spec.entry_point is None or config.vectorization == "native"
    own = spec.namespace == "neuraxis" or known_package(spec.id) is not None
    return math.inf if vector or own else None


def known_package(name: str) -> str | None:
    """The package that registers an id, if it is one of those known here."""
    return next((MODULES[prefix] for prefix in MODULES if name.startswith(prefix)), None)


def _register(package: str) -> None:
    """Imports a package that registers ids; MinAtar does so only where it is asked to."""
    importlib.import_module(package)
    if package == "minatar" and "MinAtar/Breakout-v1" not in gymnasium.registry:
        importlib.import_module("minatar.gym").register_envs()


def environment_hint(name: str, others: Iterable[str] = ()) -> str:
    """A hint, `; did you mean X?`, at similar environments that can be made, and at `others`."""
    package = known_package(name) or "ale_py"
    if importlib.util.find_spec(package):
        _register(package)
    if today := _atari_today(name):
        return did_you_mean([today])
    known = offered()
    stem = _stem(name)
    newest = [other for other in known if _stem(other) == stem]
    return (
        did_you_mean(newest)
        or nearest(name, others)
        or did_you_mean(similar(name, known, most=3, likeness=0.5))
    )


def offered() -> list[str]:
    """The newest version of each registered environment that can be made."""
    found: dict[str, EnvSpec] = {}
    without_jax = importlib.util.find_spec("jax") is None
    for spec in gymnasium.registry.values():
        gone = getattr(spec.entry_point, "__name__", "").startswith("_raise_")  # an error alone
        if gone or _old_atari(spec) or (without_jax and spec.namespace in JAX):
            continue
        before = found.get(_stem(spec.id))
        if before is None or (before.version or 0) < (spec.version or 0):
            found[_stem(spec.id)] = spec
    return [spec.id for spec in found.values()]


def _stem(name: str) -> str:
    return re.sub(r"-v\d+$", "", name)


def _old_atari(spec: EnvSpec) -> bool:
    """Whether `env.atari` would not reach it: ALE's names from before version 5."""
    return spec.namespace is None and str(spec.entry_point).startswith("ale_py.")


def _atari_today(name: str) -> str:
    """The words for a game by another name, `PongNoFrameskip-v4`; empty if it is none."""
    found = _ATARI.fullmatch(name)
    if found is None or (game := f"ALE/{found['game']}-v5") not in gymnasium.registry:
        return ""
    return f"env={game}" + (" env.atari.sticky=0" if found["version"] == "4" else "")
