"""Joint actions: all combinations of the parts of a discrete action, numbered from 0.

A value-based agent compares the values of all actions. Of an action with several parts
(MultiDiscrete, MultiBinary) these are the combinations of its parts' choices.
"""

from __future__ import annotations

import math

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from ...core.action_mask import choices
from ...core.errors import shorten

MOST = 10_000
"""Joint actions that are compared at most: each has an output or, in a table, a cell."""


class JointActions(nn.Module):
    """From an action to its number, and back. The number of a Discrete action is the action.

    The last part counts fastest: MultiDiscrete([2, 3]) is (0, 0), (0, 1), (0, 2), (1, 0), ...

    Args:
        space: Discrete, MultiDiscrete or MultiBinary, counting from 0 as `envs.make` gives them.

    Attributes:
        count: A, the number of joint actions.

    Raises:
        ValueError: There are more than 10,000, or a MultiDiscrete has no axis.
    """

    def __init__(self, space: gymnasium.Space) -> None:
        super().__init__()
        shape = space.shape or ()
        if not isinstance(space, spaces.Discrete) and not shape:
            raise ValueError(f"action space {shorten(space)}: has no axis; expected Discrete")
        sizes = choices(space)
        self.count = math.prod(sizes)
        if self.count > MOST and len(sizes) > 1:
            raise ValueError(
                f"action space {shorten(space)}: has {self.count:,} joint actions, each with a "
                f"value of its own; expected at most {MOST:,}; agent=ppo chooses each part alone"
            )
        self._axes = len(shape)
        self.actions: Tensor | None
        self.strides: Tensor | None
        self.places: Tensor | None
        actions = strides = places = None
        if not isinstance(space, spaces.Discrete):
            parts = np.stack(np.unravel_index(np.arange(self.count), sizes), -1)
            actions = torch.from_numpy(parts.reshape(-1, *shape).astype(space.dtype))
            strides = torch.tensor([math.prod(sizes[i + 1 :]) for i in range(len(sizes))])
            places = torch.from_numpy(parts + np.cumsum([0, *sizes[:-1]]))  # [A, parts], in a mask
        self.register_buffer("actions", actions, persistent=False)
        self.register_buffer("strides", strides, persistent=False)
        self.register_buffer("places", places, persistent=False)

    def action(self, index: Tensor) -> Tensor:
        """The actions [*, *act] of numbers [*] int64, as the environment takes them."""
        return index if self.actions is None else self.actions[index]

    def index(self, action: Tensor) -> Tensor:
        """The numbers [*] int64 of actions [*, *act]."""
        if self.strides is None:
            return action
        return (action.flatten(-self._axes) * self.strides).sum(-1)

    def mask(self, mask: Tensor) -> Tensor:
        """Which joint actions [*, A] an action mask [*, n] allows: each part must be allowed."""
        return mask if self.places is None else mask[..., self.places].all(-1)
