"""Rollouts from Ray workers.

    loop                      RaySource                             worker g, of N
     next() ----------------> to each idle one: version, weights --> Collector.collect()
                              wait for k <------------------------- rollout g
     <-- join of k, by group
     learn
     publish(policy) -------> version + 1, the weights packed once

Who waits for whom: a worker works when it is asked, and it is asked again only after its rollout
was taken; so no worker runs ahead of the learner, and no queue grows. sync: k = N, nothing is under
way between two calls of `next`, and the numbers are those of `LocalSource` with N groups. async: k
is `ray.rollouts_per_update`; the other N - k go on while the learner learns. An update waits for
the rollouts that would otherwise become older than `ray.max_policy_lag` updates: nothing is thrown
away, and no column is left behind.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np

from ...agents.policies.policy import Policy
from ...configs import Config
from ...core.frames import unpacked
from ...core.rollout import Rollout, join
from ...core.tree import map_tree
from . import ray_cluster
from .groups import regrouped
from .packed_weights import pack
from .ray_pool import WorkerPool
from .ray_worker import Reply
from .worker_logs import WorkerLogs


class RaySource:
    """Collectors in Ray workers, one a group; see `Source`.

    Args:
        cfg: The run's configuration.
        policy: Of the learner.
        length: T of the rollouts.
        logs: Get what the workers print.

    Raises:
        ValueError: There is no Ray where the configuration says.
        RunError: A worker cannot start.
    """

    def __init__(self, cfg: Config, policy: Policy, length: int, logs: WorkerLogs) -> None:
        self.cfg = cfg
        settings = cfg.ray
        self.sync = settings.mode == "sync"
        self.per_update = settings.workers if self.sync else settings.rollouts_per_update
        limit = settings.max_policy_lag
        self.max_lag = 2 * settings.usual_lag if limit == "auto" else limit
        self.version = 0
        self.env_seconds = 0.0
        self._asked: dict[int, int] = {}  # by group, the oldest first: version it acts with
        self._ready: dict[int, Reply] = {}  # of those, in the order of their arrival
        self._lags = [0]
        ray_cluster.start(settings, settings.workers * settings.cpus_per_worker)
        self._pool: WorkerPool | None = None
        try:
            self._pool = WorkerPool(cfg, policy, length, logs)
            self.copy(policy)
            self._open()
        except BaseException:
            self.close()
            raise

    @property
    def pool(self) -> WorkerPool:
        """The workers."""
        assert self._pool is not None, "it is closed"
        return self._pool

    def next(self) -> Rollout[np.ndarray]:
        """The next rollout of `per_update` groups, in NumPy.

        Raises:
            RunError: Workers failed, more often than they may.
        """
        self.pool.restarting = True
        for group in range(self.cfg.ray.workers):
            if group not in self._asked:
                self._asked[group] = self.version
                self.pool.ask(group, "collect", self.version, self._weights)
        urgent = set(list(self._asked)[: self._urgent()])
        while len(self._ready) < self.per_update or not urgent <= self._ready.keys():
            self._ready |= self.pool.wait()
        others = [group for group in self._ready if group not in urgent]
        taken = sorted([*urgent, *others][: self.per_update])
        replies = [self._ready.pop(group) for group in taken]
        self._lags = [self.version - self._asked.pop(group) for group in taken]
        # Workers run at the same time: this is their mean.
        self.env_seconds += sum(reply.env_seconds for reply in replies) / self.cfg.ray.workers
        rollouts = [unpacked(reply.result) for reply in replies]
        return join(rollouts) if len(rollouts) > 1 else _writable(rollouts[0])

    def _urgent(self) -> int:
        """How many of the oldest rollouts must be taken now, so that none becomes too old.

        An update takes k rollouts. Of those that may wait for at most j more updates, (j + 1) k can
        be taken in time; where there are more, the difference is due now.
        """
        if self.max_lag is None:
            return 0
        slack = [self.max_lag - (self.version - asked) for asked in self._asked.values()]
        due = (sum(s <= j for s in slack) - self.per_update * j for j in set(slack))
        return min(max(0, *due), self.per_update)

    def publish(self, policy: Policy) -> None:
        """Sends the newest weights along with the next requests."""
        self.copy(policy)
        self.version += 1
        self.pool.learned = True
        self._note()

    def copy(self, policy: Policy) -> None:
        """Takes over the weights of `policy`, without counting a new version."""
        self._weights = pack(policy)

    def metrics(self) -> dict[str, float]:
        """Mean and maximum of the lag of the last rollout, in updates, and the restarts so far."""
        return {
            "ray/policy_lag": sum(self._lags) / len(self._lags),
            "ray/policy_lag_max": max(self._lags),
            "ray/restarts": self.pool.restarts,
        }

    def state_dict(self) -> dict[str, Any]:
        """See `Source.state_dict`; in async mode only that all columns will open new episodes."""
        return self._published

    def load_state_dict(self, state: dict[str, Any]) -> Counter[str]:
        """See `Source.load_state_dict`."""
        assert not self._asked, "rollouts are under way"
        generations, stood, count = regrouped(state, self.cfg.num_envs, self.cfg.ray.workers)
        self.version, self.pool.generations = state["version"], generations
        return self._open(stood) + count

    def _open(self, *saved: list[Any]) -> Counter[str]:
        """Opens all columns, where they stood if that is given; see `load_state_dict`."""
        replies = self.pool.ask_all("open", *saved)
        self._note()
        return sum((reply.result for reply in replies), Counter())

    def _note(self) -> None:
        """Takes note of where every column stands, now that the weights are those of now."""
        later = 0 if self.sync else 1
        self._published = {
            "num_envs": self.cfg.num_envs,
            "version": self.version,
            "generations": [generation + later for generation in self.pool.generations],
            "collectors": list(self.pool.stood),
        }

    def close(self) -> None:
        """Ends the workers, and Ray if nobody else needs it."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        ray_cluster.stop()


def _writable(rollout: Rollout[np.ndarray]) -> Rollout[np.ndarray]:
    """The rollout with copies of what Ray hands out read-only; a join of several has none."""
    copied = {
        field.name: map_tree(partial(np.require, requirements="W"), getattr(rollout, field.name))
        for field in fields(rollout)
        if field.name != "version"
    }
    return replace(rollout, **copied)
