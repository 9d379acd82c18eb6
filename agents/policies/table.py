"""The policy of a table of action values: a row for each observation, a cell for each action."""

from __future__ import annotations

import math

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from ...core.acting import ActResult
from ...core.errors import shorten
from ...core.tree import Tree, leaves
from ...networks.observation import leaf_spaces
from .epsilon_greedy import EpsilonGreedy

MOST = 10_000_000
"""Cells of a table at most: 40 MB, which every checkpoint holds and every worker gets."""


class Table(EpsilonGreedy):
    """Action values in a table, with epsilon-greedy exploration.

    The last part of an observation counts fastest: rows of Tuple(Discrete(2), Discrete(3)) are
    (0, 0), (0, 1), (0, 2), (1, 0), ...

    Args:
        observation_space: Discrete, MultiDiscrete, MultiBinary, or a Tuple or Dict of them.
        action_space: Discrete, MultiDiscrete or MultiBinary; each joint action has a cell.
        start: The value of every cell.
        columns: How many columns have an epsilon of their own; None: all share one.

    Attributes:
        cells: [S, A], the values of A actions after S observations.

    Raises:
        ValueError: Observations cannot be counted, or there are too many.
    """

    def __init__(
        self,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        start: float = 0.0,
        columns: int | None = None,
    ) -> None:
        super().__init__(observation_space, action_space, normalize=False, columns=columns)
        found = [space for _, space in leaf_spaces(self.input_space)]
        sizes = [size for space in found for size in _sizes(space)]
        count = math.prod(sizes)
        if count * self.num_actions > MOST:
            raise ValueError(
                f"observation space {shorten(self.input_space)}: a table of {count:,} observations "
                f"and {self.num_actions:,} actions; expected at most {MOST:,} cells; agent=dqn has "
                "a network in its place"
            )
        self.axes = [len(space.shape or ()) for space in found]
        self.strides: Tensor
        strides = torch.tensor([math.prod(sizes[place + 1 :]) for place in range(len(sizes))])
        self.register_buffer("strides", strides, persistent=False)
        cells = torch.full((count, self.num_actions), start)
        self.cells = nn.Parameter(cells, requires_grad=False)

    def initial_state(self, batch: int) -> Tree:
        """See `Policy.initial_state`: a table has no memory."""
        return ()

    def rows(self, obs: Tree) -> Tensor:
        """The numbers [*] int64 of observations, a tree of [*, *obs]."""
        pairs = zip(leaves(self.inputs(obs)), self.axes, strict=True)
        parts = [leaf.flatten(-axes) if axes else leaf[..., None] for leaf, axes in pairs]
        return (torch.cat(parts, -1) * self.strides).sum(-1)

    def forward(self, obs: Tree, state: Tree, first: Tensor) -> tuple[Tensor, Tree]:
        """Values [T, B, A] of the joint actions, and no memory."""
        return self.masked(self.cells[self.rows(obs)], obs), state

    def act(
        self,
        obs: Tree,
        state: Tree,
        first: Tensor,
        noise: Tensor | None = None,
        greedy: bool = False,
    ) -> ActResult:
        """See `Policy.act`: with probability epsilon, drawn for each column, a random action."""
        q = self.masked(self.cells[self.rows(obs)], obs)
        return self.choose(q, noise, first, greedy), {}, state


def _sizes(space: gymnasium.Space) -> list[int]:
    """How many values each part of a leaf has."""
    match space:
        case spaces.Discrete():
            return [int(space.n)]
        case spaces.MultiDiscrete():
            return [int(size) for size in space.nvec.flat]
        case spaces.MultiBinary():
            return [2] * int(np.prod(space.shape))
    raise ValueError(
        f"observation space {shorten(space)}: a table has a row for each observation; expected "
        "Discrete, MultiDiscrete, MultiBinary, or a Tuple or Dict of them; agent=dqn has a network "
        "in its place"
    )
