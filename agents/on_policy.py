"""On-policy agents: actor-critics that learn from fresh rollouts."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from ..core.rollout import Rollout
from ..networks.heads.gaussian import GaussianConfig
from .fresh import FreshAgent, FreshConfig
from .learning.losses import masked_variance
from .learning.schedules import Shape
from .learning.terms import Terms
from .policies.actor_critic import ActorCritic
from .setup import Setup


class OnPolicyConfig(FreshConfig, frozen=True):
    """Settings of every actor-critic that learns from fresh rollouts."""

    max_grad_norm: float | None = Field(default=0.5, gt=0)
    """Limit of the gradient's global norm."""
    optimizer_eps: float = Field(default=1e-5, gt=0)
    """The optimizer's epsilon, which keeps steps small where gradients are tiny."""
    ent_coef: float = Field(default=0.0, ge=0)
    """Weight of the entropy bonus."""
    ent_coef_schedule: Shape = "constant"
    """How it falls to 0 over the run."""
    gaussian: GaussianConfig = GaussianConfig()
    """The distribution of Box actions."""


class OnPolicyAgent(FreshAgent[ActorCritic]):
    """An actor-critic that learns from fresh rollouts; see `FreshAgent` for what a subclass adds.

    When it acts, the policy of an asynchronous agent, or of one whose rollouts are late, writes the
    log-probabilities of its actions into the rollout's extras. Any other policy writes its features
    there, if the learner is on the CPU: those of a GPU would be rounded in another way.
    """

    has_critic: ClassVar[bool] = True
    settings: OnPolicyConfig

    def __init__(self, config: OnPolicyConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        features = "features" if self.device.type == "cpu" else None
        self.policy = ActorCritic(
            setup.network,
            setup.observation_space,
            setup.action_space,
            config.normalize_observations,
            "log_prob" if self.asynchronous or setup.late else features,
            config.gaussian,
        )
        self.policy.to(self.device).eval()
        self.optimizer = self.build_optimizer(self.trained(), config)
        self.parts.update(policy=self.policy, optimizer=self.optimizer)

    def trained(self) -> nn.Module:
        """What the optimizer trains: the whole policy."""
        return self.policy

    @property
    def learns_values(self) -> bool:
        """Whether a loss weighs the values that the optimizer trains."""
        return True

    def untrained(self) -> list[str]:
        """See `Agent.untrained`: without a loss that weighs them, the values and their critic."""
        values = set() if self.learns_values else {"critic", "value"} - self.carried
        found = values.union(super().untrained())
        return [name for name, _ in self.policy.named_children() if name in found]

    def as_if_seen(self, rollout: Rollout[Tensor]) -> Rollout[Tensor]:
        """See `FreshAgent.as_if_seen`: its log-probabilities are of these inputs; no features."""
        extras = {name: x for name, x in rollout.extras.items() if name != "features"}
        rollout = replace(rollout, extras=extras)
        if "log_prob" in extras:
            _, extras["log_prob"], _ = self.policy.unroll(rollout, len(rollout.reward))
        return rollout

    def coefficients(self) -> Terms:
        """See `FreshAgent.coefficients`: the weight of the entropy."""
        cfg = self.settings
        own = {"ent_coef": self.scheduled(cfg.ent_coef, cfg.ent_coef_schedule)}
        return super().coefficients() | own


def explained_variance(error: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """1 - variance of `error` (target - value) / variance of `target`, [T, B] over `mask`."""
    return 1 - masked_variance(error, mask) / masked_variance(target, mask).clamp(min=1e-8)
