"""The action head for an action space."""

from __future__ import annotations

from typing import Any

from gymnasium import Space, spaces

from ...core.errors import shorten
from .discrete import Bernoulli, Categorical, MultiCategorical
from .distribution import ActionHead
from .gaussian import Gaussian, GaussianConfig
from .squashed import Squashed
from .state_noise import StateNoise


def action_head(
    space: Space, in_size: int, gain: float = 0.01, gaussian: GaussianConfig | None = None
) -> ActionHead[Any]:
    """The head for an action space.

    Args:
        space: Of one environment; discrete actions count from 0, as `envs.make` gives them.
        in_size: Features D.
        gain: Of the orthogonal start weights.
        gaussian: The distribution of a Box's actions; None: its defaults.

    Raises:
        ValueError: There is no head for this space, or not with these settings.
    """
    if isinstance(space, spaces.Discrete):
        return Categorical(in_size, gain, space)
    if len(space.shape or ()) == 1:
        match space:
            case spaces.MultiDiscrete():
                return MultiCategorical(in_size, gain, space)
            case spaces.MultiBinary():
                return Bernoulli(in_size, gain, space)
            case spaces.Box():
                config = gaussian or GaussianConfig()
                kind = StateNoise if config.use_sde else Gaussian
                head = kind(in_size, gain, space, config)
                return Squashed(head, space) if config.squashed else head
    raise ValueError(
        f"action space {shorten(space)}: no head; expected Discrete, or MultiDiscrete, MultiBinary "
        "or Box with one axis"
    )
