"""Who learns: the agent in this process, and what another learner does in a process of its own.

Learner(cfg, agent).learn(rollout)      what the loop asks, of one or of several (`learners`)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..agents.agent import Agent
from ..agents.peers import PeerError, Peers
from ..configs import Config
from ..envs.rollout import Rollout
from . import rendezvous
from .build import build_agent
from .machine import tune

LOOPBACK = "127.0.0.1"


class Learner:
    """The agent learns here, in this process.

    Args:
        cfg: The run's configuration.
        agent: What learns.
    """

    def __init__(self, cfg: Config, agent: Agent) -> None:
        self.cfg = cfg.learner
        self.agent = agent

    def learn(self, rollout: Rollout) -> dict[str, Tensor]:
        """Learns from a rollout in NumPy; returns metrics as 0-dim tensors.

        Raises:
            RunError: Another learner failed.
        """
        device = self.agent.device
        half = self.cfg.precision == "bfloat16"
        # Without a cache: it would keep the weights of the first update for the whole rollout.
        with torch.autocast(device.type, torch.bfloat16, enabled=half, cache_enabled=False):
            return self.agent.learn(rollout.to(device))

    def align(self) -> None:
        """Gives the agent's state to all who learn with it, after it was loaded."""

    def close(self) -> None:
        """Ends the processes of all who learn with it."""


class Follower(Learner):
    """A learner in a process of its own, which does what the first one does.

    Args:
        cfg: The run's configuration.
        rank: Which learner it is, from 1.
    """

    def __init__(self, cfg: Config, rank: int) -> None:
        tune(cfg.threads)
        self.peers = Peers(rank, cfg.learner.count)
        super().__init__(cfg, build_agent(cfg, self.peers))

    def node(self) -> str:
        """The machine where it is, once it is ready."""
        return node()

    def connect(self, board: tuple[str, int]) -> None:
        """Meets the other learners at a board."""
        store = rendezvous.visit(*board, self.cfg.timeout_seconds)
        mine = LOOPBACK if board[0] == LOOPBACK else address()
        connect(self, self.peers, store, mine)

    def load(self, state: dict[str, Any]) -> None:
        """Takes over the state of the first learner's agent."""
        self.agent.load_state_dict(state)

    def follow(self, rollout: Rollout, draws: Tensor) -> None:
        """Learns as the first learner does, from its state of torch's generator.

        Whatever fails, the others learn of it at once.
        """
        torch.set_rng_state(draws.clone())
        try:
            self.learn(rollout)
        except BaseException:
            self.peers.disconnect()
            raise


def connect(learner: Learner, peers: Peers, store: Any, address: str) -> None:
    """Connects a learner with all others, who come to the same store (see `rendezvous`)."""
    place = peers.rank, peers.count, address, learner.agent.device
    try:
        peers.connect(rendezvous.group(store, *place, learner.cfg.timeout_seconds))
    except RuntimeError as error:
        raise PeerError(f"learner {peers.rank} did not meet the others: {error}") from error


def node() -> str:
    """The machine of this process, as Ray names it."""
    import ray

    return ray.get_runtime_context().get_node_id()


def address() -> str:
    """The IP address of this machine that the cluster reaches."""
    import ray

    return ray.util.get_node_ip_address()
