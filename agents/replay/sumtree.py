"""A sum tree: draws in proportion to priorities, a whole batch at a time."""

from __future__ import annotations

import numpy as np


class SumTree:
    """Priorities of `size` items; setting and drawing n of them takes O(n log size), vectorised.

    Args:
        size: Items; all start with priority 0.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.depth = max(1, (size - 1).bit_length())
        self.base = 1 << self.depth
        self.nodes = np.zeros(2 * self.base)  # node k has the children 2k and 2k + 1; 1 is the root

    @property
    def total(self) -> float:
        """Sum of all priorities."""
        return float(self.nodes[1])

    @property
    def priorities(self) -> np.ndarray:
        """[size]."""
        return self.nodes[self.base : self.base + self.size]

    def set(self, items: np.ndarray, priority: np.ndarray | float) -> None:
        """Sets the priorities of `items` [n]; for an item given twice the last one counts."""
        nodes = items + self.base
        self.nodes[nodes] = priority
        for _ in range(self.depth):
            nodes = np.unique(nodes >> 1)
            self.nodes[nodes] = self.nodes[2 * nodes] + self.nodes[2 * nodes + 1]

    def sample(self, uniform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draws one item for each number [n] in [0, 1), stratified over n equal slices.

        Returns:
            items [n], and their probability times the number of items with a priority [n].
        """
        count = len(uniform)
        mass = (np.arange(count) + uniform) * (self.total / count)
        nodes = np.ones(count, np.int64)
        for _ in range(self.depth):
            left = self.nodes[2 * nodes]
            right = (mass >= left) & (self.nodes[2 * nodes + 1] > 0)
            mass = np.where(right, mass - left, mass)
            nodes = 2 * nodes + right
        share = self.nodes[nodes] / self.total * np.count_nonzero(self.priorities)
        return nodes - self.base, share
