"""Datasets of Minari, the Farama Foundation's collection, read as ours.

They hold the observations and actions of environments. Here these become the observations and
actions of an agent, as the `env` section of the run says: actions in [-1, 1], observations without
velocities, joined, and so on.
"""

from __future__ import annotations

import hashlib
from importlib import import_module
from typing import Any

import numpy as np

from ...core.errors import Guard
from ...core.tree import Tree, leaves, map_tree
from ...envs import EnvConfig
from ...envs.observations import batch, checked_kind, float32, supported, with_layout
from ...envs.wrappers.actions import to_agent
from ...envs.wrappers.interface import of_observations
from ..storage.atomic_files import strange
from .dataset import Dataset, check

PREFIX = "minari:"
"""Opens the name of such a dataset: minari:NAMESPACE/NAME-v0."""


def read(name: str, config: EnvConfig) -> Dataset:
    """Reads a dataset of this machine into memory.

    Args:
        name: Its id, after `minari:`.
        config: How the agent sees the environment.

    Raises:
        ValueError: Minari is missing, or has no such dataset here; or an agent with these settings
            sees more than one observation or action at a time.
    """
    place = f"agent.dataset={PREFIX}{name}"
    _check(config, place)
    with Guard(lambda: place, ValueError):
        minari: Any = import_module("minari")  # an extra
        try:
            stored = minari.load_dataset(name)
        except FileNotFoundError:
            raise ValueError(f"not on this machine; `minari download {name}` fetches it") from None
        episodes = list(stored.iterate_episodes())
    if not episodes:
        raise ValueError(f"{place}: has no episodes")
    space = with_layout(supported(stored.observation_space, f"{place}: observations"), config)
    obs = _joined([batch(space, episode.observations) for episode in episodes])
    transforms = of_observations(space, config)
    for _, function in transforms:
        obs = function(obs)
    action_space = checked_kind(stored.action_space, f"{place}: actions")
    action_space, back = to_agent(action_space, config.rescale_actions)
    first = [np.arange(len(episode) + 1) == 0 for episode in episodes]
    found = {
        "obs": obs,
        "first": np.concatenate(first),
        "action": _joined([_with_last(back(np.asarray(one.actions)), 0) for one in episodes]),
        "reward": _joined([_with_last(float32(one.rewards), 0) for one in episodes]),
        "discount": _joined([_with_last(float32(~one.terminations), 1) for one in episodes]),
    }
    space = transforms[-1][0] if transforms else space
    dataset = Dataset(space, action_space, **found, digest=_digest(found))
    with strange(f"{place}: damaged"):
        check(dataset)
    return dataset


def _check(config: EnvConfig, place: str) -> None:
    """Raises ValueError for settings that need more than single recorded observations."""
    wrong = {
        "frame_stack": config.frame_stack > 1,
        "last_action": config.last_action,
        "action_mask": config.action_mask is not None,
    }
    for key, value in wrong.items():
        if value:
            raise ValueError(
                f"env.{key}={getattr(config, key)}: {place} has single observations, as the "
                "environment gave them; leave it out"
            )


def _joined(parts: list[Tree]) -> Tree:
    return map_tree(lambda *rows: np.concatenate(rows), *parts)


def _with_last(rows: np.ndarray, value: float) -> np.ndarray:
    """The rows [L, *], and one more for the last observation."""
    return np.concatenate([rows, np.full_like(rows[:1], value)])


def _digest(arrays: dict[str, Tree]) -> str:
    """SHA-256 of all arrays."""
    found = hashlib.sha256()
    for leaf in leaves(arrays):
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()
