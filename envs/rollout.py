"""The rollout: T steps of B environments, the only form in which experience moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from .tree import Tree, map_tree


@dataclass(frozen=True)
class Rollout:
    """T steps of B environments; states have T+1 rows, transitions T. NumPy until `to(device)`.

    Environments run in NEXT_STEP autoreset: a finished one returns its true last observation, and
    its next step is the reset. That step is no transition (`valid` is False there), so truncation
    bootstraps from `obs[t + 1]` by itself, and a restarted worker is nothing but `first = True`.
    """

    obs: Tree
    """[T+1, B, *obs], as the environment emits it (uint8 stays uint8)."""
    first: Any
    """[T+1, B] bool: obs[t] opens an episode; forget everything before it."""
    action: Any
    """[T, B, *act], as the policy chose it, before any clipping."""
    reward: Any
    """[T, B] float32, for action[t]."""
    discount: Any
    """[T, B] float32: 0 where action[t] ended the MDP (terminated), else 1. Gamma is not in it."""
    extras: dict[str, Any]
    """[T, B, *]: what the policy wished to remember, e.g. log_prob."""
    state: Tree
    """Tree of [*, B, *]: the policy's memory before obs[0]; () for feed-forward."""
    columns: Any
    """[B] int: which environment each column is."""
    version: int
    """Of the weights that acted: how often they had been published."""
    episodes: np.ndarray
    """[E, 3] float64: (column, return, length) of each episode that ended here. Always NumPy."""

    @property
    def valid(self) -> Any:
        """[T, B] bool: False where step t was a reset and not a transition."""
        return ~self.first[1:]

    @property
    def steps(self) -> int:
        """Environment steps in here, resets not counted."""
        return int(self.valid.sum())

    def to(self, device: torch.device | str) -> Rollout:
        """Returns the same rollout as tensors on `device` (no copy when that is the CPU).

        Copies to a GPU go by way of pinned memory, and nobody waits for them.
        """
        on_gpu = torch.device(device).type == "cuda"

        def move(leaf: Any) -> torch.Tensor:
            tensor = torch.as_tensor(leaf)
            if on_gpu and tensor.device.type == "cpu":
                tensor = tensor.pin_memory()
            return tensor.to(device, non_blocking=on_gpu)

        moved = {
            field.name: map_tree(move, value)
            for field in fields(self)
            if field.name not in ("version", "episodes")
            for value in (getattr(self, field.name),)
        }
        return replace(self, **moved)


def join(rollouts: Sequence[Rollout]) -> Rollout:
    """Joins NumPy rollouts of equal length along the batch (axis 1); the oldest version is kept."""
    if len(rollouts) == 1:
        return rollouts[0]
    first, *rest = rollouts

    def stacked(name: str) -> Tree:
        trees = (getattr(rollout, name) for rollout in rest)
        return map_tree(lambda *leaves: np.concatenate(leaves, 1), getattr(first, name), *trees)

    time_major = ("obs", "first", "action", "reward", "discount", "extras", "state")
    return Rollout(
        **{name: stacked(name) for name in time_major},
        columns=np.concatenate([rollout.columns for rollout in rollouts]),
        version=min(rollout.version for rollout in rollouts),
        episodes=np.concatenate([rollout.episodes for rollout in rollouts]),
    )
