"""The learner in a Ray actor: `learner.placement=actor`, where the run's own machine has no GPU.

    loop, on the driver                     LearnerActor, on a machine with a GPU
     rollout, torch's generator  -------->  learn
     metrics, weights, generator <--------   :
     publish, evaluate: by these weights

The driver has the policy, which acts and is evaluated; the rest of the agent learns in the actor,
with its replay. Torch's generator goes to and fro, so on a CPU the numbers are those of a learner
in the driver's process.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...agents.agent import Agent
from ...configs import Config
from ...core.errors import RunError, one_line, shorten
from ...core.frames import packed, unpacked
from ...core.memory import OutOfMemory
from ...core.rollout import Rollout
from ...networks.observation import frames_of
from . import ray_cluster
from .build import build_agent, new_replicas
from .learner import Learner
from .learner_group import local_learner, on_cpu
from .packed_weights import Unpacker, pack
from .process import configure_process

GENERATORS = "cuda_generators"


class LearnerActor:
    """A learner, or the first of several, in a process of its own.

    Args:
        cfg: The run's configuration.
        teacher: Of the driver's agent.
    """

    learner: Learner

    def __init__(self, cfg: Config, teacher: Any) -> None:
        ray_cluster.set_secrets(cfg.ray)
        configure_process(cfg.threads)
        self._cfg, self._teacher = cfg, teacher

    def open(self, state: dict[str, Any]) -> None:
        """Builds the agent, with the state of the driver's; what it refuses reaches the driver."""
        agent = build_agent(self._cfg, new_replicas(self._cfg), teacher=self._teacher)
        agent.load_state_dict(state)
        self.learner = local_learner(self._cfg, agent)

    def learn(
        self, rollout: Rollout[np.ndarray], draws: Tensor
    ) -> tuple[dict[str, Tensor], np.ndarray, Tensor]:
        """Learns with torch's generator at `draws`; returns metrics, weights, and the generator."""
        torch.set_rng_state(draws.clone())
        metrics = on_cpu(self.learner.learn(unpacked(rollout)))
        return metrics, pack(self.learner.agent.policy), torch.get_rng_state()

    def tensors(self) -> dict[str, Tensor]:
        """See `Learner.tensors`."""
        return on_cpu(self.learner.tensors())

    def state_dict(self) -> dict[str, Any]:
        """See `Learner.state_dict`; with the generators of the GPUs, which the driver lacks."""
        generators = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return on_cpu(self.learner.state_dict()) | {GENERATORS: tuple(generators)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Learner.load_state_dict`."""
        self.learner.load_state_dict(state)
        saved = state.get(GENERATORS, ())
        if saved and torch.cuda.device_count() == len(saved):
            torch.cuda.set_rng_state_all(saved)


class RemoteLearner(Learner):
    """The agent learns in a Ray actor; see `Learner`.

    Args:
        cfg: The run's configuration.
        agent: The driver's, on the CPU, with the weights to begin with.

    Raises:
        ValueError: Ray cannot be started, or no machine of it has a GPU.
        RunError: The actor did not start.
    """

    def __init__(self, cfg: Config, agent: Agent) -> None:
        super().__init__(cfg, agent)
        self.actor: Any = None
        self._take = Unpacker(agent.policy)
        self._frames = frames_of(agent.setup.observation_space, cfg.env.stacked)
        self._compress = cfg.ray.compression == "zlib"
        ray_cluster.start(cfg.ray)
        try:
            self._start(cfg)
        except BaseException:
            self.close()
            raise

    def _start(self, cfg: Config) -> None:
        import ray

        options = actor_options(cfg.device, cfg.learner.count, ray.nodes())
        actor = ray.remote(max_restarts=0, max_task_retries=0)(LearnerActor)
        self.actor = actor.options(**options).remote(cfg, self.agent.setup.teacher)
        opened = self.actor.open.remote(on_cpu(self.agent.state_dict()))
        if not ray.wait([opened], timeout=self.cfg.timeout_seconds)[0]:
            raise RunError(
                "learner.placement=actor: the actor did not start within "
                f"learner.timeout_seconds={self.cfg.timeout_seconds:g}: are all GPUs in use?"
            )
        self._answer(opened)

    def learn(self, rollout: Rollout[np.ndarray]) -> dict[str, Tensor]:
        """See `Learner.learn`."""
        sent = packed(rollout, self._frames, self._compress)
        metrics, weights, draws = self._ask("learn", sent, torch.get_rng_state())
        torch.set_rng_state(draws.clone())
        self._take(weights)
        return metrics

    def tensors(self) -> dict[str, Tensor]:
        """See `Learner.tensors`."""
        return self._ask("tensors")

    def state_dict(self) -> dict[str, Any]:
        """See `Learner.state_dict`."""
        return self._ask("state_dict")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Learner.load_state_dict`."""
        self._ask("load_state_dict", state)
        self.agent.policy.load_state_dict(state["policy"])

    def _ask(self, name: str, *args: Any) -> Any:
        """Calls a method of the actor; see `_answer`."""
        return self._answer(getattr(self.actor, name).remote(*args))

    def _answer(self, asked: Any) -> Any:
        """Waits for what was asked.

        Raises:
            ValueError, RuntimeError, OutOfMemory: As in the actor.
            RunError: Something else failed there, or the actor died.
        """
        import ray
        import ray.exceptions

        try:
            return ray.get(asked)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ValueError | RuntimeError | OutOfMemory):
                raise error.cause from error
            raise RunError(f"the learner's process: {one_line(error.cause)}") from error
        except ray.exceptions.RayError as error:
            raise RunError(
                f"the learner's process died: {shorten(one_line(error), 200)}; `neuraxis resume` "
                "goes on from the last checkpoint"
            ) from error

    def close(self) -> None:
        """See `Learner.close`."""
        import ray

        if self.actor is not None:
            ray.kill(self.actor)
            self.actor = None
        ray_cluster.stop()


def actor_options(device: str, learners: int, nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """Ray's options of the actor: GPUs for the learners of its machine, or none.

    Args:
        device: `cfg.device`.
        learners: How many share a minibatch.
        nodes: All machines, as `ray.nodes` describes them.

    Raises:
        ValueError: `device` is `cuda`, and no machine has a GPU.
    """
    gpus = max((int(n["Resources"].get("GPU", 0)) for n in nodes if n["Alive"]), default=0)
    if device == "cuda" and not gpus:
        raise ValueError("device=cuda: no machine of Ray's has a GPU; use device=cpu")
    return {"num_cpus": 0, "num_gpus": 0 if device == "cpu" else min(learners, gpus)}
