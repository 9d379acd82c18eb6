"""From an environment's id to its Gymnasium spec, or to one line that says what is missing."""

from __future__ import annotations

import difflib
import importlib
import os
import sys

import gymnasium
from gymnasium.envs.registration import EnvSpec

from .errors import Guard

MODULES = {"ALE/": "ale_py", "MiniGrid-": "minigrid", "BabyAI-": "minigrid"}
"""Packages whose import registers the ids that open so."""


def find(env_id: str) -> EnvSpec:
    """The registered spec of `Id`, or of `module:Id` after importing the module.

    Raises:
        ValueError: the id, its module or its package is not there.
    """
    module, _, name = env_id.rpartition(":")
    package = next((MODULES[key] for key in MODULES if name.startswith(key)), None)
    for wanted in filter(None, (module, package)):
        load(wanted, env_id)
    spec = gymnasium.registry.get(name)
    if spec is None:
        raise ValueError(_unknown(name))
    return spec


def load(module: str, env_id: str) -> None:
    """Imports the module that registers `env_id`; it may lie in the current directory."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    with Guard(lambda: f"env.id={env_id!r}", ValueError):
        importlib.import_module(module)


def _unknown(name: str) -> str:
    stem = name.rpartition("-v")[0] or name
    versions = [known for known in gymnasium.registry if known.rpartition("-v")[0] == stem]
    near = versions or difflib.get_close_matches(name, gymnasium.registry, 3, 0.5)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    return f"env.id={name!r} is not a registered environment{hint}"
