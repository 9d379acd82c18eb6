"""Agents that learn from sequences of a rollout, weighed by their advantages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ..core.rollout import BATCHED, Rollout
from ..core.tree import Tree, map_tree
from .agent import Metrics
from .learning.losses import masked_normalize
from .learning.minibatches import cut, minibatches, smallest
from .learning.returns import gae
from .on_policy import OnPolicyAgent, OnPolicyConfig, explained_variance
from .setup import Setup
from .teacher import ADVICE

TENSORS = (*BATCHED, "columns")


class AdvantageConfig(OnPolicyConfig, frozen=True):
    """Settings of every agent that learns from sequences; names as in Stable-Baselines3."""

    batch_size: int | None = Field(default=256, gt=0)
    """Most steps in a minibatch; null: the rollout. With memory it has whole sequences, and at
    least one."""
    sequence_length: int | None = Field(default=None, gt=0)
    """Steps that gradients flow back through memory; null: the whole rollout."""
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """Weight of longer returns in the advantage: 0 one-step, 1 Monte Carlo."""
    normalize_advantage: bool = True
    """Mean 0 and deviation 1 in each minibatch."""


class AdvantageAgent(OnPolicyAgent):
    """Cuts rollouts into sequences with advantages; without memory they have one step each.

    Values, log-probabilities and the memories at the start of sequences are computed in `learn`, by
    the weights that learn, and not during the rollout. Unless the rollout is late, these have acted
    and the numbers are the same.

    Args:
        config: Its own `Config`.
        setup: What it is built for.

    Attributes:
        batches: Minibatches of a rollout.

    Raises:
        ValueError: A rollout cannot be cut into sequences of this length, or a minibatch would have
            one step, whose advantage is to be normalised.
    """

    whole_rollouts: ClassVar[bool] = False
    """Whether all advantages of a rollout are learned from at once."""

    def __init__(self, config: AdvantageConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config = config
        self.sequence_length = (config.sequence_length or config.n_steps) if self.has_memory else 1
        if config.n_steps % self.sequence_length:
            length = f"agent.sequence_length={self.sequence_length}"
            raise ValueError(f"{length}: must divide agent.n_steps={config.n_steps}")
        steps = config.n_steps * setup.num_envs
        self.batches = -(-steps // (config.batch_size or steps))
        if config.normalize_advantage:
            self._refuse_single_steps(setup.rollout_columns or setup.num_envs)

    def _refuse_single_steps(self, columns: int) -> None:
        """Raises ValueError if a minibatch of a rollout of so many columns has one step alone."""
        cfg, steps = self.config, self.config.n_steps * columns
        size = steps if self.whole_rollouts else cfg.batch_size or steps
        if self.sequence_length > 1 or smallest(steps, size) > 1:
            return
        if steps > 1:
            place, advice = f"batch_size={size}", "raise it"
        elif columns == self.setup.num_envs:
            place, advice = "n_steps=1 with num_envs=1", "raise either"
        else:
            place = f"n_steps=1 with rollouts of 1 of num_envs={self.setup.num_envs} columns"
            advice = "raise agent.n_steps or ray.rollouts_per_update"
        raise ValueError(
            f"agent.{place}: a minibatch of one step has no standard deviation; {advice}, or "
            "set agent.normalize_advantage=false"
        )

    def execute(self, updates: float, reason: str | None = None) -> None:
        """See `Agent.execute`; without memory, making the sequences may be recorded as well."""
        super().execute(updates, reason)
        self._run_sequences = self.repeated(self._sequences)

    def batch_of(self, rollout: Rollout[Tensor]) -> tuple[dict[str, Tree], Metrics]:
        """See `FreshAgent.batch_of`: sequences of length L, of which there are T * B / L."""
        return self._run_sequences({name: getattr(rollout, name) for name in TENSORS})

    @torch.no_grad()
    def _sequences(self, tensors: dict[str, Any]) -> tuple[dict[str, Tree], Metrics]:
        rollout = Rollout(**tensors, version=0, episodes=np.empty((0, 4)))
        value, log_prob, state = self.policy.unroll(rollout, self.sequence_length)
        error, estimates, metrics = self.estimate(rollout, value, log_prob)
        target = error + value[:-1]
        steps = {
            "obs": map_tree(lambda leaf: leaf[:-1], rollout.obs),
            "first": rollout.first[:-1],
            "action": rollout.action,
            "value": value[:-1],
            "target": target,
            "valid": rollout.valid.float(),
        }
        if self.teacher is not None:
            steps[ADVICE] = rollout.extras[ADVICE]
        metrics["value/explained_variance"] = explained_variance(error, target, rollout.valid)
        cuts = map_tree(lambda x: cut(x, self.sequence_length), steps | estimates)
        return cuts | {"state": state}, metrics

    def estimate(
        self, rollout: Rollout[Tensor], value: Tensor, log_prob: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Metrics]:
        """Estimates advantages by the newest values [T+1, B] and log-probabilities [T, B].

        Returns:
            Errors of the values [T, B]; advantages and old log-probabilities [T, B]; metrics.
        """
        stream = rollout.reward, rollout.discount, rollout.valid, value
        advantage = gae(*stream, self.config.gamma, self.config.gae_lambda)
        return advantage, {"advantage": advantage, "log_prob": log_prob}, {}

    def shuffled(self, batch: dict[str, Tree], epochs: int) -> Iterator[dict[str, Tree]]:
        """Yields minibatches of whole sequences, shuffled anew in each epoch.

        Args:
            batch: Sequences [L, N, *].
            epochs: Passes over them.
        """
        count, most = batch["valid"].shape[1], self.config.batch_size
        size = max(1, most // self.sequence_length) if most else count
        return minibatches(batch, count, size, epochs, self.rng)

    def weigh(self, batch: Any) -> Any:
        """See `FreshAgent.weigh`: normalises the advantages as well, if there are any."""
        if self.config.normalize_advantage and "advantage" in batch:
            normalized = masked_normalize(batch["advantage"], batch["valid"])
            batch = batch | {"advantage": normalized}
        return super().weigh(batch)
