"""Steps that wait for their episode's end, from one rollout to the next.

A stream is a tree of rows [R, B, *]: the kept rows, then a new rollout. Every column keeps the rows
of its running episode from its opening on, so a stream needs no memory from before its first row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...core.rollout import Rollout
from ...core.tree import Tree, map_tree


class Unfinished:
    """The rows of episodes that have not ended.

    A step is in exactly one of the streams as a step to be learned from: in the first one that
    shows its episode's end. Where a column opens anew, as after a fault, the episode before it is
    forgotten.

    Args:
        device: Of the learner.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.rows: dict[str, Tree] = {}

    def __len__(self) -> int:
        """Rows that are kept: those of the longest running episode."""
        return len(self.rows["reward"]) if self.rows else 0

    def extend(self, rollout: Rollout[Tensor]) -> tuple[dict[str, Tree], Tensor, Tensor]:
        """Joins a rollout of all columns to the kept rows, and keeps those of unfinished episodes.

        Returns:
            The stream of R transitions: obs and first [R, B, *] before each, action, reward and
            valid; which steps are to be learned from, [R, B] bool; and their number, a scalar.
        """
        kept = len(self)
        new: dict[str, Tree] = {
            "obs": map_tree(lambda leaf: leaf[:-1], rollout.obs),
            "first": rollout.first[:-1],
            "action": rollout.action,
            "reward": rollout.reward,
        }
        stream = map_tree(lambda *parts: torch.cat(parts), self.rows, new) if kept else new.copy()
        first = torch.cat((stream["first"], rollout.first[-1:]))
        opened = first.cumsum(0)  # the number of the episode, for each column
        ended, known = opened < opened[-1], opened < opened[kept]  # now, and before this rollout
        stream["valid"] = ~first[1:]
        learned = stream["valid"] & ended[:-1] & ~known[:-1]
        running = ~ended  # from where the newest episode of each column opened
        begin = int(running.any(1).long().argmax())  # the earliest of them; waits for a GPU
        self.rows = map_tree(lambda leaf: leaf[begin:].clone(), {n: stream[n] for n in new})
        return stream, learned, learned.sum()

    def state_dict(self) -> dict[str, Any]:
        """The rows, a tree of [K, B, *]."""
        return self.rows

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` stood, also if that was on another device."""
        self.rows = map_tree(lambda leaf: leaf.to(self.device).clone(), state)
