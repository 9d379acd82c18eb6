"""Off-policy actor-critics: what SAC and TD3 share.

A policy acts and critics value its actions. These learn n-step returns from the replay; their
target network makes the bootstrap values. An algorithm says what they are, how the policy learns.

Without a target network (`tau=null`) the critics value a step and its successor in one pass in
train mode, as in "CrossQ" by Bhatt et al. (2024): batch statistics and dropout masks are of both.

With memory the policy's is stored where rollouts begin, as in R2D2, and runs through `burn_in`
without gradient. The critics' begins empty in each window, as in "Recurrent model-free RL can be a
strong baseline for many POMDPs" by Ni et al. (2022); the target critics' is by their own weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import ClassVar, TypeVar

import gymnasium
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from ..core.devices import to_device
from ..core.tree import Tree, map_tree
from ..networks.batch_norm import counting
from .actor_critic_batch import Batch, memories
from .agent import Metrics
from .learning.losses import masked_mean
from .learning.returns import bootstrap_rows, n_step_returns
from .learning.target import TargetNetwork
from .learning.terms import Terms
from .off_policy import OffPolicyAgent
from .off_policy_config import ActorCriticConfig
from .policies.critics import Critics
from .policies.policy import Policy
from .replay.sample import Sample

P = TypeVar("P", bound=Policy)


class OffPolicyActorCritic(OffPolicyAgent[P]):
    """A policy and critics that learn from a replay.

    A subclass builds its policy, calls `build_parts`, implements `update` and what raises here.
    """

    asynchronous: ClassVar[bool] = True
    has_critic: ClassVar[bool] = True
    independent = False  # each minibatch has its own noise
    action_spaces: ClassVar[tuple[type[gymnasium.Space], ...]] = (spaces.Box,)

    def build_parts(self, config: ActorCriticConfig, policy: P, n_quantiles: int = 1) -> None:
        """Builds critics, optimizers, the target network and the replay, and puts all in `parts`.

        Args:
            config: The agent's.
            policy: It acts, and its actions make the targets unless `next_policy` is set later.
            n_quantiles: See `Critics`.
        """
        self.policy = policy.to(self.device).eval()
        self.next_policy: P = self.policy
        given = self.setup.network, policy.input_space, self.setup.action_space
        make = partial(Critics, *given, config.n_critics, n_quantiles)
        self.makers["critic_optimizer"] = make
        self.critics = make().to(self.device).eval()
        self.actor_optimizer = actor = self.build_optimizer(self.policy, config)
        self.critic_optimizer = critic = self.build_optimizer(self.critics, config)
        self.replay = self.build_replay()
        self.parts.update(policy=self.policy, critics=self.critics)
        self.parts.update(actor_optimizer=actor, critic_optimizer=critic)
        self.target: TargetNetwork[Critics] | None = None
        if config.tau is not None:
            twin = make().to(self.device).eval()
            self.parts["target"] = self.target = TargetNetwork(twin, critic, config.tau)
        self.policy_delay = config.policy_delay
        self._begun = 0  # updates since the critics' optimizer was new

    @property
    def has_memory(self) -> bool:
        """Whether the actor or the critics have memory."""
        return super().has_memory or bool(self.critics.memories)

    def _updates(self, count: int) -> Iterator[Terms]:
        if self.policy_delay > 1:
            self._begun = int(self.critic_optimizer.count)  # waits for a GPU, once a round
        return super()._updates(count)

    def batch_of(self, sample: Sample) -> Batch:
        """See `OffPolicyAgent.batch_of`: windows without burn-in, noise and memories."""
        rows = slice(self.burn_in, None)
        networks = self.policy, self.next_policy, self.critics
        target = None if self.target is None else self.target.network
        batch: Batch = {
            "obs": map_tree(lambda leaf: leaf[rows], sample.obs),
            "first": sample.first[rows],
            "action": sample.action[rows],
            "reward": sample.reward[rows],
            "discount": sample.discount[rows],
            "successor": sample.valid[rows],
            "noise": to_device(self.draw(*sample.first[rows].shape), self.device),
            "memory": memories(sample, self.burn_in, *networks, target),
            "valid": sample.valid[rows][: self.sequence_length].float(),
            "weight": sample.weight[None],
        }
        self._begun += 1
        if self.policy_delay > 1 and self._begun % self.policy_delay == 0:
            batch["actor_valid"] = batch["valid"].clone()
        return batch

    def draw(self, *shape: int) -> Tensor:
        """Draws the random numbers [*, K] of new actions from torch's generator: normal ones."""
        return torch.randn(*shape, self.policy.noise_size)

    def policy_step(self, batch: Batch) -> Terms:
        """Takes a step of the policy, if one is due; returns the terms of its loss, or none.

        With a delay only the minibatches of such updates have `actor_valid`. So an update stays a
        function of tensors, and the optimizer's moments change in these steps only.
        """
        if self.policy_delay > 1 and "actor_valid" not in batch:
            return {}
        with counting(self.policy, batch["valid"]):
            terms = self.actor_optimizer.step(self.actor_loss, batch)
        if "actor_valid" in batch:
            terms["actor_valid"] = batch["actor_valid"]
        return terms

    def actor_loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """The loss of the policy; its terms have `gain`, the value that it maximises."""
        raise NotImplementedError

    def follow(self) -> None:
        """The target network follows, if there is one."""
        if self.target is not None:
            self.target.follow()

    def next_action(self, batch: Batch, obs: Tree, first: Tensor) -> tuple[Tensor | None, Tree]:
        """The actions in the states of rows 1 to S, from which returns bootstrap.

        Returns:
            Actions [S, N, *act], or None for all joint actions; and `about` for `bootstrap`.
        """
        raise NotImplementedError

    def bootstrap(self, value: Tensor, about: Tree) -> Tensor:
        """From values [count, S, N, *] of `next_action`'s actions and its `about` to [S, N, *]."""
        raise NotImplementedError

    def values_and_targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Values [count, L, N, *] of the actions taken; their targets, n-step returns [L, N, *]."""
        obs, first = map_tree(lambda leaf: leaf[1:], batch["obs"]), batch["first"][1:]
        with torch.no_grad():
            action, about = self.next_action(batch, obs, first)
        q, value = (self._jointly if self.target is None else self._apart)(batch, action)
        with torch.no_grad():
            value = bootstrap_rows(self.bootstrap(value, about))
            stream = batch["reward"], batch["discount"], batch["successor"]
            return q, n_step_returns(*stream, value, self.settings.gamma, self.settings.n_step)

    def _apart(self, batch: Batch, action: Tensor | None) -> tuple[Tensor, Tensor]:
        """Values of the actions taken, and by the target network those of the next actions."""
        assert self.target is not None
        memory, (obs, first) = batch["memory"], self.learned(batch)
        taken = batch["action"][: self.sequence_length]
        with counting(self.critics, batch["valid"]):
            q = self.critics(self.policy.inputs(obs), taken, first, memory["critics"])
        obs, first = map_tree(lambda leaf: leaf[1:], batch["obs"]), batch["first"][1:]
        with torch.no_grad():
            value = self.target(self.policy.inputs(obs), action, first, memory["next_critics"])
        return q, value

    def _jointly(self, batch: Batch, action: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same by the critics alone, in one pass; batch statistics leave resets out."""
        first, taken = batch["first"], batch["action"][: self.sequence_length]
        obs, memory = self.policy.inputs(batch["obs"]), batch["memory"]["critics"]
        successor = batch["successor"].float()  # a row counts as a state or as a successor
        rows = F.pad(successor, (0, 0, 0, 1)).maximum(F.pad(successor, (0, 0, 1, 0)))
        with counting(self.critics.memories, rows):
            features, _ = self.critics.unroll(obs, memory, first)
        with counting(self.critics.backbones, torch.cat((batch["valid"], successor))):
            q, value = self.critics.jointly(features, taken, action, first)
        return q, value.detach()

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """Half the squared errors of all critics."""
        q, target = self.values_and_targets(batch)
        error = q - target
        loss = 0.5 * (batch["weight"] * error.square()).sum()
        return loss, {"q": q.detach().mean(0), "error": error.detach().abs().mean(0)}

    def valued(self, batch: Batch, action: Tensor | None, count: int | None = None) -> Tensor:
        """Values [count, L, N] of the policy's new actions [L, N, A] in the steps to learn from.

        Args:
            batch: The minibatch.
            action: New actions; the critics' memories are of those that were taken.
            count: How many critics value them; None: all.
        """
        obs, first = self.learned(batch)
        with torch.no_grad():
            seen = self.policy.inputs(obs)
            features, _ = self.critics.unroll(seen, batch["memory"]["critics"], first)
        return self.critics.values(features, action, first, count)

    def learned(self, batch: Batch) -> tuple[Tree, Tensor]:
        """Observations, tree of [L, N, *], and `first` [L, N] of the steps to learn from."""
        rows = slice(0, self.sequence_length)
        return map_tree(lambda leaf: leaf[rows], batch["obs"]), batch["first"][rows]

    def metrics(self, terms: Terms) -> Metrics:
        """See `OffPolicyAgent.metrics`."""
        valid = terms["valid"]
        metrics = super().metrics(terms)
        metrics["loss/td"] = 0.5 * masked_mean(terms["error"].square(), valid)
        if "gain" in terms:
            metrics["loss/policy"] = -masked_mean(terms["gain"], terms.get("actor_valid", valid))
        return metrics
