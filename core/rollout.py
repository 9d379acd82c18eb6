"""The rollout: T steps of B environments, the only form in which experience moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from .devices import to_device
from .tree import Tree, map_tree

A = TypeVar("A", np.ndarray, Tensor)
BATCHED = ("obs", "first", "action", "reward", "discount", "extras", "state")
"""The fields whose axis 1 is the batch."""


class Counted(Protocol):
    """What a run counts of what was collected; see `Rollout`."""

    @property
    def steps(self) -> int:
        """Environment steps, resets not counted."""
        ...

    @property
    def rows(self) -> int:
        """Environment steps and resets."""
        ...

    @property
    def episodes(self) -> np.ndarray:
        """[E, 4] float64: (column, return, length, success)."""
        ...


@dataclass(frozen=True)
class Rollout(Generic[A]):
    """T steps of B environments; states have T+1 rows, transitions T.

    A collector gives a `Rollout[np.ndarray]`, and `to(device)` makes a `Rollout[Tensor]` of it.

    Environments run in NEXT_STEP autoreset: a finished one returns its true last observation, and
    its next step is the reset. That step is no transition (`valid` is False there), so truncation
    bootstraps from `obs[t + 1]` by itself. A restarted worker is one more row with `first`.
    """

    obs: Tree
    """[T+1, B, *obs], as the environment emits it (uint8 stays uint8)."""
    first: A
    """[T+1, B] bool: obs[t] opens an episode; forget everything before it."""
    action: A
    """[T, B, *act], as the policy chose it, before any clipping."""
    reward: A
    """[T, B] float32, for action[t]."""
    discount: A
    """[T, B] float32: 0 where action[t] ended the MDP (terminated), else 1. Gamma is not in it."""
    extras: dict[str, A]
    """[T, B, *]: what the policy wished to remember, e.g. log_prob."""
    state: Tree
    """Tree of [*, B, *]: the policy's memory before obs[0]; () for feed-forward."""
    columns: A
    """[B] int: which environment each column is."""
    version: int
    """Which weights acted: how often the policy had been published before."""
    episodes: np.ndarray
    """[E, 4] float64: (column, return, length, success) of each episode that ended here; success is
    1, 0 or, if the environment does not say, NaN. Always NumPy."""

    @property
    def valid(self) -> A:
        """[T, B] bool: False where step t was a reset and not a transition."""
        return ~self.first[1:]

    @property
    def steps(self) -> int:
        """Environment steps in here, resets not counted."""
        counted: int | None = vars(self).get("counted")
        return int(self.valid.sum()) if counted is None else counted

    @property
    def rows(self) -> int:
        """T * B: environment steps and resets."""
        return len(self.columns) * len(self.reward)

    def to(self, device: torch.device | str) -> Rollout[Tensor]:
        """Returns the same rollout as tensors on `device`; see `to_device`."""

        def move(leaf: np.ndarray | Tensor) -> Tensor:
            return to_device(leaf, device)

        moved = {name: map_tree(move, getattr(self, name)) for name in (*BATCHED, "columns")}
        rollout = Rollout(**moved, version=self.version, episodes=self.episodes)
        vars(rollout)["counted"] = self.steps  # here: reading them there waits for a GPU
        return rollout


def join(rollouts: Sequence[Rollout[np.ndarray]]) -> Rollout[np.ndarray]:
    """Joins NumPy rollouts of equal length along the batch (axis 1); the oldest version is kept."""
    if len(rollouts) == 1:
        return rollouts[0]
    first, *rest = rollouts

    def stacked(name: str) -> Tree:
        trees = (getattr(rollout, name) for rollout in rest)
        return map_tree(lambda *leaves: np.concatenate(leaves, 1), getattr(first, name), *trees)

    return Rollout(
        **{name: stacked(name) for name in BATCHED},
        columns=np.concatenate([rollout.columns for rollout in rollouts]),
        version=min(rollout.version for rollout in rollouts),
        episodes=np.concatenate([rollout.episodes for rollout in rollouts]),
    )
