"""A ring buffer for stacks of frames, which keeps each frame once; see `core/frames.py`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.devices import to_device
from ...core.errors import RunError
from ...core.frames import brought, positions, same
from ...core.tree import Tree, leaves, map_tree
from .ring import Ring


class FrameRing(Ring):
    """A ring whose observations are read as they were written, but stored as single frames.

    The frames of a column lie in a ring of their own, and each row knows its newest one. A row
    brings one frame, one that opens a stack brings S. So there is room for a sixteenth more frames
    than rows: enough for all rows where stacks go on for 16 (S - 1) rows on average, 48 for four
    frames. Where they are shorter, the oldest rows are gone earlier, and `floor` says so. There is
    always room for the `needed` newest rows.

    Args:
        sizes: Frames of each leaf of the observations, see `frames_of`; 0 or 1 where it is none.
        needed: Rows of a column that must fit.
        settings: Of `Ring`.
    """

    def __init__(self, sizes: Sequence[int], needed: int, *settings: Any) -> None:
        super().__init__(*settings)
        self.sizes, self.size = sizes, max(sizes)
        room = max(self.rows + self.rows // 16, needed * self.size) + self.size
        self.frames = Ring(room, *settings[1:])
        self.newest = np.zeros((self.rows, self.columns), np.int64)  # number of each row's frame
        self.count = np.zeros(self.columns, np.int64)  # frames that each column ever got

    def write(self, begin: np.ndarray, columns: np.ndarray, trees: dict[str, Tree]) -> None:
        """See `Ring.write`; waits for the device once."""
        obs = list(zip(self.sizes, leaves(trees["obs"]), strict=True))
        stacks = [leaf.unflatten(2, (size, -1)) for size, leaf in obs if size > 1]
        count = self._brought(begin, columns, stacks)
        rows = begin + np.arange(len(count))[:, None]
        self.newest[rows % self.rows, columns] = self.count[columns] - 1 + count.cumsum(0)
        added = count.sum(0)
        new = np.arange(added.sum()) - np.repeat(added.cumsum() - added, added)
        picked = to_device(positions(count, self.size), self.device)
        frames = tuple(stack.flatten(0, 2).index_select(0, picked)[None] for stack in stacks)
        number, column = np.repeat(self.count[columns], added) + new, np.repeat(columns, added)
        self.frames.write(number, column, {"frames": frames})
        self.count[columns] += added
        self.floor[columns] = np.maximum(self.floor[columns], rows[-1] + 1 - self.rows)
        while (gone := self._oldest_frame() < self.count - self.frames.rows).any():
            self.floor += gone
        super().write(begin, columns, trees | {"obs": self._unstacked(trees["obs"])})

    def _brought(self, begin: np.ndarray, columns: np.ndarray, stacks: list[Tensor]) -> np.ndarray:
        """How many frames rows [T, n] bring; none, where the first one is there already."""
        count = torch.stack([brought(stack) for stack in stacks]).amax(0)
        known = to_device(self.count[columns] > 0, self.device)
        if self.frames.trees:
            for old, new in zip(self._stacks(begin[None], columns), stacks, strict=True):
                known = known & same(old.view_as(new[:1])[0], new[0])
            count[0] = torch.where(known, 0, self.size)
        return count.cpu().numpy()

    def _oldest_frame(self) -> np.ndarray:
        """The number of the oldest frame [B] of the rows at `floor`."""
        rows = self.newest[self.floor % self.rows, np.arange(self.columns)]
        return np.where(self.count > 0, rows + 1 - self.size, 0)

    def _unstacked(self, obs: Tree) -> Tree:
        """The observations [T, n, *] with nothing, [T, n, 0], in place of stacks."""
        size = iter(self.sizes)
        return map_tree(lambda leaf: leaf.flatten(2)[..., :0] if next(size) > 1 else leaf, obs)

    def read(
        self, names: Iterable[str], begin: np.ndarray, columns: np.ndarray, length: int
    ) -> dict[str, Tree]:
        """See `Ring.read`."""
        found = super().read(names, begin, columns, length)
        if "obs" in found:
            stacks = iter(self._stacks(begin + np.arange(length)[:, None], columns))
            size = iter(self.sizes)
            found["obs"] = map_tree(
                lambda leaf: next(stacks) if next(size) > 1 else leaf, found["obs"]
            )
        return found

    def _stacks(self, rows: np.ndarray, columns: np.ndarray) -> list[Tensor]:
        """The stacks [L, N, S*C, *] of rows [L, N] of `columns` [N]."""
        newest = self.newest[rows % self.rows, columns][..., None]
        numbers = (newest + np.arange(1 - self.size, 1)).reshape(len(rows), -1)
        frames = self.frames.trees["frames"]
        picked = self.frames.pick(frames, numbers, np.repeat(columns, self.size))
        return [leaf.reshape(*rows.shape, -1, *leaf.shape[3:]) for leaf in picked]

    def row_bytes(self, name: str) -> int:
        """See `Ring.row_bytes`."""
        frames = self.frames.row_bytes("frames") if name == "obs" else 0
        return super().row_bytes(name) + self.size * frames

    def state_dict(self, filled: int) -> dict[str, Any]:
        """See `Ring.state_dict`; with the frames, and which ones each row has."""
        if not self.trees:
            return {}
        return super().state_dict(filled) | {
            "frames": self.frames.state_dict(int(self.count.max())),
            "newest": self.newest[:filled],
            "count": self.count,
            "floor": self.floor,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Ring.load_state_dict`. Raises RunError if it keeps whole stacks."""
        own = {"frames", "newest", "count", "floor"}
        if state.keys() & own:
            self.frames.load_state_dict(state["frames"])
            self.newest[: len(state["newest"])] = state["newest"]
            self.count[:], self.floor[:] = state["count"], state["floor"]
        elif state:
            raise RunError(
                "the replay of this checkpoint keeps whole stacks of frames, as neuraxis did once; "
                "a new run can begin with its weights: init.from=RUN"
            )
        super().load_state_dict({name: tree for name, tree in state.items() if name not in own})
