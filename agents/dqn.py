"""Deep Q-learning: double, dueling, n-step, prioritised and noisy as independent switches.

Mnih et al. 2015, van Hasselt et al. 2016, Wang et al. 2016, Schaul et al. 2016, Fortunato et al.
2018. With a network that has memory it is R2D2 (Kapturowski et al. 2019): sequences with the
memory stored at their start, a burn-in without gradient, sequence priorities. One code does both:
without memory a sequence has length 1 and nothing to burn in.

Deviations: sequences begin where rollouts began (memory is stored there) and may run over the ends
of episodes, which `first` resets, where R2D2 pads. The target network is copied between rollouts,
not within one. Noise is drawn per update and, for acting, per rollout.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ..envs.rollout import Rollout
from ..envs.tree import Tree, map_tree
from .agent import Agent, Setup
from .losses import huber, masked_mean, mean_weights
from .optimizer import Metrics, Optimizer, joined
from .q_policy import QPolicy
from .replay import Replay, Sample
from .schedules import ramp
from .targets import TargetConfig, learnable

GATHERED_BYTES = 8 << 20  # minibatches gathered at once may be this large


class DQN(Agent[QPolicy]):
    """Deep Q-learning on discrete actions; with a memory network, R2D2."""

    asynchronous: ClassVar[bool] = True

    class Config(TargetConfig, frozen=True):
        """DQN's settings; names as in Stable-Baselines3 where it has them."""

        name: str = "dqn"
        """This file."""
        learning_rate: float = Field(default=1e-3, gt=0)
        """Step of Adam."""
        buffer_size: int = Field(default=100_000, gt=0)
        """Transitions that the replay holds, over all environments."""
        learning_starts: int = Field(default=1_000, ge=0)
        """Environment steps before the first update."""
        batch_size: int = Field(default=64, gt=0)
        """Windows in a minibatch: single steps, or sequences with a memory network."""
        train_freq: int = Field(default=8, gt=0)
        """Steps of each environment between two rounds of updates."""
        gradient_steps: int = Field(default=-1, ge=-1)
        """Updates a round, of all environments; -1: one for every environment step."""
        target_update_interval: int = Field(default=500, gt=0)
        """Environment steps between two copies to the target network."""
        dueling: bool = False
        """Separate value and advantage heads."""
        prioritized: bool = False
        """Draw by the size of the last TD error."""
        prioritized_alpha: float = Field(default=0.6, gt=0, le=1)
        """Exponent of the priorities."""
        prioritized_beta: float = Field(default=0.4, ge=0, le=1)
        """Exponent of the importance weights at the start; rises to 1 over the run."""
        prioritized_eta: float = Field(default=0.9, ge=0, le=1)
        """A sequence's priority is eta max|TD| + (1 - eta) mean|TD|."""
        noisy: bool = False
        """Noisy output layers instead of epsilon-greedy exploration."""
        exploration_fraction: float = Field(default=0.1, ge=0, le=1)
        """Share of the run over which epsilon falls."""
        exploration_initial_eps: float = Field(default=1.0, ge=0, le=1)
        """Epsilon at the start."""
        exploration_final_eps: float = Field(default=0.05, ge=0, le=1)
        """Epsilon after the fall."""
        max_grad_norm: float | None = Field(default=10.0, gt=0)
        """Limit of the gradient's global norm."""
        adam_eps: float = Field(default=1e-8, gt=0)
        """Adam's epsilon."""
        weight_decay: float = Field(default=0.0, ge=0)
        """Decoupled decay of weight matrices, per unit of learning rate."""
        normalize_observations: bool = False
        """Running mean and deviation of vector observations, kept in the policy."""

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        space = setup.action_space
        if not isinstance(space, gymnasium.spaces.Discrete):
            raise ValueError(
                f"agent=dqn: needs a Discrete action space, got {space}; try agent=ppo"
            )
        self.config = config
        num_envs = setup.num_envs
        self.rollout_length = config.train_freq
        options = (config.normalize_observations, config.dueling, config.noisy)
        parts = (setup.network, setup.observation_space, space, *options)
        self.policy = QPolicy(*parts).to(self.device).eval()
        self.target = QPolicy(*parts).to(self.device).eval()
        self.target.requires_grad_(False)
        self.target.normalizer = self.policy.normalizer
        memory = self.policy.initial_state(1) != ()
        self.burn_in = config.burn_in if memory else 0
        self.sequence_length = config.sequence_length if memory else 1
        obstacle = "a network with memory" if memory else "agent.noisy" if config.noisy else None
        if self.policy.trains_apart:
            obstacle = "DQN with dropout or batch normalisation"
        updates = max(config.gradient_steps, 0) / (config.train_freq * num_envs) or 1
        self.replay = Replay(
            config.buffer_size,
            num_envs,
            window=self.burn_in + self.sequence_length + config.n_step - 1,
            stride=config.train_freq if memory else 1,
            length=config.train_freq,
            rng=self.rng,
            device=self.device,
            alpha=config.prioritized_alpha if config.prioritized else 0.0,
            learned=slice(self.burn_in, self.burn_in + self.sequence_length),
        )
        self._refuse_to_rest(config, setup.total_steps)
        self.optimizer = Optimizer(
            self.policy,
            self.loss,
            learning_rate=config.learning_rate,
            max_grad_norm=config.max_grad_norm,
            eps=config.adam_eps,
            weight_decay=config.weight_decay,
            execution=self._execution(updates * setup.total_steps, obstacle),
            prepare=self.weigh,
            peers=setup.peers,
        )
        self.copy_target()
        self._explore()

    @staticmethod
    def _refuse_to_rest(config: Config, total_steps: int) -> None:
        """Raises ValueError if no update would ever be taken."""
        if config.gradient_steps == 0:
            raise ValueError("agent.gradient_steps=0: expected 1 or more, or -1; 0 never learns")
        if config.learning_starts >= total_steps:
            raise ValueError(
                f"agent.learning_starts={config.learning_starts}: expected less than total_steps="
                f"{total_steps}, or nothing is learned"
            )

    def learn(self, rollout: Rollout) -> Metrics:
        """Puts the rollout into the replay and takes `gradient_steps` updates from it."""
        cfg = self.config
        due = self._due()
        self.replay.add(rollout)
        before = self.steps
        self.steps += rollout.steps
        metrics: Metrics = {}
        count = rollout.steps if cfg.gradient_steps < 0 else self._due() - due
        if count and self.steps >= cfg.learning_starts and self.replay.ready:
            if before // cfg.target_update_interval != self.steps // cfg.target_update_interval:
                self.copy_target()
            metrics = self._updates(count)
        if self.policy.normalizer is not None:
            self.policy.normalizer.update(map_tree(lambda leaf: leaf[1:], rollout.obs))
        self._explore()
        metrics["replay/size"] = torch.tensor(float(len(self.replay)))
        metrics["policy/epsilon"] = self.policy.epsilon.clone()
        return metrics

    def _due(self) -> int:
        """Updates ever due: `gradient_steps` each time that all columns, or as many, arrived."""
        arrived = int(self.replay.windows.written.sum())
        round_size = self.config.train_freq * self.setup.num_envs
        return arrived * self.config.gradient_steps // round_size

    def _updates(self, count: int) -> Metrics:
        """Takes `count` steps; returns the means of their metrics."""
        traces: list[Metrics] = []
        self.policy.train()
        for starts, batch in self._samples(count):
            trace = self.optimizer.update(batch)
            if self.config.prioritized:
                self.replay.update_priorities(starts, self._priority(trace))
            traces.append(trace)
        self.policy.eval()
        trace = joined(traces)
        valid = trace["valid"]
        return {
            "loss/td": masked_mean(huber(trace["error"]), valid),
            "q/mean": masked_mean(trace["q"], valid),
            "q/td_error": masked_mean(trace["error"].abs(), valid),
            "train/grad_norm": trace["grad_norm"].mean(),
        }

    def copy_target(self) -> None:
        """Copies weights, statistics and noise to the target network."""
        self.target.load_state_dict(self.policy.state_dict())

    def _explore(self) -> None:
        """Sets epsilon for the next rollout, or draws new noise."""
        cfg = self.config
        if cfg.noisy:
            self.policy.resample()
            return
        share = self.progress / cfg.exploration_fraction if cfg.exploration_fraction else 1.0
        self.policy.epsilon.fill_(
            ramp(cfg.exploration_initial_eps, cfg.exploration_final_eps, share)
        )

    def _samples(self, count: int) -> Iterator[tuple[np.ndarray, dict[str, Tree]]]:
        """Yields `count` minibatches with the starts of their windows.

        Where neither priorities nor the online network have a say in the next minibatch, several
        are gathered and their targets computed at once: the numbers are the same, the products
        larger.
        """
        cfg, size = self.config, self.config.batch_size
        together = 1
        if not (cfg.prioritized or cfg.double or cfg.noisy or self.burn_in):
            together = max(1, GATHERED_BYTES // (size * self.replay.window_bytes))
        beta = ramp(cfg.prioritized_beta, 1.0, self.progress)
        while count > 0:
            now = min(together, count)
            if cfg.noisy:
                self.policy.resample()
                self.target.resample()
            starts, weight = self.replay.draw(now * size, beta)
            self.policy.eval()
            batch = self._valued(starts, weight)
            self.policy.train()
            parts = map_tree(lambda leaf: iter(leaf.split(size, 1)), batch)
            for some in starts.reshape(now, size):
                yield some, map_tree(next, parts)
            count -= now

    def _valued(self, starts: np.ndarray, weight: np.ndarray) -> dict[str, Tree]:
        """What the loss takes of windows [N]; of several minibatches' each is computed once.

        A young replay has fewer than are drawn: half of the work for 8,192 draws of 5,000.
        """
        if len(starts) == self.config.batch_size:
            return self.targets(self.replay.gather(starts, weight))
        once, first, places = np.unique(starts, return_index=True, return_inverse=True)
        batch = self.targets(self.replay.gather(once, weight[first]))
        picked = torch.from_numpy(places).to(self.device)
        return map_tree(lambda leaf: leaf.index_select(1, picked), batch)

    def targets(self, sample: Sample) -> dict[str, Tree]:
        """What the loss takes of windows: see `learnable`."""
        begin, length = self.burn_in, self.sequence_length
        return learnable(sample, self.policy, self.target, self.config, begin, length)

    def weigh(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Makes of importance weights [1, N] those of the steps [L, N] of a whole minibatch."""
        return batch | {"weight": batch["weight"] * mean_weights(batch["valid"])}

    def loss(self, policy: QPolicy, batch: dict[str, Any]) -> tuple[Tensor, Metrics]:
        """The weighted Huber loss of a minibatch [L, N], and its TD errors and values."""
        q, _ = policy(batch["obs"], batch["state"], batch["first"])
        taken = q.gather(-1, batch["action"][..., None]).squeeze(-1)
        error, valid = batch["target"] - taken, batch["valid"]
        loss = (batch["weight"] * huber(error)).sum()
        trace = {"error": error.detach(), "q": taken.detach(), "valid": valid}
        return loss, trace

    def _priority(self, trace: dict[str, Tensor]) -> np.ndarray:
        """Priorities [N] of the windows learned from: eta max|TD| + (1 - eta) mean|TD|."""
        size = trace["error"].abs() * trace["valid"]
        mean = size.sum(0) / trace["valid"].sum(0).clamp(min=1)
        eta = self.config.prioritized_eta
        return (eta * size.amax(0) + (1 - eta) * mean + 1e-6).cpu().numpy()

    def tensors(self) -> dict[str, Tensor]:
        """Weights of all that is trained, and their gradients."""
        return self.optimizer.tensors()

    def state_dict(self) -> dict[str, Any]:
        """See `Agent.state_dict`."""
        return super().state_dict() | {
            "target": dict(self.target.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "replay": self.replay.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Agent.load_state_dict`."""
        super().load_state_dict(state)
        self.target.load_state_dict(state["target"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.replay.load_state_dict(state["replay"])
