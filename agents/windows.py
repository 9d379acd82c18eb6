"""Where windows can begin in a ring whose columns are filled at different times."""

from __future__ import annotations

import numpy as np


class Windows:
    """Counts what each column has written, and knows the starts of whole windows.

    A start is a block of `stride` rows in a column. Its number, block mod `blocks` times B plus the
    column, is its own until the block is overwritten.

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
        self.written = np.zeros(columns, np.int64)  # rows of each column, ever

    @property
    def steps(self) -> int:
        """Transitions in the ring, resets among them: of its rows one is only a last state."""
        return int(np.minimum(self.written, self.rows - 1).sum())

    @property
    def span(self) -> tuple[np.ndarray, np.ndarray]:
        """First and end [B] of the blocks, ever counted, where a whole window begins."""
        oldest = np.maximum(0, self.written - self.rows + 1)
        begin = -(-oldest // self.stride)
        return begin, np.maximum(begin, (self.written - self.window) // self.stride + 1)

    def advance(self, columns: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Counts `steps` more rows in `columns`; returns the starts that went and that came."""
        begin, end = self.span
        self.written[columns] += steps
        new_begin, new_end = self.span
        gone = self._each(begin, np.minimum(new_begin, end))
        return gone, self._each(np.maximum(end, new_begin), new_end)

    def _each(self, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Starts of the blocks `begin` to `end` - 1 of each column [B]; there may be none."""
        ahead = np.arange((end - begin).max(initial=0))[:, None]
        more, columns = np.nonzero(begin + ahead < end)
        return self._starts(begin[columns] + more, columns)

    def _starts(self, blocks: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return blocks % self.blocks * self.columns + columns

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draws starts [count], all alike; there must be one.

        As if all columns had as many as the one with the most, again until it is one that exists.
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
