"""A ring buffer: the newest rows of each column, which may arrive at different times."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.devices import to_device
from ...core.memory import lower
from ...core.tree import Tree, leaves, map_tree


class Ring:
    """Named trees of [rows, B, *]. The r-th row that a column ever got lies at r mod `rows`.

    Args:
        rows: How many rows a column holds.
        columns: B.
        device: Where it lies.
        setting: The setting that decides its size, for the message if memory is too small.

    Attributes:
        floor: [B] rows of each column before this one are gone, even if not overwritten.
    """

    def __init__(self, rows: int, columns: int, device: torch.device, setting: str) -> None:
        self.rows, self.columns = rows, columns
        self.device = device
        self.setting = setting
        self.trees: dict[str, Tree] = {}
        self.floor = np.zeros(columns, np.int64)

    def write(self, begin: np.ndarray, columns: np.ndarray, trees: dict[str, Tree]) -> None:
        """Writes leaves [T, n, *] into T rows of `columns` [n], from rows `begin` [n] on.

        Raises:
            OutOfMemory: At the first write, if the ring does not fit into memory.
        """
        if not self.trees:
            empty = map_tree(lambda leaf: leaf.new_empty((0, self.columns, *leaf.shape[2:])), trees)
            self.trees = map_tree(self._grown, empty)
        where: dict[int, Tensor] = {}  # by T: states have a row more than transitions
        for ring, leaf in zip(leaves(self.trees), leaves(trees), strict=True):
            rows = len(leaf)
            if rows not in where:
                where[rows] = self._where(begin + np.arange(rows)[:, None], columns)
            ring.flatten(0, 1).index_copy_(0, where[rows], leaf.flatten(0, 1))

    def read(
        self, names: Iterable[str], begin: np.ndarray, columns: np.ndarray, length: int
    ) -> dict[str, Tree]:
        """Reads trees of [length, N, *]: from rows `begin` [N] on, of `columns` [N]."""
        rows = begin + np.arange(length)[:, None]
        return self.pick({name: self.trees[name] for name in names}, rows, columns)

    def pick(self, tree: Tree, rows: np.ndarray, columns: np.ndarray) -> Tree:
        """Reads the rows [L, N] of `columns` [N] from a tree of this ring, to [L, N, *]."""
        where = self._where(rows, columns)

        def one(leaf: Tensor) -> Tensor:
            picked = leaf.flatten(0, 1).index_select(0, where)
            return picked.view(*rows.shape, *leaf.shape[2:])

        return map_tree(one, tree)

    def row_bytes(self, name: str) -> int:
        """Size of a row of one column of a tree."""
        return sum(leaf[0, 0].nbytes for leaf in leaves(self.trees[name]))

    def _where(self, rows: np.ndarray, columns: np.ndarray) -> Tensor:
        """The positions [L * N] of rows [L, N] in leaves whose first two axes are joined."""
        places = rows % self.rows * self.columns + columns
        return to_device(places.reshape(-1), self.device)

    def state_dict(self, filled: int) -> dict[str, Any]:
        """The trees, cut after the first `filled` rows."""
        return map_tree(lambda leaf: leaf[:filled], self.trees)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` stood, also if that was on another device."""
        self.trees = map_tree(self._grown, state)

    def _grown(self, filled: Tensor) -> Tensor:
        """A leaf [rows, B, *] that begins with the rows `filled`; the others are 0.

        On the CPU the zeros are not written (`calloc`): what a run does not reach takes no memory.
        """
        shape = (self.rows, *filled.shape[1:])
        with lower(self.setting):
            if self.device.type == "cpu":
                ring = torch.from_numpy(np.zeros(shape, filled.cpu().numpy().dtype))
            else:
                ring = torch.zeros(shape, dtype=filled.dtype, device=self.device)
        ring[: len(filled)] = filled
        return ring
