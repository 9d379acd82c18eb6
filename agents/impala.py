"""IMPALA: an actor-critic for rollouts of older weights, corrected by V-trace.

Espeholt et al. 2018. The policy writes down the log-probabilities of its actions when it acts; the
learner weighs by its own against these. A minibatch is whole columns of the rollout, by default all
of them: one gradient step. The targets of each minibatch are computed just before its step, by the
newest weights, so further minibatches and epochs are corrected like any other delay.

Deviations: Adam in place of RMSprop; losses are means over valid steps and not sums, so the
coefficients do not depend on the size of a rollout; the last action and reward are no inputs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ..envs.rollout import Rollout
from ..envs.tree import Tree, map_tree
from .actor_critic import ActorCriticAgent, ActorCriticConfig, explained_variance
from .agent import Setup
from .losses import masked_mean
from .optimizer import Metrics, joined
from .policies import ActorCritic
from .returns import vtrace
from .schedules import scheduled
from .sequences import minibatches, unroll

COLUMNWISE = ("obs", "first", "action", "reward", "discount", "extras", "state")


class IMPALA(ActorCriticAgent):
    """V-trace actor-critic, discrete and continuous."""

    asynchronous: ClassVar[bool] = True

    class Config(ActorCriticConfig, frozen=True):
        """IMPALA's settings."""

        name: str = "impala"
        """This file."""
        n_steps: int = Field(default=32, gt=0)
        """Steps of each environment between two updates."""
        batch_size: int | None = Field(default=None, gt=0)
        """Steps in a minibatch, rounded down to whole columns (at least one); None: the rollout."""
        n_epochs: int = Field(default=1, gt=0)
        """Passes over each rollout."""
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
        columns = self._columns(setup.num_envs)
        self.optimizer = self._build_optimizer(
            config, config.n_epochs * -(-setup.num_envs // columns)
        )

    def _columns(self, available: int) -> int:
        """Columns of a minibatch."""
        cfg = self.config
        return max(1, cfg.batch_size // cfg.n_steps) if cfg.batch_size else available

    def learn(self, rollout: Rollout) -> Metrics:
        """Takes a step for each minibatch of columns, or one."""
        cfg = self.config
        self.optimizer.rate.fill_(
            scheduled(cfg.learning_rate, cfg.learning_rate_schedule, self.progress)
        )
        whole = replace(rollout, reward=self._reward(rollout))
        columns, traces = len(rollout.columns), []
        stream = {name: getattr(whole, name) for name in COLUMNWISE}
        size = self._columns(columns)
        for part in minibatches(stream, columns, size, cfg.n_epochs, self.rng):
            batch = self.targets(replace(whole, **part))
            self.policy.train()
            traces.append(self.optimizer.update(batch))
            self.policy.eval()
        self._finish(rollout)
        return self._metrics(joined(traces))

    @torch.no_grad()
    def targets(self, rollout: Rollout) -> dict[str, Tree]:
        """What the loss takes of a rollout: V-trace by the newest weights, in eval mode."""
        cfg, valid = self.config, rollout.valid
        value, log_prob, _ = unroll(self.policy, rollout, len(valid))
        target, advantage, rho = vtrace(
            *(rollout.reward, rollout.discount, valid, value),
            log_prob - rollout.extras["log_prob"],
            *(cfg.gamma, cfg.gae_lambda, cfg.rho_bar, cfg.c_bar),
        )
        return {
            "obs": map_tree(lambda leaf: leaf[:-1], rollout.obs),
            "first": rollout.first[:-1],
            "state": rollout.state,
            "action": rollout.action,
            "advantage": rho * advantage,
            "target": target,
            "rho": rho,
            "valid": valid.float(),
        }

    def loss(self, policy: ActorCritic, batch: dict[str, Any]) -> tuple[Tensor, Metrics]:
        """The policy gradient, the value error and the entropy bonus (Espeholt et al., 4.2)."""
        cfg = self.config
        params, value, _ = policy(batch["obs"], batch["state"], batch["first"])
        gain = policy.head.log_prob(params, batch["action"]) * batch["advantage"]
        error = batch["target"] - value
        entropy = policy.head.entropy(params)
        total = cfg.vf_coef * error.square() - gain - cfg.ent_coef * entropy
        trace = {"gain": gain, "error": error, "entropy": entropy}
        trace = {name: value.detach() for name, value in trace.items()}
        kept = {name: batch[name] for name in ("target", "rho", "valid")}
        return (total * batch["weight"]).sum(), trace | kept

    def _metrics(self, trace: dict[str, Tensor]) -> Metrics:
        """Means over all valid steps of all minibatches."""
        valid, error = trace["valid"], trace["error"]
        terms = {
            "loss/policy": -trace["gain"],
            "loss/value": error.square(),
            "policy/entropy": trace["entropy"],
            "policy/rho": trace["rho"],
        }
        return {name: masked_mean(term, valid) for name, term in terms.items()} | {
            "value/explained_variance": explained_variance(error, trace["target"], valid),
            "train/grad_norm": trace["grad_norm"].mean(),
            "train/learning_rate": self.optimizer.rate.clone(),
        }
