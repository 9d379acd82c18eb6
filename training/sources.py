"""Where rollouts come from.

A source asks its collectors for a rollout each and joins them along the batch; `publish` gives them
the learner's newest weights:

    agent.policy --publish--> source --> collector 0 (columns 0 .. B/G-1)   --+
                                     --> collector 1 (columns B/G .. 2B/G-1)  +--> join --> next()

`LocalSource` has them in this process, `ray_source.RaySource` in Ray workers.
"""

from __future__ import annotations

import copy
from typing import Any, Protocol

import numpy as np

from ..agents.policies import Policy
from ..configs import Config
from ..envs import make
from ..envs.collector import Collector
from ..envs.rollout import Rollout, join
from .files import RunError


class Source(Protocol):
    """What gives the loop its rollouts."""

    @property
    def env_seconds(self) -> float:
        """Wall seconds of `next` that went to the environments' own code."""
        ...

    def next(self) -> Rollout:
        """The next rollout, in NumPy."""
        ...

    def publish(self, policy: Policy) -> None:
        """Lets the collectors act with the newest weights and statistics."""
        ...

    def copy(self, policy: Policy) -> None:
        """Takes over the weights of `policy`, without counting a new version."""
        ...

    def metrics(self) -> dict[str, float]:
        """What there is to say of the last rollout's way here."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where every column stands."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> int:
        """Takes back what `state_dict` gave; returns how many columns had to reopen.

        Raises:
            RunError: It is that of another number of environments or groups.
        """
        ...

    def close(self) -> None:
        """Closes the environments, and what they run in."""
        ...


def build_source(cfg: Config, policy: Policy, length: int) -> Source:
    """The source that `ray.workers` asks for; without them Ray is not even imported.

    Args:
        cfg: The run's configuration.
        policy: Of the learner.
        length: T of the rollouts.
    """
    if not cfg.ray.workers:
        return LocalSource(cfg, policy, length)
    from . import ray_start

    ray_start.set_environment()
    from .ray_source import RaySource

    return RaySource(cfg, policy, length)


def open_group(
    cfg: Config,
    policy: Policy,
    length: int,
    group: int,
    generation: int = 0,
    saved: dict[str, Any] | None = None,
) -> tuple[Collector, int]:
    """The collector of a group of columns, and how many of them open new episodes.

    Args:
        cfg: The run's configuration.
        policy: Acts; on the CPU, in eval mode.
        length: T.
        group: 0 to G-1.
        generation: How often the group was opened anew, after a fault for instance; each time its
            episodes and its actions' noise have seeds of their own.
        saved: Where the columns stood, of the same generation; None: all open new episodes.
    """
    size = cfg.num_envs // (cfg.ray.workers or cfg.groups)
    seed = cfg.seed
    if generation:
        words = np.random.SeedSequence(seed, spawn_key=(generation, 0, 0)).generate_state(2)
        seed = int(words[0]) << 32 | int(words[1])
    collector = Collector(
        make(cfg.env, size, seed, first_column=group * size),
        policy,
        length,
        seed,
        first_column=group * size,
        reward_scale=cfg.env.reward_scale,
        reward_clip=cfg.env.reward_clip,
    )
    return collector, size if saved is None else collector.load_state_dict(saved)


def check_groups(state: dict[str, Any], num_envs: int, groups: int) -> None:
    """Raises RunError if a source's state is that of other columns or groups."""
    found = len(state["generations"])
    if (state["num_envs"], found) != (num_envs, groups):
        raise RunError(
            f"the checkpoint has num_envs={state['num_envs']} in groups={found}, the "
            f"configuration num_envs={num_envs} in groups={groups} (or ray.workers); expected "
            "the same"
        )


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
        self.generations = [0] * cfg.groups
        self.collectors = [
            open_group(cfg, self.policy, length, group)[0] for group in range(cfg.groups)
        ]

    def next(self) -> Rollout:
        """The next rollout of all columns, in NumPy."""
        return join([collector.collect() for collector in self.collectors])

    def publish(self, policy: Policy) -> None:
        """Lets the collectors act with the newest weights and statistics."""
        self.copy(policy)
        for collector in self.collectors:
            collector.version += 1

    def copy(self, policy: Policy) -> None:
        """Takes over the weights of `policy`, without counting a new version."""
        if policy is not self.policy:
            self.policy.load_state_dict(policy.state_dict())

    def metrics(self) -> dict[str, float]:
        """Nothing."""
        return {}

    @property
    def env_seconds(self) -> float:
        """Wall seconds that the environments' own code has taken."""
        return sum(collector.env_seconds for collector in self.collectors)

    def state_dict(self) -> dict[str, Any]:
        """Where every column stands."""
        return {
            "num_envs": self.cfg.num_envs,
            "version": self.collectors[0].version,
            "generations": self.generations,
            "collectors": [collector.state_dict() for collector in self.collectors],
        }

    def load_state_dict(self, state: dict[str, Any]) -> int:
        """See `Source.load_state_dict`."""
        check_groups(state, self.cfg.num_envs, self.cfg.groups)
        self.close()
        self.generations = list(state["generations"])
        saved = zip(self.generations, state["collectors"], strict=True)
        opened = [
            open_group(self.cfg, self.policy, self.length, group, *parts)
            for group, parts in enumerate(saved)
        ]
        self.collectors = [collector for collector, _ in opened]
        for collector in self.collectors:
            collector.version = state["version"]
        return sum(reopened for _, reopened in opened)

    def close(self) -> None:
        """Closes the environments."""
        for collector in self.collectors:
            collector.envs.close()
