"""Asynchronous PPO: the clipped surrogate on V-trace advantages.

PPO for rollouts of older weights: values and advantages are corrected by V-trace (Espeholt et al.
2018), and the ratio is to the probabilities that the policy wrote down when it acted. So the clip
limits how far the policy moves from the one that acted, however old that is: an action whose ratio
has left the interval gains nothing more. On rollouts of the newest weights it is PPO.

Deviations: advantages are not weighted by rho, because the ratio in the surrogate is this weight
already. IMPACT (Luo et al. 2020) and RLlib's APPO take the ratio to a slowly copied target network
and weigh it by the ratio of that network to the acting policy, and RLlib adds a KL penalty; here
are no target network and no penalty. Targets are computed once for all epochs, by the weights at
the start of `learn`. With dropout or batch normalisation the old log-probabilities are PPO's, under
the update's masks, minus the change since the actions were taken, without masks.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from ..core.rollout import Rollout
from .agent import Metrics
from .learning.losses import masked_mean
from .learning.returns import vtrace
from .ppo import PPO
from .setup import Setup


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
        self, rollout: Rollout[Tensor], value: Tensor, log_prob: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Metrics]:
        """See `PPO.estimate`: by V-trace."""
        cfg, acted = self.config, rollout.extras["log_prob"]
        stream = rollout.reward, rollout.discount, rollout.valid, value
        moved = log_prob - acted
        target, advantage, rho = vtrace(*stream, moved, cfg.gamma, cfg.gae_lambda, *self.limits)
        estimates = {"advantage": advantage, "log_prob": acted, "moved": moved}
        metrics = {"policy/rho": masked_mean(rho, rollout.valid)}
        return target - value[:-1], estimates, metrics
