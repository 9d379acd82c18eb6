"""A compiled update is the plain one but for rounding, and sees its tensors as they are now."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from neuraxis.agents.compiled import Compiled
from neuraxis.training.learner import Learner

from .helpers import training

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="the compiler needs g++"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of PyTorch's own code
]

Batch = dict[str, Tensor]
THREE = torch.ones(3)

# With a shorter minibatch at the end, with images, and with targets that change.
SHORT = ("env=Pendulum-v1", "agent.normalize_observations=true", "agent.batch_size=40")
IMAGES = ("env=neuraxis/Dict-v0", "network=cnn_small", "agent.n_epochs=2")
REPLAYED = ("agent=dqn", "agent.prioritized=true", "agent.train_freq=8", "agent.batch_size=16")
SCHEDULES = ("agent.learning_rate_schedule=linear", "agent.clip_range_schedule=linear")


@pytest.mark.parametrize(
    ("words", "tolerance"),
    [
        ((*SHORT, *SCHEDULES, "agent.n_steps=24"), 1e-6),
        ((*IMAGES, "agent.n_steps=8"), 1e-6),
        ((*REPLAYED, "agent.learning_starts=16", "agent.target_update_interval=32"), 1e-6),
        (("learner.precision=bfloat16", "agent.n_steps=16"), 1e-3),
    ],
)
def test_compiled_updates_are_the_plain_ones(words: tuple[str, ...], tolerance: float) -> None:
    """Six rollouts: statistics of observations, schedules and targets change in between."""
    words = (*words, "num_envs=4", "total_steps=1_000")
    found = []
    for compiled in ("true", "false"):
        run = training(*words, f"compile={compiled}")
        learner = Learner(run.cfg, run.agent)
        metrics = [learner.learn(run.source.next()) for _ in range(6)]
        assert (run.agent.optimizer.execution == "compiled") == (compiled == "true")
        found.append((run.agent.optimizer.flat, metrics))
    (weights, metrics), (plain, expected) = found
    assert torch.allclose(weights, plain, rtol=0, atol=tolerance)
    for row, other in zip(metrics, expected, strict=True):
        assert row.keys() == other.keys()
        for name in other:
            assert torch.allclose(row[name], other[name], rtol=0.02, atol=1e-3), name


def test_rounds_of_any_length_have_one_graph() -> None:
    """Their minibatches are cut from larger ones and lie apart as those say."""
    words = ("agent=dqn", "agent.double=false", "agent.learning_starts=16", "agent.batch_size=16")
    run = training(*words, "num_envs=4", "total_steps=10_000", "compile=true")
    counts = set()
    for _ in range(12):
        before = float(run.agent.optimizer.count)
        run.step()
        counts.add(float(run.agent.optimizer.count) - before)
    assert len(counts) > 2
    assert len(run.agent.optimizer._update._graphs) == 1


def compiled(function: Callable[[Batch], Batch], instead: Any = None) -> Compiled:
    return Compiled(function, always=(), instead=instead)


def test_results_that_are_arguments_come_back_themselves() -> None:
    double = torch.tensor(2.0)
    function = compiled(lambda batch: {"kept": batch["x"], "made": batch["x"] * double})
    for size in (3, 4):
        x = torch.ones(size)
        results = function({"x": x})
        assert list(results) == ["made", "kept"] and results["kept"] is x
        assert torch.equal(results["made"], 2 * x)


def test_a_tensor_given_twice_is_two() -> None:
    function = compiled(lambda batch: {"difference": batch["x"] - 2 * batch["y"]})
    x = torch.ones(3)
    assert torch.equal(function({"x": x, "y": x})["difference"], -x)
    assert torch.equal(function({"x": x, "y": x + 1})["difference"], -3 * x)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda batch: {"y": batch["x"] * torch.arange(1.0, 4.0).clone()}, ""),
        (lambda batch: {"y": batch["x"] * THREE}, "shape (3,) that is neither in the minibatch"),
        (lambda batch: {"y": batch["x"] * float(batch["x"].max())}, "data-dependent"),
    ],
)
def test_what_cannot_be_compiled_is_called(
    function: Callable[[Batch], Batch], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    tried = compiled(function, instead=function)
    for x in (torch.ones(3), torch.full((3,), 2.0)):
        assert torch.equal(tried({"x": x})["y"], function({"x": x})["y"])
    said = [record.getMessage() for record in caplog.records if "neuraxis" in record.name]
    assert len(said) == bool(reason)
    assert all(reason in line for line in said)
