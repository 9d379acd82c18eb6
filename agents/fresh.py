"""Agents that learn from fresh rollouts: minibatches of each, and nothing is kept of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from ..core.rollout import Rollout
from .agent import Agent, Metrics
from .augmentation import Augmentation, augmentation
from .learning import penalty
from .learning.losses import mean_weights
from .learning.optimizer import Optimizer, Veto
from .learning.schedules import Shape, scheduled
from .learning.terms import Terms, joined
from .policies.normalize import ReturnScale
from .policies.policy import Policy
from .rnd import RND, RNDConfig
from .setup import GradientConfig, Setup

P = TypeVar("P", bound=Policy)


class FreshConfig(GradientConfig, frozen=True):
    """Settings of every agent that learns from fresh rollouts."""

    n_steps: int = Field(default=128, gt=0)
    """Steps of each environment between two updates."""
    rnd: RNDConfig = RNDConfig()
    """A reward for observations that are new (RND)."""
    normalize_rewards: bool = False
    """Divide rewards by the running deviation of the discounted return."""


class FreshAgent(Agent[P]):
    """Learns from the minibatches of each rollout, and keeps nothing of it.

    A subclass builds `policy` and `optimizer` and puts them into `parts`, and implements `batch_of`
    (from a rollout to what minibatches are picked from), `minibatches`, `loss` and `metrics`.
    """

    optimizer: Optimizer
    veto: Veto | None = None
    """Decides whether a step is forbidden; if so, no further step of the rollout is taken."""

    def __init__(self, config: FreshConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self.settings = config
        self.rollout_length = config.n_steps
        self.return_scale = None
        if config.normalize_rewards:
            self.return_scale = ReturnScale(setup.num_envs, config.gamma)
            self.parts["return_scale"] = self.return_scale
        self.rnd = None
        if config.rnd.coef:
            self.rnd = self.parts["rnd"] = RND(config.rnd, setup, config.gamma)

    def execute(self, updates: float, reason: str | None = None) -> None:
        """See `Agent.execute`; computing the metrics may be recorded as well."""
        super().execute(updates, reason)
        self.augmentation = augmentation(self.settings.augment, self.policy)
        self._run_metrics = self.repeated(torch.no_grad()(self.metrics))

    def learn(self, rollout: Rollout[Tensor]) -> Metrics:
        """Takes the updates of all minibatches of all epochs, up to one whose step is forbidden."""
        found = self.thaw()
        if self.teacher is not None:
            rollout = self.teacher.advise(rollout)
        normalizer = self.policy.normalizer
        primes = self.steps == 0 and normalizer is not None and not normalizer.seen
        if primes:  # the first rollout was acted on raw observations, and gives the statistics
            self.see(rollout)
            rollout = self.as_if_seen(rollout)
        if self.return_scale is not None:
            reward = self.return_scale(rollout.reward, rollout.first, rollout.columns)
            rollout = replace(rollout, reward=reward)
        if self.rnd is not None:
            rollout, novelty = self.rnd(rollout, self.rng)
            found |= novelty
        self.set_learning_rate(self.settings)
        batch, metrics = self.batch_of(rollout)
        metrics |= found
        coefficients = self.coefficients()
        updates: list[Terms] = []
        for minibatch in self.minibatches(batch):
            if self.augmentation is not None:
                minibatch = self.augmented(minibatch, self.augmentation)
            updates.append(self.run_update({**minibatch, **coefficients}))
            if "grad_norm" not in updates[-1]:
                break
        if not primes:
            self.see(rollout)
        self.steps += rollout.steps
        terms = joined(updates)
        if "grad_norm" in terms:
            metrics["train/grad_norm"] = terms["grad_norm"].mean()
        metrics["train/learning_rate"] = self.optimizer.rate.clone()
        if self.teacher is not None:
            metrics |= self.teacher.metrics(terms, self.progress)
        return (
            metrics
            | self._run_metrics(terms, coefficients)
            | penalty.logged(v.penalties() for v in self.vectors())
        )

    def as_if_seen(self, rollout: Rollout[Tensor]) -> Rollout[Tensor]:
        """The first rollout, as if it had been acted on by the statistics that it has given."""
        return rollout

    def augmented(self, minibatch: Any, augment: Augmentation) -> Any:
        """A minibatch with augmented observations; its targets are those of the original ones."""
        return {**minibatch, "obs": augment(minibatch["obs"])}

    def update(self, batch: Any) -> Terms:
        """See `Agent.update`: one step that reduces the loss."""
        return self.optimizer.step(self.loss, batch, self.veto)

    def batch_of(self, rollout: Rollout[Tensor]) -> tuple[Any, Metrics]:
        """Returns what minibatches are picked from, and metrics of the rollout."""
        raise NotImplementedError

    def minibatches(self, batch: Any) -> Iterator[Any]:
        """Yields the minibatch of each update, trees of [*, N, *], in all epochs.

        Args:
            batch: What `batch_of` returned.
        """
        raise NotImplementedError

    def loss(self, batch: Any) -> tuple[Tensor, Terms]:
        """Returns the scalar that a step reduces, and the terms [L, N] of a minibatch."""
        raise NotImplementedError

    def metrics(self, terms: Terms, coefficients: Terms) -> Metrics:
        """Computes means over all valid steps of all minibatches, once for all updates."""
        raise NotImplementedError

    def coefficients(self) -> Terms:
        """The present values of settings with a schedule, as scalars on the learner's device."""
        if self.teacher is None:
            return {}
        coef = self.teacher.coef(self.progress)
        return {"teacher_coef": torch.full((), coef, device=self.device)}

    def scheduled(self, value: float, shape: Shape) -> Tensor:
        """The present value of a setting with a schedule, a scalar."""
        return torch.full((), scheduled(value, shape, self.progress), device=self.device)

    def weigh(self, batch: Any) -> Any:
        """See `Agent.weigh`: weights [L, N] whose sum is 1, the same for all valid steps."""
        return batch | {"weight": mean_weights(batch["valid"])}
