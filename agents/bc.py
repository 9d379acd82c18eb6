"""Behaviour cloning: the policy learns to do what was done in recorded episodes.

Pomerleau 1989 ("ALVINN"). The steps of a dataset are learned from as a classifier learns from
examples: the loss is the negative log-likelihood of the action that was taken, for every action
space. Rewards are not looked at. A network with memory reads whole episodes in rollouts of
`n_steps`, and gradients flow back through each of these. The policy's value is not trained.
"""

from __future__ import annotations

from typing import Literal

from gymnasium import spaces
from torch import Tensor, nn

from ..core.errors import shorten
from ..core.rollout import Rollout
from ..core.tree import Tree
from .agent import Metrics
from .learning.losses import masked_mean
from .learning.terms import Terms
from .setup import Setup
from .supervised import SupervisedAgent, SupervisedConfig
from .teacher import ADVICE, given_teacher
from .teacher_config import ImitationConfig, TaughtConfig


class BC(SupervisedAgent):
    """Behaviour cloning, discrete and continuous."""

    class Config(TaughtConfig, SupervisedConfig, frozen=True):
        """Settings of behaviour cloning."""

        name: str = "bc"
        """This file."""
        teacher: ImitationConfig = ImitationConfig()
        """A policy that advises on the states of the dataset or, without a dataset, on the states
        that the agent visits."""
        loss: Literal["nll", "mse"] = "nll"
        """nll: negative log-likelihood of the actions; mse: squared error of the most likely
        action of a Box, which leaves its deviation as it is (with a teacher alone: nll)."""

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config = config
        self.discrete = not isinstance(setup.action_space, spaces.Box)
        if config.loss == "mse" and self.discrete:
            raise ValueError(
                f"agent.loss=mse: is for Box actions, got {shorten(setup.action_space)}; expected "
                "nll"
            )
        self.teacher = given_teacher(config.teacher, setup, self.policy, self.parts)
        self.cloned = config.dataset is not None or self.teacher is None
        if config.loss != "nll" and not self.cloned:
            raise ValueError(
                f"agent.loss={config.loss}: is of what a dataset did, and a teacher alone is "
                "learned from otherwise; give agent.dataset as well, or leave it out"
            )
        self.execute_updates()

    def trained(self) -> nn.Module:
        """See `OnPolicyAgent.trained`: the actor alone has a gradient."""
        self.policy.requires_grad_(False)
        actor = nn.ModuleDict({"actor": self.policy.actor, "head": self.policy.head})
        return actor.requires_grad_(True)

    def steps_of(self, rollout: Rollout[Tensor]) -> dict[str, Tree]:
        """See `SupervisedAgent.steps_of`: also what the teacher says."""
        steps = super().steps_of(rollout)
        return steps if self.teacher is None else {**steps, ADVICE: rollout.extras[ADVICE]}

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
