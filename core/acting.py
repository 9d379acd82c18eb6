"""What acts in an environment, as the collector sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from .tree import Tree

ActResult = tuple[Tensor, dict[str, Tensor], Tree]
"""Actions [B, *act], extras that the policy stores with them [B, *], and the new memory."""

ActFunction = Callable[[Tree, Tree, Tensor, Tensor], ActResult]
"""Chooses one action a column, from obs [B, *obs], memory, first [B] and noise [B, *]."""


class Actor(Protocol):
    """What the collector needs of a policy; see `agents.policies.policy.Policy`."""

    noise_size: int

    def initial_state(self, batch: int) -> Tree:
        """The memory of `batch` columns that have seen nothing."""
        ...

    def noise(self, uniform: Tensor, columns: Tensor) -> Tensor:
        """The noise that an act function takes, from uniform numbers [T, B, noise_size].

        `columns` [B] are the numbers of the columns, counted over the whole run.
        """
        ...

    def act_functions(self, greedy: bool) -> Callable[[], ActFunction]:
        """What returns, at the start of each rollout, the function that acts in this rollout.

        All calls have equal shapes; `greedy` is without exploration.
        """
        ...
