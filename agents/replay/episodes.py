"""Where the episodes in a ring begin and end, found for any row without a search."""

from __future__ import annotations

import numpy as np


class Episodes:
    """The first and the newest row of the episode of each row that a ring holds.

    Rows are counted since a column began. The k-th episode of a column has place k mod `rows`, and
    no two that the ring holds have the same: each has a row at least.

    Args:
        rows: Rows of a column that the ring holds.
        columns: B.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.rows = rows
        self.number = np.zeros((rows, columns), np.int64)  # of the episode that each row is of
        self.begin = np.zeros((rows, columns), np.int64)  # by the episode's number, as `end`
        self.end = np.zeros((rows, columns), np.int64)

    def add(self, begin: np.ndarray, columns: np.ndarray, first: np.ndarray) -> None:
        """Takes note of rows `first` [T, n] bool of `columns` [n], from rows `begin` [n] on.

        Row `begin` may have been there already, as the last state of a rollout; if it is now
        `first`, its episode was broken off before it.
        """
        assert len(first) <= self.rows
        rows = begin + np.arange(len(first))[:, None]
        columns = np.broadcast_to(columns, rows.shape)
        before = self.number[(begin - 1) % self.rows, columns[0]]
        self.end[before % self.rows, columns[0]] = begin - 1  # unless it goes on
        number = before + first.cumsum(0)
        self.number[rows % self.rows, columns] = number
        last = np.concatenate((first[1:], np.ones_like(first[:1])))
        self.begin[number[first] % self.rows, columns[first]] = rows[first]
        self.end[number[last] % self.rows, columns[last]] = rows[last]

    def span(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first and the newest row of the episodes that `rows` [L, N] of `columns` [N] are of.

        The first one may have been overwritten; the episode may go on after the newest one.
        """
        place = self.number[rows % self.rows, columns] % self.rows
        return self.begin[place, columns], self.end[place, columns]
