"""IMPALA: an actor-critic for rollouts of older weights, corrected by V-trace.

Espeholt et al. 2018. When it acts, the policy writes down the log-probabilities of its actions; the
learner weighs each step by the ratio of its own probability to this one. A minibatch has whole
columns of the rollout, by default all of them: one gradient step. The targets of a minibatch are
computed just before its step, by the newest weights, so V-trace corrects later minibatches and
epochs as it corrects any other delay.

Deviations: Adam in place of RMSprop; losses are means over valid steps and not sums, so the
coefficients do not depend on the size of a rollout; the last action and reward are inputs only with
`env.last_action`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ..core.rollout import Rollout
from ..core.tree import Tree, map_tree
from .agent import Metrics
from .learning.losses import masked_mean
from .learning.minibatches import minibatches
from .learning.returns import vtrace
from .learning.terms import Terms
from .on_policy import OnPolicyAgent, OnPolicyConfig, explained_variance
from .setup import Setup
from .teacher import ADVICE, Lesson, given_teacher
from .teacher_config import TaughtConfig

COLUMNWISE = ("obs", "first", "action", "reward", "discount", "extras", "state")


class Batch(Lesson):
    """N columns of L steps, as the loss takes them."""

    obs: Tree  # [L, N, *obs]
    first: Tensor  # [L, N] bool
    state: Tree  # [*, N, *], before obs[0]
    action: Tensor  # [L, N, *act]
    advantage: Tensor  # [L, N], weighted by rho
    target: Tensor  # [L, N], what values are to become
    rho: Tensor  # [L, N], clipped ratios of probabilities
    valid: Tensor  # [L, N], 0 at resets
    weight: Tensor  # [L, N], sums to 1
    ent_coef: Tensor  # scalar


class IMPALA(OnPolicyAgent):
    """V-trace actor-critic, discrete and continuous."""

    asynchronous: ClassVar[bool] = True

    class Config(TaughtConfig, OnPolicyConfig, frozen=True):
        """IMPALA's settings."""

        name: str = "impala"
        """This file."""
        n_steps: int = Field(default=32, gt=0)
        """Steps of each environment between two updates."""
        batch_size: int | None = Field(default=None, gt=0)
        """Steps in a minibatch, rounded down to whole columns (at least one); None: the rollout."""
        n_epochs: int = Field(default=1, gt=0)
        """Passes over each rollout."""
        vf_coef: float = Field(default=0.5, ge=0)
        """Weight of the value loss."""
        gae_lambda: float = Field(default=1.0, ge=0, le=1)
        """Weight of longer returns in targets and advantages: 0 one-step, 1 as in the paper."""
        ent_coef: float = Field(default=0.01, ge=0)
        """Weight of the entropy bonus."""
        rho_bar: float = Field(default=1.0, gt=0)
        """Limit of the ratios that weigh TD errors and the policy gradient."""
        c_bar: float = Field(default=1.0, gt=0)
        """Limit of the ratios that carry corrections to earlier steps."""

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config = config
        self.teacher = given_teacher(config.teacher, setup, self.policy, self.parts)
        minibatches = config.n_epochs * -(-setup.num_envs // self._columns(setup.num_envs))
        self.execute(setup.total_steps / (config.n_steps * setup.num_envs) * minibatches)

    @property
    def learns_values(self) -> bool:
        """See `OnPolicyAgent.learns_values`."""
        return self.config.vf_coef > 0

    def _columns(self, available: int) -> int:
        """Most columns of a minibatch, of a rollout that has `available` ones."""
        cfg = self.config
        return max(1, cfg.batch_size // cfg.n_steps) if cfg.batch_size else available

    def batch_of(self, rollout: Rollout[Tensor]) -> tuple[Rollout[Tensor], Metrics]:
        """See `FreshAgent.batch_of`: the rollout itself, as each minibatch has own targets."""
        return rollout, {}

    def minibatches(self, batch: Rollout[Tensor]) -> Iterator[dict[str, Tree]]:
        """See `FreshAgent.minibatches`: columns, shuffled anew in each epoch, with targets."""
        columns = len(batch.columns)
        stream = {name: getattr(batch, name) for name in COLUMNWISE}
        size = self._columns(columns)
        for part in minibatches(stream, columns, size, self.config.n_epochs, self.rng):
            yield self.targets(replace(batch, **part))

    @torch.no_grad()
    def targets(self, rollout: Rollout[Tensor]) -> dict[str, Tree]:
        """Makes a minibatch from a rollout: V-trace by the newest weights, in eval mode."""
        cfg, valid = self.config, rollout.valid
        value, log_prob, _ = self.policy.unroll(rollout, len(valid))
        target, advantage, rho = vtrace(
            *(rollout.reward, rollout.discount, valid, value),
            log_prob - rollout.extras["log_prob"],
            *(cfg.gamma, cfg.gae_lambda, cfg.rho_bar, cfg.c_bar),
        )
        advice = {} if self.teacher is None else {ADVICE: rollout.extras[ADVICE]}
        return advice | {
            "obs": map_tree(lambda leaf: leaf[:-1], rollout.obs),
            "first": rollout.first[:-1],
            "state": rollout.state,
            "action": rollout.action,
            "advantage": rho * advantage,
            "target": target,
            "rho": rho,
            "valid": valid.float(),
        }

    def loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """The policy gradient, the value error and the entropy bonus (Espeholt et al., 4.2)."""
        policy = self.policy
        params, value, _ = policy(batch["obs"], batch["state"], batch["first"])
        gain = policy.head.log_prob(params, batch["action"]) * batch["advantage"]
        error = batch["target"] - value
        entropy = policy.head.entropy(params)
        total = self.config.vf_coef * error.square() - gain - batch["ent_coef"] * entropy
        terms = {"gain": gain, "error": error, "entropy": entropy}
        terms = {name: term.detach() for name, term in terms.items()}
        kept: Terms = {"target": batch["target"], "rho": batch["rho"], "valid": batch["valid"]}
        if self.teacher is not None:
            total = self.teacher.teach(total, params, batch, terms)
        return (total * batch["weight"]).sum(), terms | kept

    def metrics(self, terms: Terms, coefficients: Terms) -> Metrics:
        """See `FreshAgent.metrics`."""
        valid, error = terms["valid"], terms["error"]
        means = {
            "loss/policy": -terms["gain"],
            "loss/value": error.square(),
            "policy/entropy": terms["entropy"],
            "policy/rho": terms["rho"],
        }
        return {name: masked_mean(term, valid) for name, term in means.items()} | {
            "value/explained_variance": explained_variance(error, terms["target"], valid)
        }
