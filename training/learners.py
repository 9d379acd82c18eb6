"""Several learners: the agent here and, as Ray actors, others that do what it does.

Every learner has the whole agent. A request carries the rollout, and the state of torch's generator
that all draw from; sums go from learner to learner by connections of their own (`agents.peers`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..agents.agent import Agent
from ..agents.peers import PeerError
from ..configs import Config
from ..envs.errors import one_line
from ..envs.rollout import Rollout
from ..envs.tree import map_tree
from . import ray_start, rendezvous
from .files import RunError
from .learner import LOOPBACK, Follower, Learner, address, connect, node

VERDICT_SECONDS = 5.0  # for a learner to say what ended it


class Learners(Learner):
    """The agent learns here as the first of `learner.count`, the others are Ray actors.

    Args:
        cfg: The run's configuration.
        agent: The first learner's, with peers that are not connected yet.

    Raises:
        ValueError: Ray cannot be started, or there are too few GPUs.
        RunError: A learner did not start.
    """

    def __init__(self, cfg: Config, agent: Agent) -> None:
        super().__init__(cfg, agent)
        assert agent.setup.peers is not None
        self.peers = agent.setup.peers
        self._followers: list[Any] = []
        ray_start.start(cfg.ray)
        try:
            self._start(cfg)
        except BaseException:
            self.close()
            raise

    def _start(self, cfg: Config) -> None:
        """Starts the others, connects all, and makes their agents one."""
        import ray

        actor = ray.remote(max_restarts=0, max_task_retries=0)(Follower)
        options = self._options()
        others = range(1, self.peers.count)
        self._followers = [actor.options(**options).remote(cfg, rank) for rank in others]
        nodes = self._together([f.node.remote() for f in self._followers])
        mine = LOOPBACK if {*nodes} == {node()} else address()
        board = rendezvous.board(mine, self.cfg.timeout_seconds)
        asked = [f.connect.remote((mine, board.port)) for f in self._followers]
        self._together(asked, lambda: connect(self, self.peers, board, mine))
        self.align()

    def _options(self) -> dict[str, Any]:
        """What Ray is told about each of the others. Raises ValueError for too few GPUs."""
        import ray

        if self.agent.device.type == "cpu":
            return {"num_cpus": 0, "scheduling_strategy": "SPREAD"}
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here, others = torch.cuda.device_count(), self.peers.count - 1
        if here > others:  # each takes the GPU of its rank, which Ray shall not hide
            strategy = NodeAffinitySchedulingStrategy(node(), False)
            seen = {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}
            options = {"scheduling_strategy": strategy, "runtime_env": {"env_vars": seen}}
            return {"num_cpus": 0, **options}
        shared = int(ray.cluster_resources().get("GPU", 0))
        if shared < others:
            raise ValueError(
                f"learner.count={self.peers.count}: expected a GPU for each learner, but there are "
                f"{here} here and {shared} in Ray; take fewer, or device=cpu"
            )
        return {"num_cpus": 0, "num_gpus": 1, "scheduling_strategy": "SPREAD"}

    def learn(self, rollout: Rollout) -> dict[str, Tensor]:
        """See `Learner.learn`."""
        import ray

        request = ray.put(rollout), ray.put(torch.get_rng_state())
        asked = [follower.follow.remote(*request) for follower in self._followers]
        metrics: list[dict[str, Tensor]] = []
        try:
            self._together(asked, lambda: metrics.append(super(Learners, self).learn(rollout)))
        except RunError as error:
            raise RunError(
                f"{error}; `neuraxis resume` goes on from the last checkpoint"
            ) from error
        return metrics[0]

    def align(self) -> None:
        """See `Learner.align`."""
        import ray

        state = map_tree(_on_cpu, self.agent.state_dict())
        shared = ray.put(state)
        self._together([follower.load.remote(shared) for follower in self._followers])

    def _together(self, asked: list[Any], own: Callable[[], None] | None = None) -> list[Any]:
        """Does the own part of what the others were asked; returns their answers.

        Raises:
            RunError: One of them failed, died or does not answer in time; says which and why.
        """
        import ray.exceptions

        try:
            if own is not None:
                own()
            return ray.get(asked, timeout=self.cfg.timeout_seconds)
        except (PeerError, ray.exceptions.RayError) as error:
            cause = self._cause(asked) or (
                f"learner.timeout_seconds={self.cfg.timeout_seconds:g}: a learner did not answer"
            )
            raise RunError(cause) from error

    def _cause(self, asked: list[Any]) -> str | None:
        """Which of the others failed and why, rather than who has missed it."""
        import ray.exceptions

        done, _ = ray.wait(asked, num_returns=len(asked), timeout=VERDICT_SECONDS)
        causes: list[str] = []
        for answer in done:
            who = f"learner {asked.index(answer) + 1} (of 0 to {len(asked)})"
            try:
                ray.get(answer)
            except ray.exceptions.RayTaskError as error:
                if not isinstance(error.cause, PeerError):
                    causes.append(f"{who}: {one_line(error.cause)}")
            except ray.exceptions.RayError as error:
                last = str(error).strip().splitlines()[-1]
                causes.append(f"{who} died: {last}")
        return textwrap.shorten(causes[0], 250) if causes else None

    def close(self) -> None:
        """See `Learner.close`."""
        import ray

        for follower in self._followers:
            ray.kill(follower)
        self._followers = []
        self.peers.disconnect()
        ray_start.stop()


def _on_cpu(leaf: Any) -> Any:
    return leaf.cpu() if isinstance(leaf, Tensor) else leaf
