"""Soft actor-critic: a policy that is rewarded for its entropy, for bounded and discrete actions.

"Soft actor-critic" (Haarnoja et al. 2018a) with the learned temperature of "Soft actor-critic
algorithms and applications" (2018b): two critics, the smaller of which makes the targets. Switches:

    discrete actions   expectations over the policy's probabilities in place of a drawn action:
                       "Soft actor-critic for discrete action settings" by Christodoulou (2019)
    n_quantiles > 1    critics of the return's distribution: TQC (Kuznetsov et al. 2020), agent=tqc
    tau = null         no target network: CrossQ (Bhatt et al. 2024), agent=crossq

Deviations: no first phase of uniform actions, as the policy is almost uniform at the start. n-step
returns, an option, have the entropy of the state where they bootstrap, and not of those before. TQC
with discrete actions draws one for its target distribution.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from gymnasium import spaces
from pydantic import Field, model_validator
from torch import Tensor

from ..core.tree import Tree
from ..networks.batch_norm import BatchStatistics
from ..networks.heads.discrete import INVALID, gumbel
from .actor_critic_batch import Batch
from .agent import Metrics
from .claims import CHOICES
from .learning.distributional import quantile_td, truncated_mixture
from .learning.losses import masked_mean
from .learning.schedules import Shape, scheduled
from .learning.temperature import Temperature
from .learning.terms import Terms
from .off_policy_actor_critic import OffPolicyActorCritic
from .off_policy_config import ActorCriticConfig
from .policies.softmax import SoftmaxPolicy
from .policies.squashed import SquashedGaussian, squashed_sample
from .setup import Setup
from .teacher import given_teacher
from .teacher_config import TaughtConfig


class SAC(OffPolicyActorCritic[SquashedGaussian | SoftmaxPolicy]):
    """Soft actor-critic on bounded Box actions and on discrete ones."""

    action_spaces = (*CHOICES, spaces.Box)

    class Config(TaughtConfig, ActorCriticConfig, frozen=True):
        """SAC's settings; names as in Stable-Baselines3."""

        name: str = "sac"
        """This file."""
        learning_rate: float = Field(default=3e-4, gt=0)
        """Step of the optimizers, of actor, critics and temperature."""
        tau: float | None = Field(default=0.005, gt=0, le=1)
        """Share of the newest weights that target critics take after each update; null: none; one
        pass in train mode values both states: batch norms see both, dropout masks both (CrossQ)."""
        n_quantiles: int = Field(default=1, gt=0)
        """Quantiles of the return that each critic learns (TQC); 1: its mean alone."""
        top_quantiles_to_drop_per_net: int = Field(default=2, ge=0)
        """Greatest quantiles of each critic that targets leave out (unused with n_quantiles=1)."""
        ent_coef: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
        """Weight of the entropy (the temperature); auto: it is learned, see `target_entropy`."""
        ent_coef_schedule: Shape = "constant"
        """How a fixed temperature changes over the run, towards 0."""
        ent_coef_init: float = Field(default=1.0, gt=0)
        """First value of a learned temperature."""
        target_entropy: float | Literal["auto"] = "auto"
        """Entropy in nats that a learned temperature aims at; auto: minus an action's numbers or,
        for discrete actions, a share of the most that is possible."""
        target_entropy_share: float = Field(default=0.98, ge=0, le=1)
        """The share that target_entropy=auto takes (unused for continuous actions)."""
        log_std_min: float = -20.0
        """Least logarithm of the policy's standard deviation (unused for discrete actions)."""
        log_std_max: float = 2.0
        """Greatest logarithm of the policy's standard deviation (unused for discrete actions)."""

        @model_validator(mode="after")
        def _keeps_quantiles(self) -> SAC.Config:
            drop, count = self.top_quantiles_to_drop_per_net, self.n_quantiles
            if count > 1 and drop >= count:
                raise ValueError(
                    f"top_quantiles_to_drop_per_net={drop}: expected less than n_quantiles={count}"
                )
            return self

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config = config
        if config.ent_coef == "auto" and config.ent_coef_schedule != "constant":
            raise ValueError(
                f"agent.ent_coef_schedule={config.ent_coef_schedule}: expected constant, as "
                "agent.ent_coef=auto is learned; or a number for agent.ent_coef"
            )
        self.discrete = not isinstance(setup.action_space, spaces.Box)
        self.distributional = config.n_quantiles > 1
        policy = self._policy()
        self.teacher = given_teacher(config.teacher, setup, policy, self.parts)
        self.makers["actor_optimizer"] = self._policy
        self.build_parts(config, policy, config.n_quantiles)
        normed = any(isinstance(layer, BatchStatistics) for layer in self.critics.modules())
        if config.tau is None and not normed:
            advice = "needs a batch norm in place of the target network; take network=crossq"
            self.notes = (f"agent.tau=null (CrossQ) {advice}",)
        start = config.ent_coef_init if config.ent_coef == "auto" else config.ent_coef
        self.temperature = Temperature(start, self._target_entropy()).to(self.device)
        self.parts["temperature"] = self.temperature
        if config.ent_coef == "auto":
            optimizer = self.build_optimizer(self.temperature, config)
            self.temperature_optimizer = self.parts["temperature_optimizer"] = optimizer
        self.execute(self.updates_per_step * setup.total_steps)

    def _target_entropy(self) -> float:
        cfg = self.config
        if cfg.target_entropy != "auto":
            return cfg.target_entropy
        if isinstance(self.policy, SoftmaxPolicy):
            return cfg.target_entropy_share * math.log(self.policy.joint.count)
        return -self.policy.noise_size

    def _policy(self) -> SquashedGaussian | SoftmaxPolicy:
        cfg, setup = self.config, self.setup
        given = setup.network, setup.observation_space
        if not isinstance(setup.action_space, spaces.Box):
            return SoftmaxPolicy(*given, setup.action_space, cfg.normalize_observations)
        limits = cfg.log_std_min, cfg.log_std_max, cfg.noise_repeat
        return SquashedGaussian(*given, setup.action_space, cfg.normalize_observations, *limits)

    def draw(self, *shape: int) -> Tensor:
        """See `OffPolicyActorCritic.draw`; Gumbel numbers for discrete actions."""
        if self.discrete:
            return gumbel(torch.rand(*shape, self.policy.noise_size))
        return super().draw(*shape)

    def before_updates(self, steps: int) -> None:
        """See `OffPolicyAgent.before_updates`: the temperature of now, if it is not learned."""
        cfg = self.config
        if cfg.ent_coef != "auto":
            self.temperature.set(scheduled(cfg.ent_coef, cfg.ent_coef_schedule, self.progress))

    def update(self, batch: Batch) -> Terms:
        """See `Agent.update`: steps of critics, actor and temperature; the target follows."""
        critic = self.critic_optimizer.step(self.critic_loss, batch)
        actor = self.policy_step(batch)
        if actor and self.config.ent_coef == "auto":
            log_prob = actor["log_prob"] + actor.pop("forbidden", 0.0)
            entropy = {"log_prob": log_prob, "weight": batch["weight"]}
            self.temperature_optimizer.step(self.temperature.loss, entropy)
        self.follow()
        scalars = {"temperature": self.temperature(), "grad_norm": critic["grad_norm"]}
        return actor | critic | scalars | {"valid": batch["valid"]}

    def next_action(self, batch: Batch, obs: Tree, first: Tensor) -> tuple[Tensor | None, Tree]:
        """See `OffPolicyActorCritic.next_action`: of the newest policy, with log-probabilities."""
        params, _ = self.policy(obs, batch["memory"]["next_actor"], first)
        noise = batch["noise"][1:]
        if not isinstance(self.policy, SoftmaxPolicy):
            return squashed_sample(params, noise)
        if not self.distributional:
            return None, params
        index = (params + noise).argmax(-1, keepdim=True)
        return self.policy.joint.action(index.squeeze(-1)), params.gather(-1, index).squeeze(-1)

    def bootstrap(self, value: Tensor, about: Tree) -> Tensor:
        """See `OffPolicyActorCritic.bootstrap`: the smallest value, and the entropy.

        With quantiles [S, N, K] values, the least of all critics'.
        """
        bonus = self.temperature() * about
        if self.distributional:
            drop = self.config.top_quantiles_to_drop_per_net
            return truncated_mixture(value, drop) - bonus[..., None]
        value = value.amin(0) - bonus
        return (about.exp() * value).sum(-1) if self.discrete else value

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """Half the squared errors of all critics or, with quantiles, the mean of their losses."""
        if not self.distributional:
            return super().critic_loss(batch)
        loss, terms = quantile_td(*self.values_and_targets(batch))
        return (batch["weight"] * loss).sum(), terms

    def actor_loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """Minus the value and the weighted entropy of new actions (2018b, equation 7).

        The value is the smallest of the critics' or, with quantiles, the mean of all of theirs.
        """
        obs, first = self.learned(batch)
        params, _ = self.policy(obs, batch["memory"]["actor"], first)
        action, log_prob = None, params
        if not self.discrete:
            action, log_prob = squashed_sample(params, batch["noise"][: len(first)])
        value = self.valued(batch, action)
        gain = value.mean(-1).mean(0) if self.distributional else value.amin(0)
        terms: Terms = {}
        if self.discrete:
            share = params.exp()
            gain, log_prob = (share * gain).sum(-1), (share * params).sum(-1)
            if self.policy.mask_path and self.config.target_entropy == "auto":
                allowed = (params > INVALID / 2).sum(-1).log() - math.log(params.shape[-1])
                terms["forbidden"] = self.config.target_entropy_share * allowed
        loss = self.temperature() * log_prob - gain
        terms |= {"log_prob": log_prob.detach(), "gain": gain.detach()}
        if self.teacher is not None:
            loss = self.teacher.teach(loss, params, batch, terms)
        return (batch["weight"] * loss).sum(), terms

    def metrics(self, terms: Terms) -> Metrics:
        """See `OffPolicyAgent.metrics`."""
        metrics = super().metrics(terms) | {"policy/temperature": terms["temperature"].mean()}
        if "td" in terms:
            metrics["loss/td"] = masked_mean(terms["td"], terms["valid"])
        if "log_prob" in terms:
            taught = terms.get("actor_valid", terms["valid"])
            metrics["policy/entropy"] = -masked_mean(terms["log_prob"], taught)
        return metrics
