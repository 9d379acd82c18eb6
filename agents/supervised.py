"""Agents that learn from observations and actions, not from rewards: supervised learning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from ..core.rollout import Rollout
from ..core.tree import Tree, map_tree
from .agent import Metrics
from .learning.minibatches import cut, minibatches
from .on_policy import OnPolicyAgent, OnPolicyConfig
from .setup import DatasetConfig, Setup


class SupervisedConfig(DatasetConfig, OnPolicyConfig, frozen=True):
    """Settings of every agent that learns from no rewards."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """Step of the optimizer."""
    batch_size: int | None = Field(default=64, gt=0)
    """Most steps in a minibatch; null: the rollout. With memory it has whole columns, and at
    least one."""
    n_epochs: int = Field(default=1, gt=0)
    """Passes over each rollout; the dataset itself is read again until `total_steps`."""


class SupervisedAgent(OnPolicyAgent):
    """Learns from single steps or, with memory, from whole columns of rollouts of `n_steps`.

    Its policy is that of PPO with the same network, so that PPO can go on from it. A subclass says
    in `trained` what learns, implements `loss` and `metrics`, and calls `execute_updates` at the
    end of its `__init__`.
    """

    rewarded: ClassVar[bool] = False
    late: ClassVar[bool] = True
    has_critic: ClassVar[bool] = False
    unused: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("rnd.coef", "normalize_rewards", "gamma"), "learns from no rewards"
    )
    """Settings that would have no effect, which are refused, each with the reason."""

    def __init__(self, config: SupervisedConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config = config
        self.sequence_length = config.n_steps if self.has_memory else 1

    def check_settings(self) -> None:
        """See `Agent.check_settings`."""
        usual = type(self.config).model_construct()  # its defaults, without validation
        for key, why in self.unused.items():
            value = attrgetter(key)(self.config)
            if value != attrgetter(key)(usual):
                shown = f"{value:g}" if isinstance(value, float) else str(value).lower()
                raise ValueError(f"agent.{key}={shown}: agent={self.name} {why}; leave it out")

    def execute_updates(self) -> None:
        """See `Agent.execute`; counts the updates of the run."""
        steps = self.rollout_length * self.setup.num_envs
        minibatches = -(-steps // (self.config.batch_size or steps))
        self.execute(self.setup.total_steps / steps * self.config.n_epochs * minibatches)

    def steps_of(self, rollout: Rollout[Tensor]) -> dict[str, Tree]:
        """The data of a rollout that `loss` learns from, trees of [T, B, *]."""
        return {
            "obs": map_tree(lambda leaf: leaf[:-1], rollout.obs),
            "first": rollout.first[:-1],
            "action": rollout.action,
            "valid": rollout.valid.float(),
        }

    def batch_of(self, rollout: Rollout[Tensor]) -> tuple[dict[str, Tree], Metrics]:
        """See `FreshAgent.batch_of`: single steps or, with memory, whole columns."""
        cuts = map_tree(lambda leaf: cut(leaf, self.sequence_length), self.steps_of(rollout))
        return cuts | {"state": rollout.state}, {}

    def minibatches(self, batch: dict[str, Tree]) -> Iterator[dict[str, Tree]]:
        """See `FreshAgent.minibatches`: shuffled anew in each epoch."""
        count, most = batch["valid"].shape[1], self.config.batch_size
        size = max(1, most // self.sequence_length) if most else count
        return minibatches(batch, count, size, self.config.n_epochs, self.rng)
