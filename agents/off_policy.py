"""Off-policy agents: a replay, when updates are due, and the windows that they learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..core.devices import to_device
from ..core.rollout import Rollout
from ..core.tree import Tree, map_tree
from .agent import Agent, Metrics
from .augmentation import augmentation
from .learning import penalty
from .learning.losses import masked_mean, mean_weights
from .learning.schedules import scheduled
from .learning.terms import Terms, joined
from .off_policy_config import OffPolicyConfig, check
from .plasticity import Plasticity
from .policies.policy import Policy
from .replay.hindsight import kind_of_replay
from .replay.location import locate
from .replay.replay import Replay
from .replay.sample import Sample
from .setup import AgentConfig, Setup

P = TypeVar("P", bound=Policy)
GATHERED_BYTES = 8 << 20  # minibatches gathered at once may be this large


class OffPolicyAgent(Agent[P]):
    """Puts rollouts into a replay and learns from windows of it.

    A subclass builds the policy and its other parts, implements `batch_of` and `update`, and adds
    to `metrics`. With memory, windows begin where rollouts began: the memory is stored there.

    Attributes:
        makers: For each optimizer, by name, a function that makes a fresh network like its own.
    """

    replay: Replay
    independent = True
    """Whether `batch_of` gives the same result for a window in all updates of a round. If so,
    several minibatches are gathered at once, and `before_batch` is called once for all of them."""

    def __init__(self, config: OffPolicyConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self.settings = config
        self.rollout_length = config.train_freq
        self.makers: dict[str, Callable[[], nn.Module]] = {}
        self.plasticity: Plasticity | None = None

    def check_settings(self) -> None:
        """See `Agent.check_settings`."""
        self.settings.plasticity.check()

    @classmethod
    def needs_memory(cls, config: AgentConfig) -> bool:
        """See `Claims.needs_memory`: a burn-in needs a memory."""
        return isinstance(config, OffPolicyConfig) and config.burn_in > 0

    def build_replay(self) -> Replay:
        """Builds the replay and puts it into `parts`; the policy must be there already."""
        cfg, memory = self.settings, self.has_memory
        check(cfg, self.setup, memory, taught=self.teacher is not None)
        self.burn_in, self.sequence_length = cfg.burn_in, cfg.sequence_length if memory else 1
        given = cfg.hindsight, cfg.n_sampled_goal, self.setup.observation_space
        self.parts["replay"] = replay = kind_of_replay(*given, self.setup.goal_rewards)(
            cfg.buffer_size,
            self.setup.num_envs,
            window=self.burn_in + self.sequence_length + cfg.n_step - 1,
            stride=cfg.train_freq if memory else 1,
            length=cfg.train_freq,
            rng=self.rng,
            device=locate(cfg.replay_device, self.device, cfg.buffer_size * self.setup.step_bytes),
            alpha=cfg.prioritized_alpha if cfg.prioritized else 0.0,
            learned=slice(self.burn_in, self.burn_in + self.sequence_length),
            frames=self.setup.frames,
        )
        self.augmentation = augmentation(cfg.augment, self.policy)
        if cfg.plasticity.reset_interval or cfg.plasticity.shrink_interval:
            when = cfg.learning_starts, self.setup.total_steps
            self.plasticity = Plasticity(cfg.plasticity, *when, self.parts, self.makers)
        return replay

    @property
    def updates_per_step(self) -> float:
        """Updates for each environment step."""
        cfg = self.settings
        if cfg.gradient_steps < 0:
            return 1 / self.sequence_length
        return cfg.gradient_steps / (cfg.train_freq * self.setup.num_envs)

    def learn(self, rollout: Rollout[Tensor]) -> Metrics:
        """Puts the rollout into the replay and takes the updates that are due."""
        found = self.thaw()
        self.see(rollout)
        if self.teacher is not None:
            rollout = self.teacher.advise(rollout)
        self.set_learning_rate(self.settings)
        due = self._due()
        self.replay.add(rollout)
        self.steps += rollout.steps
        count = self._due() - due
        self.before_updates(rollout.steps)
        if self.plasticity is not None:
            found |= self.plasticity.renew(self.steps - rollout.steps, self.steps)
        metrics: Metrics = {}
        if count and self.steps >= self.settings.learning_starts and self.replay.ready:
            terms = joined(list(self._updates(count)))
            metrics = self.metrics(terms)
            if self.teacher is not None:
                metrics |= self.teacher.metrics(terms, self.progress)
            metrics |= penalty.logged(vector.penalties() for vector in self.vectors())
        metrics["train/learning_rate"] = next(iter(self.optimizers.values())).rate.clone()
        metrics["replay/size"] = torch.tensor(float(len(self.replay)))
        return metrics | found

    def _due(self) -> int:
        """Updates that were due so far, since the run began, whether taken or not."""
        cfg = self.settings
        if cfg.gradient_steps < 0:
            return self.steps // self.sequence_length
        arrived = int(self.replay.windows.written.sum())  # a round is `train_freq` of each column
        return arrived * cfg.gradient_steps // (cfg.train_freq * self.setup.num_envs)

    def before_updates(self, steps: int) -> None:
        """Called before the updates of each round, for work that is due at an interval of steps.

        The rollout that was just added had `steps` environment steps; `self.steps` counts them.
        """

    def before_batch(self) -> None:
        """Called before a minibatch is gathered: for instance to draw new noise."""

    def batch_of(self, sample: Sample) -> Any:
        """Makes a minibatch, trees of [*, N, *], from N windows of W steps.

        It has `valid` [L, N], the steps learned from, and the importance weights `weight` [1, N].
        """
        raise NotImplementedError

    def metrics(self, terms: Terms) -> Metrics:
        """Computes means over all valid steps of all minibatches of a round."""
        valid = terms["valid"]
        return {
            "q/mean": masked_mean(terms["q"], valid),
            "q/td_error": masked_mean(terms["error"].abs(), valid),
            "train/grad_norm": terms["grad_norm"].mean(),
        }

    def _updates(self, count: int) -> Iterator[Terms]:
        """Takes `count` updates, and yields the terms of each."""
        for starts, batch in self.samples(count):
            terms = self.run_update(batch)
            if self.settings.prioritized:
                self.replay.update_priorities(starts, self.priority(terms))
            yield terms

    def samples(self, count: int) -> Iterator[tuple[np.ndarray, dict[str, Tree]]]:
        """Yields `count` minibatches, each with the starts [N] of its windows.

        Several are gathered at once, by fewer and larger operations, if the next minibatch depends
        neither on priorities nor on updates.
        """
        cfg, size = self.settings, self.settings.batch_size
        together = 1
        if self.independent and not cfg.prioritized and not self.burn_in:
            together = max(1, GATHERED_BYTES // (size * self.replay.window_bytes))
        shape = cfg.prioritized_beta_schedule
        beta = scheduled(cfg.prioritized_beta, shape, self.progress, end=1.0)
        while count > 0:
            now = min(together, count)
            self.before_batch()
            starts, weight = self.replay.draw(now * size, beta)
            batch = self._gathered(starts, weight)
            parts = map_tree(lambda leaf: iter(leaf.split(size, 1)), batch)
            for some in starts.reshape(now, size):
                yield some, map_tree(next, parts)
            count -= now

    def _gathered(self, starts: np.ndarray, weight: np.ndarray) -> dict[str, Tree]:
        """Makes minibatches from windows [N]; one that was drawn twice is computed once.

        While a replay has few windows, many are drawn twice: 8,192 draws from 5,000 windows take
        half the work. With hindsight each has its own goal, with augmentation its own observation.
        """
        anew = self.settings.hindsight != "none" or self.augmentation is not None
        if len(starts) == self.settings.batch_size or anew:
            return self._minibatch(starts, weight)
        once, first, places = np.unique(starts, return_index=True, return_inverse=True)
        batch = self._minibatch(once, weight[first])
        picked = to_device(places, self.device)
        return map_tree(lambda leaf: leaf.index_select(1, picked), batch)

    def _minibatch(self, starts: np.ndarray, weight: np.ndarray) -> dict[str, Tree]:
        """What `batch_of` makes of these windows, with a teacher's advice if there is one."""
        sample = seen = self.replay.gather(starts, weight).to(self.device)
        if self.augmentation is not None:
            sample = replace(seen, obs=self.augmentation(seen.obs))
        batch = self.batch_of(sample)
        if self.teacher is not None:
            rows = slice(self.burn_in, self.burn_in + self.sequence_length)
            batch |= self.teacher.recall(seen, rows, self.progress)
        return batch

    def weigh(self, batch: Any) -> Any:
        """See `Agent.weigh`: weights [L, N] of the steps, from importance weights [1, N]."""
        return batch | {"weight": batch["weight"] * mean_weights(batch["valid"])}

    def priority(self, terms: Terms) -> np.ndarray:
        """The new priorities [N] of a minibatch's windows: eta max|TD| + (1 - eta) mean|TD|."""
        size = terms["error"].abs() * terms["valid"]
        mean = size.sum(0) / terms["valid"].sum(0).clamp(min=1)
        eta = self.settings.prioritized_eta
        return (eta * size.amax(0) + (1 - eta) * mean + 1e-6).cpu().numpy()
