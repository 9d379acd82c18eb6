"""What an agent claims to learn; its subclasses say where they differ."""

from __future__ import annotations

from typing import ClassVar

import gymnasium
from gymnasium import spaces

from .setup import AgentConfig

CHOICES = spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary
"""Kinds of actions that are choices."""
MAXIMUM = "a target is the maximum over actions, and over a Box that is no finite search"
"""Why an agent that learns the values of all actions learns no others."""


class Claims:
    """What `build`, `neuraxis list`, README's table and the tests read of an agent's class."""

    asynchronous: ClassVar[bool] = False
    """Whether it can learn from rollouts of older weights, and of some of the columns at a time."""
    late: ClassVar[bool] = False
    """Whether it can learn from rollouts of older weights that have all columns. An asynchronous
    agent can, too."""
    why_not_late: ClassVar[str] = ""
    """Why it can learn from rollouts of its newest weights only."""
    memory: ClassVar[bool] = True
    """Whether its network may have memory."""
    has_network: ClassVar[bool] = True
    """Whether it learns a network; a tabular agent does not."""
    rewarded: ClassVar[bool] = True
    """Whether it learns from rewards; if not, it needs recorded episodes or a teacher."""
    learns_policy: ClassVar[bool] = True
    """Whether it learns a policy; if not, nothing is evaluated while it trains."""
    outside: ClassVar[bool] = False
    """Whether another library trains it, in `neuraxis baseline`."""
    has_critic: ClassVar[bool] = False
    """Whether a critic learns beside the actor, which may have blocks of its own."""
    action_spaces: ClassVar[tuple[type[gymnasium.Space], ...]] = (*CHOICES, spaces.Box)
    """Kinds of actions that it can learn."""
    why_these_actions: ClassVar[str] = ""
    """Why it can learn no other kinds of actions."""

    @classmethod
    def needs_memory(cls, config: AgentConfig) -> bool:
        """Whether these settings make sense only for a network with memory."""
        return False
