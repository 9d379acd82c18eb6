"""The learners besides the first one: each in a process of its own, connected with all others."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...agents.learning.data_parallel import ReplicaError, Replicas
from ...agents.policies.policy import Policy
from ...configs import Config
from ...core.rollout import Rollout
from . import process_group, ray_cluster
from .build import build_agent
from .learner import Learner
from .process import configure_process

LOOPBACK = "127.0.0.1"


class Follower(Learner):
    """A learner in a process of its own, which does what the first one does.

    Args:
        cfg: The run's configuration.
        rank: Which learner it is, from 1.
        teacher: Of the first learner's agent.
    """

    def __init__(self, cfg: Config, rank: int, teacher: Policy | None) -> None:
        ray_cluster.set_secrets(cfg.ray)
        configure_process(cfg.threads)
        self.replicas = Replicas(rank, cfg.learner.count)
        super().__init__(cfg, build_agent(cfg, self.replicas, teacher=teacher))

    def node_id(self) -> str:
        """The machine that it runs on; the answer comes once it is ready."""
        return node_id()

    def connect(self, host: str, port: int) -> None:
        """Connects it with the others, which come to the store at HOST:PORT."""
        store = process_group.join_store(host, port, self.cfg.timeout_seconds)
        mine = LOOPBACK if host == LOOPBACK else host_address()
        connect(self, self.replicas, store, mine)

    def load(self, state: dict[str, Any]) -> None:
        """Takes over the state of the first learner's agent."""
        self.agent.load_state_dict(state)

    def follow(self, rollout: Rollout[np.ndarray], draws: Tensor) -> None:
        """Learns as the first learner does, from its state of torch's generator.

        Whatever fails here, the connections are closed, so that the others do not wait.
        """
        torch.set_rng_state(draws.clone())
        try:
            self.learn(rollout)
        except BaseException:
            self.replicas.disconnect()
            raise


def connect(learner: Learner, replicas: Replicas, store: Any, address: str) -> None:
    """Connects a learner with all others, which come to the same store.

    Args:
        learner: The learner.
        replicas: Its rank, and how many there are.
        store: See `process_group.create_store`.
        address: IP address of this machine that the others reach.

    Raises:
        ReplicaError: One of them did not come in time.
    """
    place = replicas.rank, replicas.count, address, learner.agent.device
    try:
        replicas.connect(process_group.connect_group(store, *place, learner.cfg.timeout_seconds))
    except RuntimeError as error:
        raise ReplicaError(f"learner {replicas.rank} did not meet the others: {error}") from error


def node_id() -> str:
    """The machine of this process, as Ray names it."""
    import ray

    return ray.get_runtime_context().get_node_id()


def host_address() -> str:
    """The IP address of this machine that the cluster reaches."""
    import ray

    return ray.util.get_node_ip_address()
