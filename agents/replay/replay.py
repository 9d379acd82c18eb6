"""The replay: for each column a ring of the stream that the collector gives.

A sample is shaped like a rollout: N windows of W transitions and W+1 states. So n-step returns and
sequences for memory only need longer windows, and no next_obs is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.devices import to_device
from ...core.memory import lower
from ...core.rollout import Rollout
from ...core.tree import map_tree
from .frame_ring import FrameRing
from .ring import Ring
from .sample import Sample
from .sumtree import SumTree
from .windows import Windows

STATES = ("obs", "first")  # one row more than
TRANSITIONS = ("action", "reward", "discount", "extras")


class Replay:
    """Windows of recent experience, drawn uniformly or by priority (Schaul et al. 2016).

    Columns may arrive at different times: each has its own stream.

    Args:
        capacity: Transitions, over all columns.
        num_envs: B, columns.
        window: W, transitions of a sample.
        stride: Rows from one start of a window to the next: 1 without memory; with memory the
            length of a rollout, because the memory is stored where rollouts begin.
        length: Rows of a rollout.
        rng: Draws the samples.
        device: Where it lies.
        alpha: Exponent of the priorities; 0 draws uniformly and keeps no priorities.
        learned: Steps of a window that are learned from. A window in which all of these are resets
            has priority 0 and is never drawn.
        frames: Of each leaf of the observations, see `frames_of`. Of stacks each frame is stored
            once, and some more rows may be gone, see `FrameRing`.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        window: int,
        stride: int,
        length: int,
        rng: np.random.Generator,
        device: torch.device,
        alpha: float = 0.0,
        learned: slice = slice(0, 1),
        frames: Sequence[int] = (),
    ) -> None:
        blocks = capacity // (num_envs * stride)  # of a column
        needed = max(window + stride, length + 1)
        if blocks * stride < needed:
            raise ValueError(
                f"agent.buffer_size={capacity}: too small for {num_envs} environments, rollouts of "
                f"{length} and samples of {window} steps; expected at least "
                f"{num_envs * (needed + stride)}"
            )
        self.num_envs, self.window, self.stride = num_envs, window, stride
        self.windows = Windows(blocks, num_envs, stride, window)
        self.rng = rng
        self.alpha = alpha
        self.learned = learned
        setting = f"agent.buffer_size={capacity}"
        stacked = max(frames, default=0) > 1
        ring = partial(FrameRing, frames, needed) if stacked else Ring
        self.steps = ring(blocks * stride, num_envs, device, setting)
        self.memories = Ring(blocks, num_envs, device, setting)
        with lower(setting):
            self.tree = SumTree(blocks * num_envs) if alpha else None
        self.highest = 1.0

    def __len__(self) -> int:
        """Steps that it holds, including resets."""
        return self.windows.steps

    @property
    def window_bytes(self) -> int:
        """Size of the observations of one window."""
        return (self.window + 1) * self.steps.row_bytes("obs")

    @property
    def ready(self) -> bool:
        """Whether there is a window to draw."""
        begin, end = self.windows.span
        return bool((begin < end).any()) if self.tree is None else self.tree.total > 0

    def add(self, rollout: Rollout[Tensor]) -> None:
        """Appends T steps to the columns that the rollout has; T is `stride`, unless that is 1.

        A column's rollouts follow upon one another, or open with `first`.
        """
        if rollout.reward.device != self.steps.device:
            rollout = rollout.to(self.steps.device)
        steps, columns = len(rollout.action), rollout.columns.cpu().numpy()
        assert self.stride in (1, steps) and len(columns) == len(np.unique(columns))
        assert steps < self.steps.rows, "a rollout is shorter than the ring"
        begin = self.windows.written[columns]
        stream = {name: getattr(rollout, name) for name in (*STATES, *TRANSITIONS)}
        self.steps.write(begin, columns, stream)
        memory = map_tree(lambda leaf: leaf.transpose(0, 1)[None], rollout.state)
        self.memories.write(begin // self.stride, columns, {"state": memory})
        gone, new = self.windows.advance(columns, steps, self.steps.floor)
        if self.tree is not None:
            self.tree.set(gone, 0.0)
            self.tree.set(new, self.highest * self._teach(new))

    def _teach(self, starts: np.ndarray) -> np.ndarray:
        """Whether each window [N] has a step to learn from that is not a reset, [N] bool."""
        blocks, columns = np.divmod(starts, self.num_envs)
        rows = blocks * self.stride + self.learned.start + 1
        length = self.learned.stop - self.learned.start
        first = self.steps.read(("first",), rows, columns, length)["first"]
        return (~first).any(0).cpu().numpy()

    def draw(self, count: int, beta: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Draws starts [N] of windows, and their importance weights [N], at most 1.

        Args:
            count: N.
            beta: Exponent of the importance weights, 1 corrects fully.
        """
        assert self.ready, "nothing to sample yet"
        if self.tree is None:
            return self.windows.draw(count, self.rng), np.ones(count, np.float32)
        starts, share = self.tree.sample(self.rng.random(count))
        weight = share**-beta
        return starts, (weight / weight.max()).astype(np.float32)

    def gather(self, starts: np.ndarray, weight: np.ndarray) -> Sample:
        """The windows at `starts` [N] with their importance weights [N]."""
        blocks, columns = np.divmod(starts, self.num_envs)
        rows = blocks * self.stride
        picked = self.steps.read(STATES, rows, columns, self.window + 1)
        picked |= self.steps.read(TRANSITIONS, rows, columns, self.window)
        memory = self.memories.read(("state",), blocks, columns, 1)["state"]
        state = map_tree(lambda leaf: leaf[0].transpose(0, 1), memory)
        weights = to_device(weight, self.steps.device)
        return Sample(**picked, state=state, starts=starts, weight=weights)

    def update_priorities(self, starts: np.ndarray, priority: np.ndarray) -> None:
        """Sets the priorities [N] (before the exponent) of the windows at `starts`."""
        assert self.tree is not None
        scaled = priority.astype(np.float64) ** self.alpha
        self.highest = max(self.highest, float(scaled.max()))
        self.tree.set(starts, scaled)

    def state_dict(self) -> dict[str, Any]:
        """The rows that were written, and the priorities."""
        written = self.windows.written
        longest = int(written.max())
        return {
            "written": written,
            "steps": self.steps.state_dict(longest + 1),
            "memories": self.memories.state_dict(longest // self.stride),
            "priorities": None if self.tree is None else self.tree.priorities,
            "highest": self.highest,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` stood."""
        self.windows.written[:], self.highest = state["written"], state["highest"]
        steps = state["steps"]
        older = {"extras": {}} if steps and "extras" not in steps else {}
        self.steps.load_state_dict(steps | older)
        self.windows.floor[:] = self.steps.floor
        self.memories.load_state_dict(state["memories"])
        if self.tree is not None:
            self.tree.set(np.arange(len(state["priorities"])), state["priorities"])
