"""What several tests need: a training without its folder, and policies whose behaviour is known."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from neuraxis.agents import Agent
from neuraxis.agents.policies import Policy
from neuraxis.agents.replay import Replay, Sample
from neuraxis.configs import Config, load
from neuraxis.envs import EnvConfig, make
from neuraxis.envs.collector import Collector
from neuraxis.envs.rollout import Rollout
from neuraxis.envs.tree import map_tree
from neuraxis.training.build import build_agent
from neuraxis.training.evaluate import evaluate
from neuraxis.training.sources import LocalSource, Source, build_source


def config(*words: str) -> Config:
    """The configuration of `neuraxis train WORDS`, on the CPU, no W&B; the last word wins."""
    words = ("wandb.mode=disabled", "device=cpu", "compile=false", *words)
    return load(list({word.partition("=")[0]: word for word in words}.values()))


@dataclass
class Training:
    """An agent and its source, and the loop that joins them."""

    cfg: Config
    agent: Any
    source: Source

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
    return Training(cfg, agent, build_source(cfg, agent.policy, agent.rollout_length))


@dataclass
class Late:
    """A training in which each group of columns arrives alone, and acted with older weights.

    As if each group were a worker that is asked again once its rollout was learned from: with G
    groups a rollout is G - 1 updates old.
    """

    run: Training

    def __post_init__(self) -> None:
        source = self.run.source
        assert isinstance(source, LocalSource)
        self.waiting = deque(self._ask(collector) for collector in source.collectors)

    def step(self) -> dict[str, float]:
        """Learns from the oldest rollout, then has its group collect the next one."""
        collector, rollout = self.waiting.popleft()
        metrics = self.run.agent.learn(rollout.to("cpu"))
        self.waiting.append(self._ask(collector))
        return {name: float(value) for name, value in metrics.items()}

    def _ask(self, collector: Collector) -> tuple[Collector, Rollout]:
        return collector, collector.collect()


def part(rollout: Rollout, columns: list[int]) -> Rollout:
    """The rollout of some of its columns, as a worker sends it."""
    names = ("obs", "first", "action", "reward", "discount", "extras", "state")
    trees = {name: map_tree(lambda x: x[:, columns], getattr(rollout, name)) for name in names}
    return replace(rollout, **trees, columns=rollout.columns[columns])


class Counting(Policy):
    """Chooses between two actions by its noise; its memory [1, B] counts the rows of the episode.

    Extras tell what it was given: the noise, and the memory before.
    """

    noise_size = 2

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def initial_state(self, batch: int) -> Any:
        return (torch.zeros(1, batch),)

    def act(
        self, obs: Any, state: Any, first: Any, noise: Any = None, greedy: bool = False
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], Any]:
        before = torch.where(first, 0.0, state[0])
        action = torch.zeros(len(first)) if greedy else noise[:, 0] * 2
        return action.long(), {"noise": noise, "before": before[0]}, (before + 1,)


def collector(
    env_id: str = "neuraxis/Counter-v0",
    num_envs: int = 3,
    length: int = 8,
    first_column: int = 0,
    policy: Policy | None = None,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    **env: Any,
) -> Collector:
    """A collector of `num_envs` columns of an environment with these settings."""
    envs = make(EnvConfig(id=env_id, **env), num_envs, seed, first_column)
    policy = policy or Counting()
    return Collector(envs, policy, length, seed, first_column, **(options or {}))


def sampled(replay: Replay, count: int, beta: float = 1.0) -> Sample:
    """Windows [N] of a replay, drawn and gathered."""
    return replay.gather(*replay.draw(count, beta))
