"""Proximal policy optimisation: the clipped surrogate, for every action space and every backbone.

Schulman et al. 2017 with the details of Huang et al. 2022 ("The 37 implementation details of PPO").
Feed-forward networks learn from shuffled single steps; networks with memory from sequences of
`sequence_length` steps with the memory that stood at their start. Both are one code: a sequence of
a feed-forward network has length 1 and no memory.

Deviations: values, log-probabilities and sequence-start memories are computed in `learn`, with the
weights that acted, instead of during the rollout (the numbers are the same, acting is cheaper);
where actor and critic share a network without memory, from the features that acting left.
With dropout or batch normalisation the old log-probabilities are computed again for each minibatch,
by the weights that acted under the masks and batch statistics of the update: else no ratio would
begin at 1.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ..envs.rollout import Rollout
from ..envs.tree import Tree, map_tree
from .actor_critic import ActorCriticAgent, ActorCriticConfig, explained_variance
from .agent import Setup
from .losses import clipped_surrogate, masked_mean, masked_normalize, value_loss
from .optimizer import Metrics, joined
from .policies import ActorCritic
from .returns import gae
from .schedules import Shape, scheduled
from .sequences import cut, minibatches, unroll


class PPO(ActorCriticAgent):
    """Proximal policy optimisation, discrete and continuous."""

    class Config(ActorCriticConfig, frozen=True):
        """PPO's settings; names as in Stable-Baselines3."""

        name: str = "ppo"
        """This file."""
        batch_size: int = Field(default=256, gt=0)
        """Steps in a minibatch; with memory, rounded down to whole sequences (at least one)."""
        n_epochs: int = Field(default=10, gt=0)
        """Passes over each rollout."""
        sequence_length: int | None = Field(default=None, gt=0)
        """Steps that gradients run back through memory; None: the whole rollout."""
        clip_range: float = Field(default=0.2, gt=0)
        """Half-width of the interval in which the probability ratio earns."""
        clip_range_schedule: Shape = "constant"
        """`linear` falls to 0 at the end of the run."""
        clip_range_vf: float | None = Field(default=None, gt=0)
        """How far an update may move a value; None: anywhere (clipping mostly hurts)."""
        normalize_advantage: bool = True
        """Mean 0 and deviation 1 in each minibatch."""
        target_kl: float | None = Field(default=None, gt=0)
        """Stop a rollout's updates when the policy has moved 1.5 times this far; None: never."""

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config = config
        num_envs = setup.num_envs
        self.sequence_length = (config.sequence_length or config.n_steps) if self.has_memory else 1
        if config.n_steps % self.sequence_length:
            raise ValueError(
                f"agent.sequence_length={self.sequence_length}: must divide agent.n_steps="
                f"{config.n_steps}"
            )
        if config.n_steps * num_envs < 2 and config.normalize_advantage:
            raise ValueError(
                "agent.n_steps=1 with num_envs=1: one step has no deviation; raise either, or set "
                "agent.normalize_advantage=false"
            )
        looks = "agent.target_kl, which looks at each update before it is done,"
        minibatches = -(-config.n_steps * num_envs // config.batch_size)
        self.optimizer = self._build_optimizer(
            config, config.n_epochs * minibatches, looks if config.target_kl else None
        )
        self.old: ActorCritic | None = None

    def learn(self, rollout: Rollout) -> Metrics:
        """Runs `n_epochs` over the rollout in shuffled minibatches."""
        cfg = self.config
        batch, metrics = self.prepare(rollout)
        self.optimizer.rate.fill_(
            scheduled(cfg.learning_rate, cfg.learning_rate_schedule, self.progress)
        )
        clip = scheduled(cfg.clip_range, cfg.clip_range_schedule, self.progress)
        clip_range = torch.tensor(clip, device=self.device)
        self.policy.train()
        self.old = copy.deepcopy(self.policy) if self.policy.trains_apart else None
        traces: list[Metrics] = []
        for minibatch in self.minibatches(batch):
            minibatch = minibatch | {"clip_range": clip_range}
            trace = self.optimizer.update(minibatch, self.too_far if cfg.target_kl else None)
            traces.append(trace)
            if "grad_norm" not in trace:  # vetoed
                break
        self.old = None
        self._finish(rollout)
        metrics["train/learning_rate"] = self.optimizer.rate.clone()
        return metrics | self._metrics(joined(traces), clip)

    @torch.no_grad()
    def prepare(self, rollout: Rollout) -> tuple[dict[str, Tree], Metrics]:
        """Turns a rollout into the sequences that minibatches are picked from.

        Returns:
            Batch: trees of [L, N, *] (L the sequence length, N = T * B / L sequences), memories of
            [*, N, *]; and metrics of the rollout.
        """
        value, log_prob, state = unroll(self.policy, rollout, self.sequence_length)
        valid = rollout.valid.float()
        error, estimates, metrics = self.estimate(rollout, value, log_prob)
        target = error + value[:-1]
        steps = {
            "obs": map_tree(lambda leaf: leaf[:-1], rollout.obs),
            "first": rollout.first[:-1],
            "action": rollout.action,
            "value": value[:-1],
            "return": target,
            "valid": valid,
        }
        metrics["value/explained_variance"] = explained_variance(error, target, rollout.valid)
        cuts = map_tree(lambda x: cut(x, self.sequence_length), steps | estimates)
        return cuts | {"state": state}, metrics

    def estimate(
        self, rollout: Rollout, value: Tensor, log_prob: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Metrics]:
        """What a rollout says against the values [T+1, B] and log-probabilities [T, B] of now.

        Returns:
            Error of the values [T, B]; advantages and old log-probabilities [T, B]; metrics.
        """
        cfg, reward = self.config, self._reward(rollout)
        stream = reward, rollout.discount, rollout.valid, value
        advantage = gae(*stream, cfg.gamma, cfg.gae_lambda)
        return advantage, {"advantage": advantage, "log_prob": log_prob}, {}

    def minibatches(self, batch: dict[str, Tree]) -> Iterator[dict[str, Tree]]:
        """Yields what each update takes of a rollout's sequences."""
        cfg, count = self.config, batch["valid"].shape[1]
        size = max(1, cfg.batch_size // self.sequence_length)
        return minibatches(batch, count, size, cfg.n_epochs, self.rng)

    def weigh(self, batch: dict[str, Any]) -> dict[str, Any]:
        """See `ActorCriticAgent.weigh`; normalises the advantages, too."""
        if self.config.normalize_advantage:
            normalized = masked_normalize(batch["advantage"], batch["valid"])
            batch = batch | {"advantage": normalized}
        return super().weigh(batch)

    @torch.no_grad()
    def _log_prob_under_same_masks(self, old: ActorCritic, batch: dict[str, Tree]) -> Tensor:
        """Log-probabilities [L, N] of `old`, with the draws of the update (Hausknecht 2022)."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            params, _, _ = old(batch["obs"], batch["state"], batch["first"])
        return old.head.log_prob(params, batch["action"])

    def loss(self, policy: ActorCritic, batch: dict[str, Any]) -> tuple[Tensor, Metrics]:
        """The clipped objective, the value error and the entropy bonus of a minibatch [L, N].

        Returns:
            The scalar to descend, and the trace of elementwise terms [L, N] for the metrics.
        """
        cfg = self.config
        old = batch["log_prob"]
        if self.old is not None:
            old = self._log_prob_under_same_masks(self.old, batch)
        params, value, _ = policy(batch["obs"], batch["state"], batch["first"])
        log_ratio = policy.head.log_prob(params, batch["action"]) - old
        surrogate = clipped_surrogate(log_ratio, batch["advantage"], batch["clip_range"])
        error = value_loss(value, batch["return"], batch["value"], cfg.clip_range_vf)
        seen = params if cfg.ent_coef else map_tree(Tensor.detach, params)  # needs no gradient
        entropy = policy.head.entropy(seen)
        total = torch.add(surrogate, error, alpha=cfg.vf_coef)
        if cfg.ent_coef:
            total = total - cfg.ent_coef * entropy
        trace = {
            "log_ratio": log_ratio,
            "surrogate": surrogate,
            "error": error,
            "entropy": entropy,
        }
        trace = {name: value.detach() for name, value in trace.items()}
        return (total * batch["weight"]).sum(), trace | {"valid": batch["valid"]}

    @staticmethod
    def _metrics(trace: dict[str, Tensor], clip_range: float) -> Metrics:
        """Means over all valid steps of all minibatches, reduced once and not in every update."""
        log_ratio = trace["log_ratio"]
        ratio = log_ratio.exp()
        terms = {
            "loss/policy": trace["surrogate"],
            "loss/value": trace["error"],
            "policy/entropy": trace["entropy"],
            "policy/approx_kl": ratio - 1 - log_ratio,  # Schulman's k3: unbiased, never negative
            "policy/clip_fraction": ((ratio - 1).abs() > clip_range).float(),
        }
        metrics = {name: masked_mean(term, trace["valid"]) for name, term in terms.items()}
        if "grad_norm" in trace:
            metrics["train/grad_norm"] = trace["grad_norm"].mean()
        return metrics

    def too_far(self, trace: dict[str, Tensor]) -> bool:
        """Whether the policy has moved more than 1.5 times `target_kl`."""
        assert self.config.target_kl is not None
        log_ratio = trace["log_ratio"]
        kl = masked_mean(log_ratio.exp() - 1 - log_ratio, trace["valid"])
        return float(kl) > 1.5 * self.config.target_kl
