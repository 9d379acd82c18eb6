"""What several tests need: a training without its folder, and policies whose behaviour is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neuraxis.agents import Agent
from neuraxis.configs import Config, load
from neuraxis.envs.rollout import Rollout
from neuraxis.training.evaluate import evaluate
from neuraxis.training.loop import build_agent
from neuraxis.training.sources import LocalSource


def config(*words: str) -> Config:
    """The configuration of `neuraxis train WORDS`, on the CPU and without W&B."""
    return load(["wandb.mode=disabled", "device=cpu", *words])


@dataclass
class Training:
    """An agent and its source, and the loop that joins them."""

    cfg: Config
    agent: Any
    source: LocalSource

    def step(self) -> dict[str, float]:
        """One rollout, learned from; returns its metrics."""
        metrics = self.agent.learn(self.rollout())
        self.source.publish(self.agent.policy)
        return {name: float(value) for name, value in metrics.items()}

    def rollout(self) -> Rollout:
        """The next rollout, as tensors."""
        return self.source.next().to("cpu")

    def run(self) -> Iterator[dict[str, float]]:
        """Rollout after rollout, to `total_steps`."""
        while self.agent.steps < self.cfg.total_steps:
            yield self.step()

    def score(self, episodes: int = 20) -> float:
        """Mean return of the greedy policy."""
        num_envs = self.cfg.num_envs
        return evaluate(self.agent.policy, self.cfg.env, episodes, 1, num_envs)["evaluate/return"]


def training(*words: str) -> Training:
    """A training of these words, ready to step."""
    torch.set_num_threads(1)
    cfg = config(*words)
    agent: Agent = build_agent(cfg)
    return Training(cfg, agent, LocalSource(cfg, agent.policy, agent.rollout_length))
