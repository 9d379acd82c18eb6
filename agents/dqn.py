"""Deep Q-learning: double, dueling, n-step, prioritised, noisy, distributional are switches.

Mnih et al. 2015, van Hasselt et al. 2016, Wang et al. 2016, Schaul et al. 2016, Fortunato et al.
2018; `policies.return_distribution` has C51, QR-DQN and IQN. With a network that has memory it is
R2D2 (Kapturowski et al. 2019): sequences with the memory that was stored at their start, a burn-in
without gradient, priorities of sequences. The same code does both: without memory a sequence has
length 1 and no burn-in.

Deviations: sequences begin where rollouts began, because the memory is stored there, and may cross
the end of an episode, where `first` resets the memory; R2D2 pads. The target network follows
between rounds of updates. Noise is drawn anew for each update and, for acting, each rollout.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ..core.rollout import Rollout
from ..core.tree import Tree, map_tree
from .agent import Metrics
from .claims import CHOICES, MAXIMUM
from .exploration import ExplorationConfig, epsilon
from .learning.losses import masked_mean
from .learning.target import TargetNetwork
from .learning.terms import Terms
from .off_policy import OffPolicyAgent, OffPolicyConfig
from .policies.q_values import QPolicy
from .policies.return_distribution import ReturnConfig
from .replay.sample import Sample, warmed
from .setup import Setup
from .teacher import Lesson, given_teacher
from .teacher_config import TaughtConfig, ValueTeacherConfig


class Batch(Lesson):
    """N sequences of L steps, as the loss takes them."""

    obs: Tree  # [L, N, *obs]
    first: Tensor  # [L, N] bool
    state: Tree  # [*, N, *], before obs[0]
    action: Tensor  # [L, N] int64, of the joint actions
    target: Tensor  # [L, N, *], targets for the returns of the actions
    tau: Tree  # [L, N, K], fractions of implicit distributions, or ()
    valid: Tensor  # [L, N], 0 at resets
    weight: Tensor  # [L, N], importance weights times the weights of a mean


class DQN(OffPolicyAgent[QPolicy]):
    """Deep Q-learning on discrete actions; with a memory network, R2D2."""

    asynchronous: ClassVar[bool] = True
    action_spaces = CHOICES
    why_these_actions = MAXIMUM

    class Config(TaughtConfig, ExplorationConfig, ReturnConfig, OffPolicyConfig, frozen=True):
        """DQN's settings; names as in Stable-Baselines3 where it has them."""

        name: str = "dqn"
        """This file."""
        max_grad_norm: float | None = Field(default=10.0, gt=0)
        """Limit of the gradient's global norm."""
        double: bool = True
        """The online network chooses the action, the target network gives its value."""
        dueling: bool = False
        """Two heads, one for the value and one for the advantages."""
        dueling_size: int = Field(default=128, gt=0)
        """Units of the hidden layer in each of these heads."""
        target_update_interval: int = Field(default=500, gt=0)
        """Environment steps after which the target network follows."""
        tau: float = Field(default=1.0, gt=0, le=1)
        """Share of the newest weights that the target network takes then; 1 copies them."""
        teacher: ValueTeacherConfig = ValueTeacherConfig()
        """A policy that advises on the states that the agent visits."""
        noisy: bool = False
        """Noisy output layers instead of epsilon-greedy exploration."""

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config = config
        self.policy, twin = (self._network().to(self.device).eval() for _ in range(2))
        twin.normalizer = self.policy.normalizer  # both see the same inputs
        self.optimizer = self.build_optimizer(self.policy, config)
        self.teacher = given_teacher(config.teacher, setup, self.policy, self.parts)
        self.target = TargetNetwork(twin, self.optimizer, config.tau)
        self.makers["optimizer"] = self._network
        self.replay = self.build_replay()
        self.parts.update(policy=self.policy, target=self.target, optimizer=self.optimizer)
        self.independent = not (config.double or config.noisy or self.policy.returns.random)
        self.execute(self.updates_per_step * setup.total_steps)
        self.explore()

    def _network(self) -> QPolicy:
        cfg, setup = self.config, self.setup
        return QPolicy(
            *(setup.network, setup.observation_space, setup.action_space),
            cfg.normalize_observations,
            dueling_size=cfg.dueling_size if cfg.dueling else None,
            noisy=cfg.noisy,
            columns=setup.num_envs if cfg.exploration_per_column else None,
            returns=cfg,
        )

    def before_updates(self, steps: int) -> None:
        """See `OffPolicyAgent.before_updates`: the target network follows, if that is due."""
        interval = self.config.target_update_interval
        times = self.steps // interval - (self.steps - steps) // interval
        if times:
            self.target.follow(times)

    def learn(self, rollout: Rollout[Tensor]) -> Metrics:
        """See `OffPolicyAgent.learn`; explores less from now on."""
        metrics = super().learn(rollout)
        self.explore()
        return metrics | {"policy/epsilon": self.policy.epsilon.mean()}

    def explore(self) -> None:
        """Sets epsilon for the next rollout or, for noisy layers, draws new noise."""
        if self.config.noisy:
            self.policy.resample()
        else:
            self.policy.epsilon.copy_(epsilon(self.config, self.progress, self.setup.num_envs))

    def before_batch(self) -> None:
        """See `OffPolicyAgent.before_batch`: new noise for both networks, if they are noisy."""
        if self.config.noisy:
            self.policy.resample()
            self.target.network.resample()

    @torch.no_grad()
    def batch_of(self, sample: Sample) -> Batch:
        """See `OffPolicyAgent.batch_of`: the steps to learn from, with their n-step targets.

        Each network computes a memory of its own from the stored one and the burn-in.
        """
        cfg, begin, online, target = self.config, self.burn_in, self.policy, self.target.network
        rows, late = slice(begin, begin + self.sequence_length), slice(begin + 1, None)
        after, first = map_tree(lambda leaf: leaf[late], sample.obs), sample.first[late]
        returns, tau = online.returns, target.returns.draw(1, first.shape[1])
        memory = warmed(target, sample, sample.state, 0, begin + 1)
        q, _ = target.distribution(after, memory, first, tau)
        state = warmed(online, sample, sample.state, 0, begin)
        if cfg.double:
            memory = warmed(online, sample, state, begin, begin + 1)
            value, _ = online(after, memory, first)
        else:
            value = target.values(q, after)
        best = returns.of(q, value.argmax(-1))
        stream = sample.reward[begin:], sample.discount[begin:], sample.valid[begin:]
        return {
            "obs": map_tree(lambda leaf: leaf[rows], sample.obs),
            "first": sample.first[rows],
            "state": state,
            "action": online.joint.index(sample.action[rows]),
            "target": returns.target(best, stream, cfg.gamma, cfg.n_step),
            "tau": returns.draw(self.sequence_length, first.shape[1]),
            "valid": sample.valid[rows].float(),
            "weight": sample.weight[None],
        }

    def update(self, batch: Batch) -> Terms:
        """See `Agent.update`: one step down the loss."""
        return self.optimizer.step(self.loss, batch)

    def loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """The weighted loss of a minibatch; of each step its loss, TD error and value."""
        returns, tau = self.policy.returns, batch["tau"]
        q, _ = self.policy.distribution(batch["obs"], batch["state"], batch["first"], tau)
        taken = returns.of(q, batch["action"])
        loss, error = returns.loss(taken, batch["target"], tau)
        value = returns.mean(taken).detach()
        terms = {"loss": loss.detach(), "error": error.detach(), "q": value}
        terms["valid"] = batch["valid"]
        if self.teacher is not None:
            loss = self.teacher.teach(loss, self.policy.values(q, batch["obs"]), batch, terms)
        return (batch["weight"] * loss).sum(), terms

    def priority(self, terms: Terms) -> np.ndarray:
        """See `OffPolicyAgent.priority`; of distributions, the loss takes the TD error's place."""
        surprise = "error" if self.config.distribution == "none" else "loss"
        return super().priority(terms | {"error": terms[surprise]})

    def metrics(self, terms: Terms) -> Metrics:
        """See `OffPolicyAgent.metrics`."""
        return super().metrics(terms) | {"loss/td": masked_mean(terms["loss"], terms["valid"])}
