"""Several learners: one in this process, the others in Ray actors; all do the same.

Every learner has the whole agent. A request carries the rollout and the state of torch's generator,
so that all draw the same numbers. Gradients are summed over connections between the learners
(`agents.learning.data_parallel`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...agents.agent import Agent
from ...agents.learning.data_parallel import ReplicaError
from ...configs import Config
from ...core.errors import RunError, one_line
from ...core.rollout import Rollout
from ...core.tree import Tree, map_tree
from . import process_group, ray_cluster
from .follower import LOOPBACK, Follower, connect, host_address, node_id
from .learner import Learner

VERDICT_SECONDS = 5.0  # that a learner that failed has to report why


class LearnerGroup(Learner):
    """The agent learns here as the first of `learner.count`, the others are Ray actors.

    Args:
        cfg: The run's configuration.
        agent: The first learner's, with replicas that are not connected yet.

    Raises:
        ValueError: Ray cannot be started, or there are too few GPUs.
        RunError: A learner did not start.
    """

    def __init__(self, cfg: Config, agent: Agent) -> None:
        super().__init__(cfg, agent)
        assert agent.setup.replicas is not None
        self.replicas = agent.setup.replicas
        self.followers: list[Any] = []
        ray_cluster.start(cfg.ray)
        try:
            self._start(cfg)
        except BaseException:
            self.close()
            raise

    def _start(self, cfg: Config) -> None:
        """Starts the others, connects all, and sends them the state of the agent."""
        import ray

        actor = ray.remote(max_restarts=0, max_task_retries=0)(Follower)
        self.followers = [
            actor.options(**options).remote(cfg, rank, self.agent.setup.teacher)
            for rank, options in enumerate(self._options(), start=1)
        ]
        nodes = self._together([f.node_id.remote() for f in self.followers])
        mine = LOOPBACK if {*nodes} == {node_id()} else host_address()
        store = process_group.create_store(mine, self.cfg.timeout_seconds)
        asked = [f.connect.remote(mine, store.port) for f in self.followers]
        self._together(asked, lambda: connect(self, self.replicas, store, mine))
        self._align()

    def _options(self) -> list[dict[str, Any]]:
        """Ray's options of each of the others. Raises ValueError if there are too few GPUs."""
        import ray

        others = self.replicas.count - 1
        if self.agent.device.type == "cpu":
            return [{"num_cpus": 0, "scheduling_strategy": "SPREAD"}] * others
        return gpu_options(others, torch.cuda.device_count(), node_id(), ray.nodes())

    def learn(self, rollout: Rollout[np.ndarray]) -> dict[str, Tensor]:
        """See `Learner.learn`."""
        import ray

        request = ray.put(rollout), ray.put(torch.get_rng_state())
        asked = [follower.follow.remote(*request) for follower in self.followers]
        metrics: list[dict[str, Tensor]] = []
        try:
            self._together(asked, lambda: metrics.append(super(LearnerGroup, self).learn(rollout)))
        except RunError as error:
            raise RunError(
                f"{error}; `neuraxis resume` goes on from the last checkpoint"
            ) from error
        return metrics[0]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Learner.load_state_dict`."""
        super().load_state_dict(state)
        self._align()

    def _align(self) -> None:
        """Sends the agent's state to the other learners."""
        import ray

        state = on_cpu(self.agent.state_dict())
        shared = ray.put(state)
        self._together([follower.load.remote(shared) for follower in self.followers])

    def _together(self, asked: list[Any], own: Callable[[], None] | None = None) -> list[Any]:
        """Does this learner's part of the work, and returns the answers of the others.

        Raises:
            RunError: One of them failed, died or does not answer in time; says which and why.
        """
        import ray.exceptions

        try:
            if own is not None:
                own()
            return ray.get(asked, timeout=self.cfg.timeout_seconds)
        except (ReplicaError, ray.exceptions.RayError) as error:
            cause = self._cause(asked) or (
                f"learner.timeout_seconds={self.cfg.timeout_seconds:g}: a learner did not answer"
            )
            raise RunError(cause) from error

    def _cause(self, asked: list[Any]) -> str | None:
        """Which learner failed and why; the others only report that its sums did not come."""
        import ray.exceptions

        done, _ = ray.wait(asked, num_returns=len(asked), timeout=VERDICT_SECONDS)
        causes: list[str] = []
        for answer in done:
            who = f"learner {asked.index(answer) + 1} (of 0 to {len(asked)})"
            try:
                ray.get(answer)
            except ray.exceptions.RayTaskError as error:
                if not isinstance(error.cause, ReplicaError):
                    causes.append(f"{who}: {one_line(error.cause)}")
            except ray.exceptions.RayError as error:
                last = str(error).strip().splitlines()[-1]
                causes.append(f"{who} died: {last}")
        return textwrap.shorten(causes[0], 250) if causes else None

    def close(self) -> None:
        """See `Learner.close`."""
        import ray

        for follower in self.followers:
            ray.kill(follower)
        self.followers = []
        self.replicas.disconnect()
        ray_cluster.stop()


def local_learner(cfg: Config, agent: Agent) -> Learner:
    """The learner of this process, or the group that it is the first of."""
    return (LearnerGroup if agent.setup.replicas else Learner)(cfg, agent)


def gpu_options(
    others: int, gpus: int, node: str, nodes: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Ray's options that give each learner but the first a GPU of its own.

    The first has the first GPU of its machine; the next learners have the other GPUs there, each
    that of its rank, and the rest have those of other machines.

    Args:
        others: How many learners.
        gpus: Of the machine of the first one.
        node: That machine, as Ray names it.
        nodes: All machines, as `ray.nodes` describes them.

    Raises:
        ValueError: There are too few GPUs.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    seen = {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}  # Ray shall not hide them
    here = {"num_gpus": 0, "runtime_env": {"env_vars": seen}}
    places = [(node, here)] * (gpus - 1)
    for other in nodes:
        if other["Alive"] and other["NodeID"] != node:
            places += [(other["NodeID"], {"num_gpus": 1})] * int(other["Resources"].get("GPU", 0))
    if len(places) < others:
        raise ValueError(
            f"learner.count={others + 1}: expected a GPU for each learner, but there are {gpus} "
            f"here and {len(places) - gpus + 1} on Ray's other machines; take fewer, or device=cpu"
        )
    return [
        {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(at, False), **gpu}
        for at, gpu in places[:others]
    ]


def on_cpu(tree: Tree) -> Tree:
    """The tree with its tensors on the CPU, none of them a view: as it can go to another process.

    Of a view the whole memory would be sent.
    """

    def moved(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        leaf = leaf.detach().cpu()
        return leaf if leaf.untyped_storage().nbytes() == leaf.nbytes else leaf.clone()

    return map_tree(moved, tree)
