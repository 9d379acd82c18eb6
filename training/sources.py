"""Where rollouts come from.

A source asks its collectors for a rollout each and joins them along the batch; `publish` gives them
the learner's newest weights:

    agent.policy --publish--> source --> collector 0 (columns 0 .. B/G-1)   --+
                                     --> collector 1 (columns B/G .. 2B/G-1)  +--> join --> next()
"""

from __future__ import annotations

import copy
from typing import Any

from ..agents.policies import Policy
from ..configs import Config
from ..envs import make
from ..envs.collector import Collector
from ..envs.rollout import Rollout, join
from .files import RunError


class LocalSource:
    """Collectors in this process, one a group, stepped one after the other.

    Args:
        cfg: The run's configuration.
        policy: Of the learner; copied only if it is not on the CPU.
        length: T of the rollouts.
    """

    def __init__(self, cfg: Config, policy: Policy, length: int) -> None:
        on_cpu = all(parameter.device.type == "cpu" for parameter in policy.parameters())
        self.policy = policy if on_cpu else copy.deepcopy(policy).to("cpu")
        size = cfg.num_envs // cfg.groups
        self.collectors = [
            Collector(
                make(cfg.env, size, cfg.seed, first_column=group * size),
                self.policy,
                length,
                cfg.seed,
                first_column=group * size,
                reward_scale=cfg.env.reward_scale,
                reward_clip=cfg.env.reward_clip,
            )
            for group in range(cfg.groups)
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

    @property
    def env_seconds(self) -> float:
        """Wall seconds that the environments' own code has taken."""
        return sum(collector.env_seconds for collector in self.collectors)

    def state_dict(self) -> dict[str, Any]:
        """Where every column stands."""
        return {"collectors": [collector.state_dict() for collector in self.collectors]}

    def load_state_dict(self, state: dict[str, Any]) -> int:
        """Takes back what `state_dict` gave; returns how many columns had to reopen.

        Raises:
            RunError: It is that of another number of environments or groups.
        """
        sizes = [len(collector.columns) for collector in self.collectors]
        found = [len(part["rngs"]) for part in state["collectors"]]
        if found != sizes:
            raise RunError(
                f"the checkpoint has num_envs={sum(found)} in groups={len(found)}, the "
                f"configuration num_envs={sum(sizes)} in groups={len(sizes)}; expected the same"
            )
        saved = zip(self.collectors, state["collectors"], strict=True)
        return sum(collector.load_state_dict(part) for collector, part in saved)

    def close(self) -> None:
        """Closes the environments."""
        for collector in self.collectors:
            collector.envs.close()
