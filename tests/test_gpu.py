"""What a GPU changes: who waits for it, whether it repeats its numbers, and what it computes.

On a CPU it is counted after which operations Python would wait for a GPU: those that give it a
number, or whose shape depends on one. The tests marked `gpu` need one.
"""

from __future__ import annotations

import traceback
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from neuraxis.agents.learning.execution import cuda_graph, recorded
from neuraxis.configs import LearnerConfig
from neuraxis.training.distributed.learner import Learner
from neuraxis.training.distributed.process import configure_gpu

from .helpers import (
    LEARNERS,
    VARIANTS,
    action_words,
    claimed,
    config,
    fitting,
    kind_of,
    quick,
    training,
    weights,
)

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
aten = torch.ops.aten
WAITING = {
    *(aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default),
    *(aten.equal.default, aten._unique2.default, aten.repeat_interleave.Tensor),
}
"""Operators after which Python waits for a GPU; `index` with a mask is one, too."""
WAIT = {
    "reinforce": {"agents/reinforce.py", "agents/replay/unfinished.py"},  # which episodes ended?
    "trpo": {"agents/learning/trust_region.py"},  # is the residual small, the step too long?
    "r2d2": {"networks/recurrent.py"},  # which columns have resets?
    "td3": {"agents/off_policy_actor_critic.py"},  # once a rollout: how many updates were there?
    "crossq": {"agents/off_policy_actor_critic.py"},
}
"""The files where a learner waits, and what it asks there; all others never do."""


class Waits(TorchDispatchMode):
    """Counts within its context where Python would wait for a GPU: files of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.files: Counter[str] = Counter()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Looks at an operation, and runs it."""
        masks = func is aten.index.Tensor and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if func in WAITING or masks:
            names = (frame.filename for frame in traceback.extract_stack())
            ours = [name.rpartition("/neuraxis/")[2] for name in names if "/neuraxis/" in name]
            self.files[ours[-1]] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("learner", LEARNERS)
def test_no_update_waits_for_a_gpu(learner: str) -> None:
    more = VARIANTS.get(learner, fitting(learner, "network.blocks.0.sizes=[8]"))
    several = fitting(learner, "agent.gradient_steps=3")
    words = (*action_words(kind_of(learner)), *quick(learner), *several, *more)
    run = training(f"agent={learner}", "num_envs=4", *words)
    while "train/grad_norm" not in run.step():  # of many updates in TRPO
        pass
    rollout = run.rollout()
    with Waits() as found:
        run.agent.learn(rollout)
    assert found.files.keys() == WAIT.get(learner, set())
    assert found.files["agents/off_policy_actor_critic.py"] <= 1


def test_a_wait_is_counted() -> None:
    """So the test above can fail: the steps of a rollout that `to` did not make are read."""
    rollout = training("num_envs=4").rollout()
    with Waits() as found:
        assert rollout.steps == replace(rollout).steps
    assert found.files == {"core/rollout.py": 1}


@pytest.fixture
def usual_products() -> Any:
    """How this process computes, restored after a test."""
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    yield backends
    torch.use_deterministic_algorithms(False)
    for backend, allowed in zip(backends, before, strict=True):
        backend.allow_tf32 = allowed


def test_a_gpu_is_told_how_to_compute(
    usual_products: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    usual = [backend.allow_tf32 for backend in usual_products]
    configure_gpu(LearnerConfig())
    assert [backend.allow_tf32 for backend in usual_products] == usual
    assert not torch.are_deterministic_algorithms_enabled()
    configure_gpu(LearnerConfig(precision="tf32", deterministic=True))
    assert all(backend.allow_tf32 for backend in usual_products)
    assert torch.are_deterministic_algorithms_enabled()


def learned(device: str, agent: str, *words: str, rollouts: int = 3) -> torch.Tensor:
    """All weights after some rollouts, collected on the CPU and learned from on a device."""
    common = (f"agent={agent}", "num_envs=4", f"device={device}", *quick(agent), *words)
    run = training(*action_words(claimed(agent)[0]), *common)
    learner = Learner(config(*common), run.agent)
    for _ in range(rollouts):
        learner.learn(run.source.next())
    return weights(run.agent).cpu()


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("agent", ["ppo", "dqn", "sac", "td3", "pqn", "impala"])
def test_a_gpu_learns_what_a_cpu_learns(agent: str) -> None:
    words = ("agent.optimizer_eps=1e-3",)  # Adam makes a whole step of a rounding error
    here, there = learned("cpu", agent, *words), learned("cuda", agent, *words)
    assert torch.allclose(here, there, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("agent", ["dqn", "sac"])
def test_a_gpu_learns_alike_from_a_replay_on_the_cpu(agent: str) -> None:
    here, there = (learned("cuda", agent, f"agent.replay_device={x}") for x in ("learner", "cpu"))
    assert torch.allclose(here, there, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("compiled", ["auto", "true"])
@pytest.mark.parametrize("agent", ["ppo", "dqn", "sac"])
def test_a_cuda_graph_learns_what_plain_calls_learn(
    agent: str, compiled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of 12 rollouts by the graph, the first ones by calls."""
    words = (f"compile={compiled}", "agent.optimizer_eps=1e-3")
    monkeypatch.setattr(recorded, "CALLS_BEFORE", 0)
    replays: list[object] = []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(
        torch.cuda.CUDAGraph, "replay", lambda graph: (replays.append(graph), replay(graph))
    )
    graph = learned("cuda", agent, *words, rollouts=12)
    assert replays and cuda_graph.CudaGraph.refused is None
    monkeypatch.setattr(cuda_graph, "WARM_UP", 10**9)
    plain = learned("cuda", agent, *words, rollouts=12)
    assert torch.allclose(graph, plain, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("agent", ["ppo", "dqn", "sac"])
def test_a_deterministic_gpu_repeats_its_numbers(
    agent: str, usual_products: tuple[Any, ...]
) -> None:
    first, second = (learned("cuda", agent, "learner.deterministic=true") for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("agent", ["ppo", "dqn", "sac"])
def test_cuda_finds_no_wait_in_an_update(agent: str) -> None:
    run = training(
        f"agent={agent}",
        "num_envs=4",
        "device=cuda",
        *action_words(claimed(agent)[0]),
        *quick(agent),
    )
    rollouts = [run.source.next().to("cuda") for _ in range(4)]
    for rollout in rollouts[:-1]:
        run.agent.learn(rollout)
    torch.cuda.set_sync_debug_mode("error")
    try:
        run.agent.learn(rollouts[-1])
    finally:
        torch.cuda.set_sync_debug_mode("default")
