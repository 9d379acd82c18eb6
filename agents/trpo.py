"""Trust region policy optimisation: natural-gradient steps within a limit of the divergence.

Schulman et al. 2015, with generalised advantages (Schulman et al. 2016). From each rollout the
actor takes one step of all its steps together (see `learning/trust_region`), and then the critic
several epochs of minibatches by its own optimizer, as in sb3-contrib.

Deviations: the divergence is KL(old, new), as in the paper; sb3-contrib has KL(new, old). A critic
that shares the actor's backbone is a linear layer on the actor's features: the natural step is of
the actor's objective alone, and a gradient of the values would leave the trust region. With dropout
all evaluations within a step use the same masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ..core.tree import Tree, map_tree
from ..networks import twice
from ..networks.layers import decayed_parameters
from ..networks.weight_norm import followers
from .advantage import AdvantageAgent, AdvantageConfig
from .agent import Metrics
from .learning.losses import LARGEST_LOG_RATIO, masked_mean
from .learning.penalty import Penalty
from .learning.terms import Terms
from .learning.trust_region import TrustRegion
from .learning.vector import Vector
from .policies.policy import differs_in_training
from .setup import Setup

VALUES = ("obs", "first", "state", "target", "valid")
"""The parts of a batch from which the critic learns."""


class TRPO(AdvantageAgent):
    """Trust region policy optimisation, discrete and continuous."""

    whole_rollouts: ClassVar[bool] = True
    why_not_late: ClassVar[str] = (
        "its step leaves from the policy that acted, within a region around it"
    )

    class Config(AdvantageConfig, frozen=True):
        """TRPO's settings; names as in sb3-contrib."""

        name: str = "trpo"
        """This file."""
        learning_rate: float = Field(default=1e-3, gt=0)
        """Step of the critic's optimizer."""
        max_grad_norm: float | None = Field(default=None, gt=0)
        """Limit of the critic's gradient's global norm."""
        batch_size: int | None = Field(default=128, gt=0)
        """Most steps in a minibatch of the critic; null: the rollout. With memory it has whole
        sequences, and at least one."""
        n_critic_updates: int = Field(default=10, ge=1)
        """Passes of the critic over each rollout."""
        target_kl: float = Field(default=0.01, gt=0)
        """Most that a step may move the policy: the mean KL divergence from the old one."""
        cg_max_steps: int = Field(default=15, ge=1)
        """Most steps of the conjugate gradients that find the direction."""
        cg_damping: float = Field(default=0.1, ge=0)
        """Added to the diagonal of the Fisher matrix."""
        line_search_shrinking_factor: float = Field(default=0.8, gt=0, lt=1)
        """How much shorter each attempt of the line search is than the one before."""
        line_search_max_iter: int = Field(default=10, ge=1)
        """Most attempts; if none is good, the policy stays as it is."""

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config = config
        self.actor = nn.ModuleDict({"actor": self.policy.actor, "head": self.policy.head})
        self.region = TrustRegion(
            self.actor,
            limit=config.target_kl,
            damping=config.cg_damping,
            iterations=config.cg_max_steps,
            shrinking=config.line_search_shrinking_factor,
            attempts=config.line_search_max_iter,
            penalty=Penalty(config.l1, config.l2),
            decayed=decayed_parameters(self.actor),
            followers=followers(self.actor),
            replicas=setup.replicas,
        )
        rollouts = setup.total_steps / (config.n_steps * setup.num_envs)
        updates = rollouts * (1 + config.n_critic_updates * self.batches)
        self.execute(updates, "the line search of agent=trpo reads the result of each attempt")

    def trained(self) -> nn.Module:
        """See `OnPolicyAgent.trained`: the critic."""
        own = {"value": self.policy.value}
        return nn.ModuleDict({"critic": self.policy.critic, **own} if self.policy.critic else own)

    def minibatches(self, batch: dict[str, Tree]) -> Iterator[dict[str, Tree]]:
        """See `FreshAgent.minibatches`: the rollout for the actor, then those of the critic."""
        yield batch
        values = {name: batch[name] for name in VALUES}
        yield from self.shuffled(values, self.config.n_critic_updates)

    def update(self, batch: Any) -> Terms:
        """See `Agent.update`: the actor's step, or one of the critic, which needs no advantages."""
        if "advantage" not in batch:
            return self.optimizer.step(self.loss, batch)
        seed = int(torch.randint(2**62, ())) if differs_in_training(self.actor) else None

        def look(old: Any) -> tuple[Tensor, Tensor, Any]:
            if seed is None:
                return self.objective(batch, old)
            with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
                torch.manual_seed(seed)
                return self.objective(batch, old)

        # Conjugate gradients need all digits of float32.
        with torch.autocast(self.device.type, enabled=False), twice.kernels(self.actor):
            terms, old = self.region.step(look)
        return terms | {"entropy": self.policy.head.entropy(old), "looked_at": batch["valid"]}

    def objective(self, batch: Any, old: Any) -> tuple[Tensor, Tensor, Any]:
        """The surrogate with the entropy bonus, and the divergence (equations 14 and 12).

        Args:
            batch: Sequences [L, N, *], or this learner's share of them.
            old: Parameters of the distributions before the step; None: the present ones.

        Returns:
            Both as sums of weighted steps; and `old`, without gradient.
        """
        head = self.policy.head
        params = self.policy.distribution(batch["obs"], batch["state"], batch["first"])
        old = map_tree(Tensor.detach, params) if old is None else old
        action, weight = batch["action"], batch["weight"]
        log_ratio = head.log_prob(params, action) - head.log_prob(old, action)
        ratio = log_ratio.clamp(max=LARGEST_LOG_RATIO).exp()
        gain = ratio * batch["advantage"] + batch["ent_coef"] * head.entropy(params)
        return (weight * gain).sum(), (weight * head.kl(old, params)).sum(), old

    def loss(self, batch: Any) -> tuple[Tensor, Terms]:
        """Squared errors of the values."""
        value = self.policy.values(batch["obs"], batch["state"], batch["first"])
        error = (batch["target"] - value).square()
        return (batch["weight"] * error).sum(), {"error": error.detach(), "valid": batch["valid"]}

    def vectors(self) -> list[Vector]:
        """See `Agent.vectors`: the actor's, too."""
        return [self.region, *super().vectors()]

    def metrics(self, terms: Terms, coefficients: Terms) -> Metrics:
        """See `FreshAgent.metrics`."""
        return {
            "loss/policy": -terms["objective"].mean(),
            "loss/value": masked_mean(terms["error"], terms["valid"]),
            "policy/entropy": masked_mean(terms["entropy"], terms["looked_at"]),
            "policy/kl": terms["divergence"].mean(),
            "policy/step_length": terms["length"].mean(),
            "train/grad_norm": terms["grad_norm"][1:].mean(),  # of the critic
        }

    def tensors(self) -> dict[str, Tensor]:
        """See `Agent.tensors`: the actor's weights as well."""
        named = zip(self.region.names, self.region.parameters, strict=True)
        return super().tensors() | {f"weights/{name}": weight.detach() for name, weight in named}
