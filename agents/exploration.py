"""How much agents with epsilon-greedy policies explore: settings, and epsilon by them."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from .learning.schedules import Shape, scheduled
from .setup import AgentConfig


class ExplorationConfig(AgentConfig, frozen=True):
    """Settings of epsilon-greedy exploration; names as in Stable-Baselines3 where it has them."""

    exploration_fraction: float = Field(default=0.1, ge=0, le=1)
    """Share of the run over which epsilon falls."""
    exploration_schedule: Shape = "linear"
    """How it falls from `exploration_initial_eps` to `exploration_final_eps`."""
    exploration_initial_eps: float = Field(default=1.0, ge=0, le=1)
    """Epsilon at the start."""
    exploration_final_eps: float = Field(default=0.05, ge=0, le=1)
    """Epsilon after the fall."""
    exploration_per_column: bool = False
    """Column i of N falls to final_eps^(1 + 7 i / (N - 1)) (Ape-X, Horgan et al. 2018)."""


def epsilon(config: ExplorationConfig, progress: float, columns: int) -> Tensor:
    """Epsilon at a share of the run that is done.

    Args:
        config: The settings.
        progress: The share, in [0, 1].
        columns: N.

    Returns:
        A scalar, or [N] if columns differ; in double.
    """
    share = progress / config.exploration_fraction if config.exploration_fraction else 1.0
    final = torch.tensor(config.exploration_final_eps, dtype=torch.float64)
    if config.exploration_per_column:
        final = final ** (1 + 7 * torch.linspace(0, 1, columns, dtype=torch.float64))
    start, shape = config.exploration_initial_eps, config.exploration_schedule
    return torch.as_tensor(scheduled(start, shape, share, final))
