"""What several tests need: a training without its folder, and policies whose behaviour is known."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import psutil
import torch
from gymnasium import spaces

from neuraxis.agents import Agent, agent_class, agent_names
from neuraxis.agents.off_policy import OffPolicyAgent
from neuraxis.agents.policies.policy import Policy
from neuraxis.agents.replay.replay import Replay
from neuraxis.agents.replay.sample import Sample
from neuraxis.configs import Config, load
from neuraxis.configs.groups import read
from neuraxis.core.rollout import Rollout
from neuraxis.core.tree import map_tree
from neuraxis.envs import EnvConfig, make
from neuraxis.envs.collector import Collector
from neuraxis.training.callbacks import Callback
from neuraxis.training.distributed.build import build_agent
from neuraxis.training.distributed.local_source import LocalSource
from neuraxis.training.distributed.source import Source
from neuraxis.training.evaluate import evaluate
from neuraxis.training.session import open_source
from neuraxis.training.storage.run import Run

T = TypeVar("T")

ACTIONS = {
    "discrete": spaces.Discrete,
    "multidiscrete": spaces.MultiDiscrete,
    "multibinary": spaces.MultiBinary,
    "box": spaces.Box,
}
"""Kinds of actions, as `env.kwargs.action_space` of the identity environment names them."""
STACKED = (
    *("env=neuraxis/Dict-v0", "env.kwargs.size=12"),
    *("env.image_layout=chw", "env.frame_stack=2"),
)
"""An environment whose observations have an image, a stack of two frames."""


def file_of(agent: str) -> str:
    """The agent behind a preset, or the agent itself."""
    return (read("agent", agent) or {"name": agent})["name"]


def claimed(agent: str) -> list[str]:
    """The kinds of actions that an agent claims."""
    kinds = agent_class(file_of(agent)).action_spaces
    return [name for name, kind in ACTIONS.items() if issubclass(kind, kinds)]


def action_words(kind: str, size: int = 5) -> tuple[str, ...]:
    """The identity environment with actions of a kind."""
    env = "env=neuraxis/Identity-v0"
    return env, f"env.kwargs.size={size}", f"env.kwargs.action_space={kind}"


REWARDED = [name for name in agent_names() if agent_class(name).rewarded]
"""The agents that learn from rewards alone."""
WITH_NETWORK = [name for name in agent_names() if agent_class(name).has_network]
VARIANTS = {
    "crossq": ("network.critic=[{name: mlp, sizes: [6], norm: batch_renorm, dropout: 0.2}]",),
    "iqn": ("agent.noisy=true", "agent.dueling=true", "agent.dueling_size=6"),
    "r2d2": (
        *("network=lstm", "network.blocks.1.size=5", "agent.n_step=2", "agent.train_freq=4"),
        *("agent.sequence_length=4", "agent.burn_in=4"),
    ),
    "tqc": (),
}
"""Presets that reach code which no agent reaches by itself, and words for them: no target network
and batch renormalisation; fractions of the return, and noisy layers; a memory in the replay, and a
burn-in; quantiles of two critics. The others have no law of their own: a2c and ddpg have other
numbers than ppo and td3, c51 and qr_dqn less than iqn, and rainbow is c51 with iqn's layers."""
LEARNERS = [*WITH_NETWORK, *VARIANTS]
"""All on which a law of every agent with a network is tested."""
BOXED = "crossq", "impala", "tqc", "trpo"
"""Those of them that are tested on Box actions, though they take discrete ones, too."""


def kind_of(learner: str) -> str:
    """The kind of actions that one of `LEARNERS` is tested on."""
    return "box" if learner in BOXED else claimed(learner)[0]


def some_pairs(
    learners: Sequence[T], others: Sequence[str], whole: Sequence[T]
) -> list[tuple[T, str]]:
    """Pairs whose number grows with the sum, not the product: `benchmarks/matrix.py` has all.

    Those of `whole` meet each of the others, the rest one each, in turn.
    """
    return [
        (learner, other)
        for number, learner in enumerate(learners)
        for place, other in enumerate(others)
        if learner in whole or place == number % len(others)
    ]


def fitting(agent: str, *words: str) -> tuple[str, ...]:
    """Those of the words whose settings an agent has."""
    cls = agent_class(file_of(agent))

    def fits(word: str) -> bool:
        section, _, key = word.partition("=")[0].partition(".")
        if section == "agent" and key:
            return key.partition(".")[0] in cls.Config.model_fields
        return section != "network" or cls.has_network

    return tuple(filter(fits, words))


def epochs(agent: str) -> int:
    """How often an agent passes over a rollout if nothing else is said."""
    field = agent_class(agent).Config.model_fields.get("n_epochs")
    return field.default if field else 1


def quick(agent: str) -> tuple[str, ...]:
    """Words with which an agent of any family learns at once, and little."""
    if issubclass(agent_class(file_of(agent)), OffPolicyAgent):
        return "agent.learning_starts=8", "agent.gradient_steps=1", "agent.batch_size=4"
    return fitting(agent, "agent.n_steps=8", "agent.batch_size=16", "agent.n_epochs=1")


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
    agent.check_settings()
    return Training(cfg, agent, open_source(cfg, agent.policy, agent.rollout_length))


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


def processes_with(name: str) -> list[psutil.Process]:
    """The processes of this one with a name in their command line; what has ended has none."""
    alive = (p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE)
    return [process for process in alive if name in " ".join(process.cmdline())]


def weights(agent: Agent) -> torch.Tensor:
    """A copy of all that is ever trained, of all optimizers or of a table, as one vector."""
    trained = [optimizer.whole for optimizer in agent.optimizers.values()]
    return torch.cat(trained) if trained else agent.policy.cells.flatten().clone()


class OnUpdate(Callback):
    """Calls a function after each rollout that was learned from."""

    def __init__(self, function: Callable[[Run], None]) -> None:
        self.function = function

    def on_update(self, run: Run, metrics: Any) -> None:
        self.function(run)


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
