"""Replay: one ring per column of the very stream that the collector emits.

A sample is again rollout-shaped: W transitions and W+1 states of N windows. So n-step returns are
the sample's length, sequences for memory are longer samples, and no next_obs is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..envs.rollout import Rollout
from ..envs.tree import Tree, leaves, map_tree
from .sumtree import SumTree


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

    @property
    def valid(self) -> Tensor:
        """[W, N] bool: False where the step was a reset."""
        return ~self.first[1:]


class Replay:
    """Windows of recent experience, drawn uniformly or by priority (Schaul et al. 2016).

    Args:
        capacity: Transitions, over all columns.
        num_envs: Columns.
        window: W, transitions of a sample.
        stride: Rows between two starts. 1 without memory; with it the length of a rollout, because
            the memory is stored where rollouts begin.
        length: Rows of a rollout.
        rng: Draws the samples.
        alpha: Exponent of the priorities; 0 draws uniformly and keeps no priorities.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        window: int,
        stride: int,
        length: int,
        rng: np.random.Generator,
        alpha: float = 0.0,
    ) -> None:
        self.blocks = capacity // (num_envs * stride)  # starts of a column
        needed = max(window + stride, length + 1)
        if self.blocks * stride < needed:
            raise ValueError(
                f"agent.buffer_size={capacity}: too small for {num_envs} environments, rollouts of "
                f"{length} and samples of {window} steps; expected at least "
                f"{num_envs * (needed + stride)}"
            )
        self.capacity = capacity
        self.num_envs, self.window, self.stride = num_envs, window, stride
        self.rows = self.blocks * stride
        self.rng = rng
        self.alpha = alpha
        self.written = 0  # rows, ever
        self.steps: dict[str, Tree] | None = None
        self.states: Tree = ()
        self.tree = SumTree(self.blocks * num_envs) if alpha else None
        self.highest = 1.0

    def __len__(self) -> int:
        """Transitions that it holds."""
        return min(self.written, self.rows - 1) * self.num_envs

    @property
    def window_bytes(self) -> int:
        """Size of the observations of one window."""
        assert self.steps is not None
        rows = leaves(self.steps["obs"])
        return (self.window + 1) * sum(leaf[0, 0].nbytes for leaf in rows)

    @property
    def starts(self) -> range:
        """Block numbers (ever counted) at which a whole window can begin, in any column."""
        oldest = max(0, self.written - self.rows + 1)
        return range(-(-oldest // self.stride), (self.written - self.window) // self.stride + 1)

    def add(self, rollout: Rollout) -> None:
        """Appends a rollout of T steps, T a multiple of `stride`, of all columns in order."""
        steps = rollout.action.shape[0]
        assert steps % self.stride == 0 and rollout.action.shape[1] == self.num_envs
        assert steps < self.rows, "a rollout is shorter than the ring"
        if self.steps is None:
            self._allocate(rollout)
        assert self.steps is not None
        before = self.starts
        rows = torch.arange(self.written, self.written + steps + 1) % self.rows
        for name, ring in self.steps.items():
            source = getattr(rollout, name)
            for target, leaf in zip(leaves(ring), leaves(source), strict=True):
                target[rows[: len(leaf)].to(leaf.device)] = leaf
        block = self.written // self.stride % self.blocks
        for target, leaf in zip(leaves(self.states), leaves(rollout.state), strict=True):
            target[block] = leaf.transpose(0, 1)
        self.written += steps
        if self.tree is not None:
            self._prioritise_new(self.tree, before)

    def _allocate(self, rollout: Rollout) -> None:
        names = ("obs", "first", "action", "reward", "discount")
        self.steps = {
            name: map_tree(lambda leaf: self._ring(leaf[:0]), getattr(rollout, name))
            for name in names
        }
        self.states = map_tree(
            lambda leaf: leaf.new_zeros((self.blocks, *leaf.transpose(0, 1).shape)), rollout.state
        )

    def _prioritise_new(self, tree: SumTree, before: range) -> None:
        """Gives new starts the highest priority seen, and starts that were overwritten none."""
        columns = np.arange(self.num_envs)
        after = self.starts
        gone = np.arange(before.start, min(after.start, before.stop)) % self.blocks
        new = np.arange(max(before.stop, after.start), after.stop) % self.blocks
        tree.set((gone[:, None] * self.num_envs + columns).ravel(), 0.0)
        tree.set((new[:, None] * self.num_envs + columns).ravel(), self.highest)

    def sample(self, count: int, beta: float = 1.0) -> Sample:
        """Draws N = `count` windows.

        Args:
            count: N.
            beta: Exponent of the importance weights, 1 corrects fully.
        """
        assert self.steps is not None and len(self.starts) > 0, "nothing to sample yet"
        if self.tree is None:
            blocks = self.rng.integers(self.starts.start, self.starts.stop, count) % self.blocks
            starts = blocks * self.num_envs + self.rng.integers(0, self.num_envs, count)
            weight = np.ones(count, np.float32)
        else:
            starts, share = self.tree.sample(self.rng.random(count))
            weight = share**-beta
            weight = (weight / weight.max()).astype(np.float32)
        return self._gather(starts, torch.from_numpy(weight))

    def _gather(self, starts: np.ndarray, weight: Tensor) -> Sample:
        assert self.steps is not None
        device = self.steps["first"].device
        blocks, columns = np.divmod(starts, self.num_envs)
        rows = (blocks * self.stride + np.arange(self.window + 1)[:, None]) % self.rows
        index = torch.from_numpy(rows * self.num_envs + columns).to(device)  # [W+1, N]
        long, short = index.reshape(-1), index[:-1].reshape(-1)

        def pick(leaf: Tensor, flat: Tensor) -> Tensor:
            return leaf.flatten(0, 1).index_select(0, flat).view(-1, len(starts), *leaf.shape[2:])

        picked = {
            name: map_tree(
                lambda leaf, flat=long if name in ("obs", "first") else short: pick(leaf, flat),
                tree,
            )
            for name, tree in self.steps.items()
        }
        where = torch.from_numpy(starts).to(device)
        state = map_tree(
            lambda leaf: leaf.flatten(0, 1).index_select(0, where).transpose(0, 1), self.states
        )
        return Sample(**picked, state=state, starts=starts, weight=weight.to(device))

    def update_priorities(self, starts: np.ndarray, priority: np.ndarray) -> None:
        """Sets the priorities [N] (before the exponent) of the windows at `starts`."""
        assert self.tree is not None
        scaled = priority.astype(np.float64) ** self.alpha
        self.highest = max(self.highest, float(scaled.max()))
        self.tree.set(starts, scaled)

    def state_dict(self) -> dict[str, Any]:
        """The ring up to what was written, the memories and the priorities."""
        filled = min(self.written + 1, self.rows)
        return {
            "written": self.written,
            "steps": self.steps and map_tree(lambda leaf: leaf[:filled], self.steps),
            "states": self.states,
            "priorities": None if self.tree is None else self.tree.priorities,
            "highest": self.highest,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self.written, self.highest = state["written"], state["highest"]
        self.steps = state["steps"] and map_tree(self._ring, state["steps"])
        self.states = state["states"]
        if self.tree is not None:
            self.tree.set(np.arange(len(state["priorities"])), state["priorities"])

    def _ring(self, filled: Tensor) -> Tensor:
        """A ring [rows, B, *] that opens with what was filled."""
        try:
            ring = filled.new_zeros((self.rows, *filled.shape[1:]))
        except RuntimeError as error:  # PyTorch's, for the memory of the CPU and of a GPU
            raise MemoryError(f"agent.buffer_size={self.capacity} does not fit") from error
        ring[: len(filled)] = filled
        return ring
