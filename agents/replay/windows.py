"""The places where windows can begin in a ring whose columns are filled at different times."""

from __future__ import annotations

import numpy as np


class Windows:
    """Counts the rows of each column, and knows where whole windows begin.

    A window begins at a block, which is `stride` rows of a column. Such a start has the number
    (block mod `blocks`) * B + column, until the block is overwritten.

    Args:
        blocks: Blocks that a column of the ring holds.
        columns: B.
        stride: Rows of a block.
        window: W, transitions of a window.
    """

    def __init__(self, blocks: int, columns: int, stride: int, window: int) -> None:
        self.blocks, self.columns = blocks, columns
        self.stride, self.window = stride, window
        self.rows = blocks * stride
        self.written = np.zeros(columns, np.int64)  # rows that each column ever got
        self.floor = np.zeros(columns, np.int64)  # rows before it are gone, see `Ring.floor`

    @property
    def steps(self) -> int:
        """Transitions in the ring, including resets. One row of a column is only a last state."""
        return int((self.written - self.oldest).sum())

    @property
    def oldest(self) -> np.ndarray:
        """The oldest row [B] of each column that is still in the ring."""
        return np.maximum(self.floor, self.written - self.rows + 1)

    @property
    def span(self) -> tuple[np.ndarray, np.ndarray]:
        """The first block [B] of each column where a whole window begins, and the end [B]."""
        begin = -(-self.oldest // self.stride)
        return begin, np.maximum(begin, (self.written - self.window) // self.stride + 1)

    def advance(
        self, columns: np.ndarray, steps: int, floor: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Counts `steps` more rows of `columns`; returns the starts that are gone, and the new.

        Rows before `floor` [B] are gone, too.
        """
        begin, end = self.span
        self.written[columns] += steps
        self.floor[:] = floor
        new_begin, new_end = self.span
        gone = self._each(begin, np.minimum(new_begin, end))
        return gone, self._each(np.maximum(end, new_begin), new_end)

    def _each(self, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        """The starts at blocks `begin` to `end` - 1 of each column [B]; there may be none."""
        ahead = np.arange((end - begin).max(initial=0))[:, None]
        more, columns = np.nonzero(begin + ahead < end)
        return self._starts(begin[columns] + more, columns)

    def _starts(self, blocks: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return blocks % self.blocks * self.columns + columns

    def row(self, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first row of the windows at `starts` [N], counted since its column began; columns."""
        blocks, columns = np.divmod(starts, self.columns)
        newest = self.written[columns]
        return newest - (newest - blocks * self.stride) % self.rows, columns

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draws starts [count] uniformly, by rejection sampling; at least one must exist.

        Each draw picks a column and a block, as if every column had as many blocks as the fullest;
        if there is no such block, it is drawn again.
        """
        begin, end = self.span
        size = end - begin
        drawn = np.empty(0, np.int64)
        while missing := count - len(drawn):
            block = rng.integers(0, size.max(), missing)
            column = rng.integers(0, self.columns, missing)
            starts = self._starts(begin[column] + block, column)
            drawn = np.concatenate((drawn, starts[block < size[column]]))
        return drawn
