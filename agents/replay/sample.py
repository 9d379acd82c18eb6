"""What is drawn from a replay: windows of the stream, shaped like a rollout."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.devices import to_device
from ...core.tree import Tree, map_tree


@dataclass(frozen=True)
class Sample:
    """N windows of W transitions."""

    obs: Tree
    """[W+1, N, *obs]."""
    first: Tensor
    """[W+1, N] bool."""
    action: Tensor
    """[W, N, *act]."""
    reward: Tensor
    """[W, N]."""
    discount: Tensor
    """[W, N]."""
    state: Tree
    """Memory before obs[0], [*, N, *]; () without memory."""
    starts: np.ndarray
    """[N]: which start each window has, for `update_priorities`."""
    weight: Tensor
    """[N]: importance weights, at most 1; ones when uniform."""
    extras: dict[str, Tensor] = field(default_factory=dict)
    """[W, N, *]: what else was known of each step, for instance the advice of a teacher."""

    def to(self, device: torch.device) -> Sample:
        """The same windows on a device; see `to_device`."""
        if device == self.first.device:
            return self
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "starts"}
        moved = map_tree(lambda leaf: to_device(leaf, device), tensors)
        return replace(self, **moved)

    @property
    def valid(self) -> Tensor:
        """[W, N] bool: False where the step was a reset."""
        return ~self.first[1:]


def warmed(network: Any, sample: Sample, state: Tree, begin: int, end: int) -> Tree:
    """Runs a network over rows `begin` to `end` - 1 of windows, for its memory alone.

    Args:
        network: From observations, memory and `first` to a result and the memory.
        sample: The windows.
        state: The memory before row `begin`; () without memory.
        begin: The first row.
        end: The row after the last one.

    Returns:
        The memory before row `end`.
    """
    if state == () or begin == end:
        return state
    obs = map_tree(lambda leaf: leaf[begin:end], sample.obs)
    return network(obs, state, sample.first[begin:end])[1]
