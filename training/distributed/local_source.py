"""Rollouts from this process."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import numpy as np

from ...agents.policies.policy import Policy
from ...configs import Config
from ...core.memory import lower
from ...core.rollout import Rollout, join
from .groups import open_group, regrouped


class LocalSource:
    """Collectors in this process, one a group, stepped one after the other.

    Args:
        cfg: The run's configuration.
        policy: Of the learner; copied only if it is not on the CPU.
        length: T of the rollouts.
    """

    def __init__(self, cfg: Config, policy: Policy, length: int) -> None:
        on_cpu = all(parameter.device.type == "cpu" for parameter in policy.parameters())
        self.cfg = cfg
        self.policy = policy if on_cpu else copy.deepcopy(policy).to("cpu")
        self.length = length
        self._sizes = cfg.named("agent.n_steps", "agent.train_freq", "num_envs")
        self.generations = [0] * cfg.groups
        self.collectors = [
            open_group(cfg, self.policy, length, group)[0] for group in range(cfg.groups)
        ]
        self._published = self.columns()

    def next(self) -> Rollout[np.ndarray]:
        """The next rollout of all columns, in NumPy. Raises OutOfMemory."""
        with lower(self._sizes):
            return join([collector.collect() for collector in self.collectors])

    def publish(self, policy: Policy) -> None:
        """Lets the collectors act with the newest weights and statistics."""
        self.copy(policy)
        for collector in self.collectors:
            collector.version += 1
        self._published = self.columns()

    def copy(self, policy: Policy) -> None:
        """Takes over the weights of `policy`, without counting a new version."""
        if policy is not self.policy:
            self.policy.load_state_dict(policy.state_dict())

    def metrics(self) -> dict[str, float]:
        """No metrics: there is nothing to wait for in this process."""
        return {}

    @property
    def env_seconds(self) -> float:
        """Wall seconds that the environments' own code has taken."""
        return sum(collector.env_seconds for collector in self.collectors)

    def state_dict(self) -> dict[str, Any]:
        """See `Source.state_dict`."""
        return self._published

    def load_state_dict(self, state: dict[str, Any]) -> Counter[str]:
        """See `Source.load_state_dict`."""
        self.generations, stood, count = regrouped(state, self.cfg.num_envs, self.cfg.groups)
        self.close()
        saved = zip(self.generations, stood, strict=True)
        opened = [
            open_group(self.cfg, self.policy, self.length, group, *parts)
            for group, parts in enumerate(saved)
        ]
        self.collectors = [collector for collector, _ in opened]
        for collector in self.collectors:
            collector.version = state["version"]
        self._published = self.columns()
        return sum((reopened for _, reopened in opened), count)

    def columns(self) -> dict[str, Any]:
        """Where every column stands now."""
        return {
            "num_envs": self.cfg.num_envs,
            "version": self.collectors[0].version,
            "generations": self.generations,
            "collectors": [collector.state_dict() for collector in self.collectors],
        }

    def close(self) -> None:
        """Closes the environments."""
        for collector in self.collectors:
            collector.envs.close()
