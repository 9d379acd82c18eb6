"""Parallelised Q-network: Q-learning from fresh rollouts, without a replay or a target network.

Gallici et al. 2024. Many environments give varied minibatches, and layer normalisation keeps the
values from diverging (`network.blocks.0.norm=layer`). Targets are Peng's Q(lambda), computed
backwards with the greatest values of the newest network:

    G[t] = r[t] + gamma d[t] (lambda G[t+1] + (1 - lambda) max Q(s[t+1], .)),  G[T] = max Q(s[T], .)

Networks with memory learn from the whole rollout of some environments: the memory is computed again
by the newest weights from that at the rollout's start, and so are the targets of each minibatch.

Deviations: truncations bootstrap from the true last observation, where the authors' code takes them
for terminations; for memory it begins some steps earlier, whose memory alone is used, and here the
memory of acting is stored at the start.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, TypedDict

import torch
from pydantic import Field
from torch import Tensor

from ..core.rollout import Rollout
from ..core.tree import Tree, map_tree
from .agent import Metrics
from .claims import CHOICES, MAXIMUM
from .exploration import ExplorationConfig, epsilon
from .fresh import FreshAgent, FreshConfig
from .learning.losses import masked_mean
from .learning.minibatches import cut, minibatches
from .learning.returns import lambda_returns
from .learning.schedules import Shape
from .learning.terms import Terms
from .learning.update_rules import Rule
from .policies.q_values import QPolicy
from .setup import Setup


class Stream(TypedDict):
    """N columns of a rollout."""

    obs: Tree  # [T+1, N, *obs]
    first: Tensor  # [T+1, N] bool
    state: Tree  # [*, N, *], before obs[0]
    action: Tensor  # [T, N] int64, of the joint actions
    reward: Tensor  # [T, N]
    discount: Tensor  # [T, N], 0 at termination
    valid: Tensor  # [T, N] bool, False at resets


class Batch(TypedDict):
    """N sequences of L steps, as the loss takes them."""

    obs: Tree  # [L, N, *obs]
    first: Tensor  # [L, N] bool
    state: Tree  # [*, N, *], before obs[0]
    action: Tensor  # [L, N] int64, of the joint actions
    target: Tensor  # [L, N], what the values of the actions are to become
    valid: Tensor  # [L, N], 0 at resets
    weight: Tensor  # [L, N], sums to 1


class PQN(FreshAgent[QPolicy]):
    """Q(lambda) on discrete actions, from rollouts of many environments."""

    asynchronous: ClassVar[bool] = True
    action_spaces = CHOICES
    why_these_actions = MAXIMUM

    class Config(ExplorationConfig, FreshConfig, frozen=True):
        """PQN's settings."""

        name: str = "pqn"
        """This file."""
        optimizer: Rule = "radam"
        """How gradients change weights: adam, radam (Adam whose first steps are shorter), or
        rmsprop (as TensorFlow's: epsilon is inside the root)."""
        learning_rate: float = Field(default=2.5e-4, gt=0)
        """Step of the optimizer."""
        learning_rate_schedule: Shape = "linear"
        """How it falls to 0 over the run."""
        max_grad_norm: float | None = Field(default=10.0, gt=0)
        """Limit of the gradient's global norm."""
        n_steps: int = Field(default=32, gt=0)
        """Steps of each environment between two updates."""
        n_epochs: int = Field(default=4, gt=0)
        """Passes over each rollout."""
        batch_size: int = Field(default=128, gt=0)
        """Most steps in a minibatch. With memory it has whole rollouts of some environments, and of
        at least one."""
        q_lambda: float = Field(default=0.65, ge=0, le=1)
        """Weight of longer returns in the target: 0 one-step, 1 Monte Carlo."""
        exploration_fraction: float = Field(default=0.5, ge=0, le=1)
        """Share of the run over which epsilon falls."""

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config = config
        self.policy = QPolicy(
            *(setup.network, setup.observation_space, setup.action_space),
            config.normalize_observations,
            columns=setup.num_envs if config.exploration_per_column else None,
        )
        self.policy.to(self.device).eval()
        self.optimizer = self.build_optimizer(self.policy, config)
        self.parts.update(policy=self.policy, optimizer=self.optimizer)
        steps = config.n_steps * setup.num_envs
        batches = -(-steps // config.batch_size)
        self.execute(setup.total_steps / steps * config.n_epochs * batches)
        self.explore()
        bare = [n for n, b in enumerate(setup.network.blocks) if getattr(b, "norm", "") == "none"]
        if bare:
            words = " ".join(f"network.blocks.{number}.norm=layer" for number in bare)
            self.notes += (f"agent=pqn has no target network and is steadier with {words}",)

    def explore(self) -> None:
        """Sets epsilon for the next rollout."""
        self.policy.epsilon.copy_(epsilon(self.config, self.progress, self.setup.num_envs))

    def learn(self, rollout: Rollout[Tensor]) -> Metrics:
        """See `FreshAgent.learn`; explores less from now on."""
        metrics = super().learn(rollout)
        self.explore()
        return metrics | {"policy/epsilon": self.policy.epsilon.mean()}

    def batch_of(self, rollout: Rollout[Tensor]) -> tuple[Stream, Metrics]:
        """See `FreshAgent.batch_of`: the whole rollout."""
        return {
            "obs": rollout.obs,
            "first": rollout.first,
            "state": rollout.state,
            "action": self.policy.joint.index(rollout.action),
            "reward": rollout.reward,
            "discount": rollout.discount,
            "valid": rollout.valid,
        }, {}

    def minibatches(self, batch: Stream) -> Iterator[Tree]:
        """See `FreshAgent.minibatches`: single steps, or with memory columns; shuffled anew."""
        cfg, (steps, columns) = self.config, batch["valid"].shape
        if self.has_memory:
            size = max(1, cfg.batch_size // steps)
            for some in minibatches(batch, columns, size, cfg.n_epochs, self.rng):
                yield self.targets(some)
        else:
            single = map_tree(lambda x: cut(x, 1), self.targets(batch))
            yield from minibatches(single, steps * columns, cfg.batch_size, cfg.n_epochs, self.rng)

    @torch.no_grad()
    def targets(self, stream: Stream) -> dict[str, Tree]:
        """The steps of N columns, with their Q(lambda) targets by the newest weights."""
        q, _ = self.policy(stream["obs"], stream["state"], stream["first"])
        parts = stream["reward"], stream["discount"], stream["valid"], q.amax(-1)
        return {
            "obs": map_tree(lambda leaf: leaf[:-1], stream["obs"]),
            "first": stream["first"][:-1],
            "state": stream["state"],
            "action": stream["action"],
            "target": lambda_returns(*parts, self.config.gamma, self.config.q_lambda),
            "valid": stream["valid"].float(),
        }

    def loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """Half the squared error of a minibatch, and its errors and values."""
        q, _ = self.policy(batch["obs"], batch["state"], batch["first"])
        taken = q.gather(-1, batch["action"][..., None]).squeeze(-1)
        error = batch["target"] - taken
        loss = (batch["weight"] * 0.5 * error.square()).sum()
        return loss, {"error": error.detach(), "q": taken.detach(), "valid": batch["valid"]}

    def metrics(self, terms: Terms, coefficients: Terms) -> Metrics:
        """See `FreshAgent.metrics`."""
        error, valid = terms["error"], terms["valid"]
        return {
            "loss/td": masked_mean(0.5 * error.square(), valid),
            "q/mean": masked_mean(terms["q"], valid),
            "q/td_error": masked_mean(error.abs(), valid),
        }
