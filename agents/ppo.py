"""Proximal policy optimisation: the clipped surrogate, for every action space and every backbone.

Schulman et al. 2017 with the details of Huang et al. 2022 ("The 37 implementation details of PPO").
Networks with memory learn from sequences of `sequence_length` steps and the memory at their start;
feed-forward networks learn from single steps: their sequences have length 1.

Deviations: values and log-probabilities are computed in `learn` (see `AdvantageAgent`): acting is
cheaper. With dropout or batch normalisation the old log-probabilities are computed again in each
update, with its masks and statistics, and where observations are augmented, of these; otherwise the
ratios would not begin at 1. So are the values around which `clip_range_vf` clips.

Where rollouts are late, the old policy is still the one that acted: the ratios are to the
log-probabilities that it wrote down, and do not begin at 1. Values are those of the weights that
learn.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, ClassVar, NotRequired

import torch
from pydantic import Field
from torch import Tensor

from ..core.rollout import Rollout
from ..core.tree import Tree, map_tree
from .advantage import AdvantageAgent, AdvantageConfig
from .agent import Metrics
from .augmentation import Augmentation
from .learning.losses import approx_kl, clipped_surrogate, masked_mean, value_loss
from .learning.schedules import Shape
from .learning.terms import Terms
from .learning.vector import in_train_mode
from .policies.actor_critic import ActorCritic
from .policies.policy import differs_in_training
from .setup import Setup
from .teacher import Lesson, given_teacher
from .teacher_config import TaughtConfig


class Batch(Lesson):
    """N sequences of L steps, as the loss takes them."""

    obs: Tree  # [L, N, *obs]
    first: Tensor  # [L, N] bool
    state: Tree  # [*, N, *], before obs[0]
    action: Tensor  # [L, N, *act]
    log_prob: Tensor  # [L, N], of the old policy
    advantage: Tensor  # [L, N]
    value: Tensor  # [L, N], of the old weights
    target: Tensor  # [L, N], what values are to become
    valid: Tensor  # [L, N], 0 at resets
    weight: Tensor  # [L, N], sums to 1
    ent_coef: Tensor  # scalar
    clip_range: Tensor  # scalar
    clip_range_vf: NotRequired[Tensor]  # scalar
    moved: NotRequired[Tensor]  # [L, N], what the log-probability has changed since the action


class PPO(AdvantageAgent):
    """Proximal policy optimisation, discrete and continuous."""

    late: ClassVar[bool] = True

    class Config(TaughtConfig, AdvantageConfig, frozen=True):
        """PPO's settings; names as in Stable-Baselines3."""

        name: str = "ppo"
        """This file."""
        n_epochs: int = Field(default=10, gt=0)
        """Passes over each rollout."""
        vf_coef: float = Field(default=0.5, ge=0)
        """Weight of the value loss."""
        clip_range: float = Field(default=0.2, gt=0)
        """Half the width of the interval around 1 outside which the ratio gains nothing."""
        clip_range_schedule: Shape = "constant"
        """How it falls to 0 over the run."""
        clip_range_vf: float | None = Field(default=None, gt=0)
        """How far the updates of a rollout may move a value; None: no limit, mostly better."""
        clip_range_vf_schedule: Shape = "constant"
        """How it falls to 0 over the run."""
        target_kl: float | None = Field(default=None, gt=0)
        """End a rollout's updates when the KL divergence exceeds 1.5 times this; None: never."""

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config = config
        steps = config.n_steps * setup.num_envs
        self.teacher = given_teacher(config.teacher, setup, self.policy, self.parts)
        self.old: ActorCritic | None = None
        self.veto = self.too_far if config.target_kl else None
        looks = "agent.target_kl decides before each step whether it is taken"
        reason = looks if config.target_kl else None
        self.differs = differs_in_training(self.policy)  # looks through all layers
        if self.differs:
            reason = "the network has dropout or batch normalisation"
        updates = setup.total_steps / steps * config.n_epochs * self.batches
        self.execute(updates, reason)

    @property
    def learns_values(self) -> bool:
        """See `OnPolicyAgent.learns_values`."""
        return self.config.vf_coef > 0

    def batch_of(self, rollout: Rollout[Tensor]) -> tuple[dict[str, Tree], Metrics]:
        """See `AdvantageAgent.batch_of`; keeps the policy of now if it is to be asked again."""
        if self.differs or self.augmentation is not None:
            old = copy.deepcopy(self.policy)
            self.old = in_train_mode(old) if self.differs else old
        return super().batch_of(rollout)

    def estimate(
        self, rollout: Rollout[Tensor], value: Tensor, log_prob: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Metrics]:
        """See `AdvantageAgent.estimate`; log-probabilities of acting are the old ones, if known."""
        error, estimates, metrics = super().estimate(rollout, value, log_prob)
        acted = rollout.extras.get("log_prob")
        if acted is not None:
            estimates |= {"log_prob": acted, "moved": log_prob - acted}
        return error, estimates, metrics

    def minibatches(self, batch: dict[str, Tree]) -> Iterator[dict[str, Tree]]:
        """See `FreshAgent.minibatches`: sequences, shuffled anew in each epoch."""
        return self.shuffled(batch, self.config.n_epochs)

    def augmented(self, minibatch: Any, augment: Augmentation) -> Any:
        """See `FreshAgent.augmented`: the old policy is asked about the same observations."""
        batch = super().augmented(minibatch, augment)
        if not self.differs:  # else the loss asks
            batch["log_prob"], batch["value"] = self.said_before(batch)
        return batch

    def coefficients(self) -> Terms:
        """See `FreshAgent.coefficients`: the clip ranges as well."""
        cfg = self.config
        found = super().coefficients()
        found["clip_range"] = self.scheduled(cfg.clip_range, cfg.clip_range_schedule)
        if cfg.clip_range_vf is not None:
            found["clip_range_vf"] = self.scheduled(cfg.clip_range_vf, cfg.clip_range_vf_schedule)
        return found

    def loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """The clipped objective, the value error and the entropy bonus of a minibatch."""
        cfg, policy, old = self.config, self.policy, (batch["log_prob"], batch["value"])
        if self.differs:  # under the same masks (Hausknecht & Wagener 2022)
            with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
                old = self.said_before(batch)
        params, value, _ = policy(batch["obs"], batch["state"], batch["first"])
        log_ratio = policy.head.log_prob(params, batch["action"]) - old[0]
        surrogate = clipped_surrogate(log_ratio, batch["advantage"], batch["clip_range"])
        error = value_loss(value, batch["target"], old[1], batch.get("clip_range_vf"))
        seen = params if cfg.ent_coef else map_tree(Tensor.detach, params)  # needs no gradient
        entropy = policy.head.entropy(seen)
        total = torch.add(surrogate, error, alpha=cfg.vf_coef)
        if cfg.ent_coef:
            total = total - batch["ent_coef"] * entropy
        terms = {"log_ratio": log_ratio, "surrogate": surrogate, "error": error, "entropy": entropy}
        terms = {name: term.detach() for name, term in terms.items()} | {"valid": batch["valid"]}
        if self.teacher is not None:
            total = self.teacher.teach(total, params, batch, terms)
        if cfg.target_kl is not None:
            terms["weight"] = batch["weight"]
        return (total * batch["weight"]).sum(), terms

    @torch.no_grad()
    def said_before(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-probabilities [L, N] of acting and values [L, N], of a minibatch.

        They are those of the weights at the start of `learn`, under the present masks. If other
        weights acted, what has changed since, computed without masks, is taken off.
        """
        assert self.old is not None
        params, value, _ = self.old(batch["obs"], batch["state"], batch["first"])
        log_prob = self.old.head.log_prob(params, batch["action"])
        return (log_prob - batch["moved"] if "moved" in batch else log_prob), value

    def too_far(self, terms: Terms) -> bool:
        """Whether the KL divergence of all learners' steps exceeds 1.5 times `target_kl`."""
        assert self.config.target_kl is not None
        kl = (approx_kl(terms["log_ratio"]) * terms["weight"]).sum()
        if self.setup.replicas is not None:
            kl = self.setup.replicas.sum(kl)
        return float(kl) > 1.5 * self.config.target_kl

    def metrics(self, terms: Terms, coefficients: Terms) -> Metrics:
        """See `FreshAgent.metrics`."""
        clipped = (terms["log_ratio"].exp() - 1).abs() > coefficients["clip_range"]
        means = {
            "loss/policy": terms["surrogate"],
            "loss/value": terms["error"],
            "policy/entropy": terms["entropy"],
            "policy/approx_kl": approx_kl(terms["log_ratio"]),
            "policy/clip_fraction": clipped.float(),
        }
        return {name: masked_mean(term, terms["valid"]) for name, term in means.items()}
