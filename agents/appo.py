"""Asynchronous PPO: the clipped surrogate on V-trace advantages.

PPO for rollouts of older weights: values and advantages are corrected by V-trace (Espeholt et al.
2018), and the ratio is taken against the log-probabilities that the policy wrote down when it
acted. The clip therefore bounds how far the policy moves from the one that acted, however old that
is: what has left the interval already earns nothing more. On-policy it is PPO.

Deviations: advantages are not weighted by rho, for the surrogate's ratio is that weight already.
IMPACT (Luo et al. 2020) and RLlib's APPO take the ratio against a slowly copied target network,
weighted by that network's ratio to the acting policy, and RLlib adds a KL penalty; here there is no
target network, and no penalty. Targets are those of the weights that the rollout found, in all
epochs. With dropout or batch normalisation old log-probabilities are PPO's under the update's
masks, corrected by how far the policy was from the acting one without masks.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from ..envs.rollout import Rollout
from ..envs.tree import Tree
from .agent import Setup
from .losses import masked_mean
from .optimizer import Metrics
from .policies import ActorCritic
from .ppo import PPO
from .returns import vtrace


class APPO(PPO):
    """PPO that may learn from rollouts of older weights."""

    asynchronous: ClassVar[bool] = True

    class Config(PPO.Config, frozen=True):
        """PPO's settings and the two limits of V-trace."""

        name: str = "appo"
        """This file."""
        rho_bar: float = Field(default=1.0, gt=0)
        """Limit of the ratios that weigh TD errors."""
        c_bar: float = Field(default=1.0, gt=0)
        """Limit of the ratios that carry corrections to earlier steps."""

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.limits = config.rho_bar, config.c_bar

    def estimate(
        self, rollout: Rollout, value: Tensor, log_prob: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Metrics]:
        """See `PPO.estimate`; V-trace, and the log-probabilities of acting."""
        cfg, acted = self.config, rollout.extras["log_prob"]
        stream = self._reward(rollout), rollout.discount, rollout.valid, value
        moved = log_prob - acted
        target, advantage, rho = vtrace(*stream, moved, cfg.gamma, cfg.gae_lambda, *self.limits)
        estimates = {"advantage": advantage, "log_prob": acted, "moved": moved}
        metrics = {"policy/rho": masked_mean(rho, rollout.valid)}
        return target - value[:-1], estimates, metrics

    def _log_prob_under_same_masks(self, old: ActorCritic, batch: dict[str, Tree]) -> Tensor:
        return super()._log_prob_under_same_masks(old, batch) - batch["moved"]
