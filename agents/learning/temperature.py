"""The temperature of maximum-entropy agents: the reward that one nat of entropy is worth."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .terms import Terms


class Temperature(nn.Module):
    """The weight of the entropy: a positive number, learned by its logarithm.

    Args:
        start: Its first value, which stays if it is not learned.
        target_entropy: The entropy of the policy that learning aims at, in nats.
    """

    def __init__(self, start: float, target_entropy: float) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(start)))
        self.target_entropy = target_entropy

    def forward(self) -> Tensor:
        """The temperature: a scalar without gradient."""
        return self.log.detach().exp()

    @torch.no_grad()
    def set(self, value: float) -> None:
        """Sets the temperature, to 0 or more."""
        self.log.fill_(math.log(value) if value else -math.inf)

    def loss(self, batch: Terms) -> tuple[Tensor, Terms]:
        """The loss whose steps raise the temperature while the entropy is below its target.

        "Soft actor-critic algorithms and applications" by Haarnoja et al. (2018), equation 18, with
        the logarithm in place of the temperature, as in its authors' code.

        Args:
            batch: `log_prob` [L, N] of new actions, and `weight` [L, N]: importance weights times
                what makes a mean.

        Returns:
            The loss, a scalar, and no terms.
        """
        missing = batch["log_prob"] + self.target_entropy
        return -(batch["weight"] * self.log * missing).sum(), {}
