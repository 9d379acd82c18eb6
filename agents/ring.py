"""A ring of streams: the newest rows of each column, whenever they arrive."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..envs.tree import Tree, leaves, map_tree


class Ring:
    """Named trees of [rows, B, *]; row r of a column, ever counted, lies at r mod rows.

    Args:
        rows: What a column holds.
        columns: B.
        device: Where it lies.
        setting: What decides its size, for the message if that does not fit.
    """

    def __init__(self, rows: int, columns: int, device: torch.device, setting: str) -> None:
        self.rows, self.columns = rows, columns
        self.device = device
        self.setting = setting
        self.trees: dict[str, Tree] = {}

    def write(self, begin: np.ndarray, columns: np.ndarray, trees: dict[str, Tree]) -> None:
        """Puts leaves [T, n, *] into rows `begin` [n] and following of `columns` [n].

        Raises:
            MemoryError: The first write, when the ring does not fit.
        """
        if not self.trees:
            empty = map_tree(lambda leaf: leaf.new_empty((0, self.columns, *leaf.shape[2:])), trees)
            self.load_state_dict(empty)
        for ring, leaf in zip(leaves(self.trees), leaves(trees), strict=True):
            where = self._where(begin, columns, len(leaf))
            ring.flatten(0, 1).index_copy_(0, where, leaf.flatten(0, 1))

    def read(
        self, names: Iterable[str], begin: np.ndarray, columns: np.ndarray, length: int
    ) -> dict[str, Tree]:
        """Trees of [length, N, *]: rows `begin` [N] and following of `columns` [N]."""
        where = self._where(begin, columns, length)

        def pick(leaf: Tensor) -> Tensor:
            picked = leaf.flatten(0, 1).index_select(0, where)
            return picked.view(length, len(begin), *leaf.shape[2:])

        return {name: map_tree(pick, self.trees[name]) for name in names}

    def _where(self, begin: np.ndarray, columns: np.ndarray, length: int) -> Tensor:
        """Places [length * N] in leaves whose first two axes are one."""
        rows = (begin + np.arange(length)[:, None]) % self.rows
        return torch.from_numpy((rows * self.columns + columns).reshape(-1)).to(self.device)

    def state_dict(self, filled: int) -> dict[str, Any]:
        """The trees, up to as many rows as were ever written."""
        return map_tree(lambda leaf: leaf[:filled], self.trees)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave, from any device."""
        self.trees = map_tree(self._grown, state)

    def _grown(self, filled: Tensor) -> Tensor:
        """A leaf [rows, B, *] that opens with what was filled."""
        shape = (self.rows, *filled.shape[1:])
        try:
            ring = torch.zeros(shape, dtype=filled.dtype, device=self.device)
        except RuntimeError as error:  # PyTorch's, for the memory of the CPU and of a GPU
            raise MemoryError(f"{self.setting} does not fit") from error
        ring[: len(filled)] = filled
        return ring
