"""Behaviour cloning: the policy learns to do what was done in recorded episodes.

Pomerleau 1989 ("ALVINN"). The steps of a dataset are learned from as a classifier learns from
examples: the loss is the negative log-likelihood of the action that was taken, for every action
space. Rewards are not looked at. A network with memory reads whole episodes in rollouts of
`n_steps`, and gradients flow back through each of these.

The policy is that of PPO with the same network, so that PPO can go on from it. Its value is not
trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from gymnasium import spaces
from pydantic import Field
from torch import Tensor, nn

from ..core.errors import shorten
from ..core.rollout import Rollout
from ..core.tree import Tree, map_tree
from .agent import Metrics
from .learning.losses import masked_mean
from .learning.minibatches import cut, minibatches
from .learning.terms import Terms
from .on_policy import OnPolicyAgent, OnPolicyConfig
from .setup import DatasetConfig, Setup
from .teacher import ADVICE, given_teacher
from .teacher_config import ImitationConfig, TaughtConfig


class BC(OnPolicyAgent):
    """Behaviour cloning, discrete and continuous."""

    rewarded: ClassVar[bool] = False
    has_critic: ClassVar[bool] = False

    class Config(DatasetConfig, TaughtConfig, OnPolicyConfig, frozen=True):
        """Settings of behaviour cloning."""

        name: str = "bc"
        """This file."""
        learning_rate: float = Field(default=1e-3, gt=0)
        """Step of the optimizer."""
        batch_size: int | None = Field(default=64, gt=0)
        """Most steps in a minibatch; null: the rollout. With memory it has whole columns, and at
        least one."""
        n_epochs: int = Field(default=1, gt=0)
        """Passes over each rollout; the dataset itself is read again until `total_steps`."""
        teacher: ImitationConfig = ImitationConfig()
        """A policy that says what it would do, in the states of the dataset or, without one, in
        those that the agent comes to."""
        loss: Literal["nll", "mse"] = "nll"
        """nll: negative log-likelihood of the actions; mse: squared error of the most likely
        action of a Box, which leaves its deviation as it is."""

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config = config
        if config.rnd.coef or config.normalize_rewards:
            key = f"rnd.coef={config.rnd.coef:g}" if config.rnd.coef else "normalize_rewards=true"
            raise ValueError(f"agent.{key}: agent=bc learns from no rewards; leave it out")
        self.discrete = not isinstance(setup.action_space, spaces.Box)
        if config.loss == "mse" and self.discrete:
            raise ValueError(
                f"agent.loss=mse: is for Box actions, got {shorten(setup.action_space)}; expected "
                "nll"
            )
        self.teacher = given_teacher(config.teacher, setup, self.policy, self.parts)
        self.cloned = config.dataset is not None or self.teacher is None
        self.sequence_length = config.n_steps if self.has_memory else 1
        steps = config.n_steps * setup.num_envs
        updates = setup.total_steps / steps * config.n_epochs
        self.execute(updates * -(-steps // (config.batch_size or steps)))

    def trained(self) -> nn.Module:
        """See `OnPolicyAgent.trained`: the actor alone has a gradient."""
        self.policy.requires_grad_(False)
        actor = nn.ModuleDict({"actor": self.policy.actor, "head": self.policy.head})
        return actor.requires_grad_(True)

    def batch_of(self, rollout: Rollout[Tensor]) -> tuple[dict[str, Tree], Metrics]:
        """See `FreshAgent.batch_of`: single steps or, with memory, whole columns."""
        steps = {
            "obs": map_tree(lambda leaf: leaf[:-1], rollout.obs),
            "first": rollout.first[:-1],
            "action": rollout.action,
            "valid": rollout.valid.float(),
        }
        if self.teacher is not None:
            steps[ADVICE] = rollout.extras[ADVICE]
        cuts = map_tree(lambda leaf: cut(leaf, self.sequence_length), steps)
        return cuts | {"state": rollout.state}, {}

    def minibatches(self, batch: dict[str, Tree]) -> Iterator[dict[str, Tree]]:
        """See `FreshAgent.minibatches`: shuffled anew in each epoch."""
        count, most = batch["valid"].shape[1], self.config.batch_size
        size = max(1, most // self.sequence_length) if most else count
        return minibatches(batch, count, size, self.config.n_epochs, self.rng)

    def loss(self, batch: dict[str, Tree]) -> tuple[Tensor, Terms]:
        """The distances from the actions taken and from the teacher, and the entropy bonus."""
        head, action = self.policy.head, batch["action"]
        params = self.policy.distribution(batch["obs"], batch["state"], batch["first"])
        mode, entropy = head.mode(params), head.entropy(params)
        total = -batch["ent_coef"] * entropy
        terms = {"entropy": entropy.detach(), "valid": batch["valid"]}
        if self.cloned:
            if self.config.loss == "mse":
                distance = (mode - action).square().mean(-1)
            else:
                distance = -head.log_prob(params, action)
            total, terms["distance"] = total + distance, distance.detach()
            if self.discrete:
                same = mode == action
                terms["same"] = (same.all(-1) if same.ndim > entropy.ndim else same).float()
        if self.teacher is not None:
            total = self.teacher.teach(total, params, batch, terms)
        return (total * batch["weight"]).sum(), terms

    def metrics(self, terms: Terms, coefficients: Terms) -> Metrics:
        """See `FreshAgent.metrics`."""
        names = {
            "distance": "loss/policy",
            "entropy": "policy/entropy",
            "same": "policy/accuracy",
        }
        valid = terms["valid"]
        return {names[key]: masked_mean(terms[key], valid) for key in names if key in terms}
