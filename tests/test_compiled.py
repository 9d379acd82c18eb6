"""A compiled update is the plain one but for rounding, and sees its tensors as they are now."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._inductor.runtime.cache_dir_utils import cache_dir

from neuraxis.agents.learning.execution.compiled import Compiled
from neuraxis.agents.learning.execution.execute import execute
from neuraxis.agents.learning.execution.numbers import Watched
from neuraxis.agents.learning.optimizer import Optimizer
from neuraxis.training.distributed.learner import Learner

from .helpers import training, weights

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="the compiler needs g++"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of PyTorch's own code
]

Batch = dict[str, Tensor]
THREE = torch.ones(3)

# With minibatches of two sizes, with images, with targets that change, with three losses.
SHORT = ("env=Pendulum-v1", "agent.normalize_observations=true", "agent.batch_size=20")
IMAGES = ("env=neuraxis/Dict-v0", "network=cnn_small", "agent.n_epochs=2")
REPLAYED = ("agent=dqn", "agent.prioritized=true", "agent.train_freq=8", "agent.batch_size=16")
SPECTRAL = "network.blocks.0.weight_norm=spectral"
SAC = ("agent=sac", "env=Pendulum-v1", "agent.n_step=2")
SCHEDULES = ("agent.learning_rate_schedule=linear", "agent.clip_range_schedule=linear")


@pytest.mark.parametrize(
    ("words", "tolerance"),
    [
        ((*SHORT, *SCHEDULES, "agent.n_steps=24"), 1e-6),
        ((*IMAGES, "agent.n_steps=8"), 1e-6),
        ((*REPLAYED, "agent.learning_starts=16", "agent.distribution=implicit"), 1e-6),
        ((*REPLAYED, "agent.learning_starts=16", *SAC, SPECTRAL), 1e-5),
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
        assert (run.agent.execution == "compiled") == (compiled == "true")
        if compiled == "true":
            assert all(run.agent.run_update.graphs.values()) and run.agent.run_update.graphs
        found.append((weights(run.agent), metrics))
    (ours, metrics), (plain, expected) = found
    assert torch.allclose(ours, plain, rtol=0, atol=tolerance)
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
    assert len(run.agent.run_update.graphs) == 1


class Owner:
    """Has a number."""

    coef = 0.5


def compiled(function: Callable[[Batch], Batch], instead: Any = None) -> Compiled:
    return Compiled(function, always=(), instead=instead, watched=Watched(Owner()))


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


def test_a_number_that_changes_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    """A loss of one's own reads a coefficient: the update is plain once it changed, and says so."""
    owner, calls = Owner(), []
    net = nn.Linear(2, 1, bias=False)
    optimizer = Optimizer(net, learning_rate=0.0)

    def loss(batch: Batch) -> tuple[Tensor, Batch]:
        calls.append(owner.coef)
        return owner.coef * net(batch["x"]).sum(), {}

    update = execute(partial(optimizer.step, loss), [net, optimizer], "compiled", owner)
    batch = {"x": torch.tensor([[3.0, 4.0]])}  # the gradient is coef times x
    for coef, times in ((0.5, 1), (0.5, 0), (0.0, 1), (2.0, 1), (2.0, 1)):
        owner.coef = coef
        calls.clear()
        assert float(update(batch)["grad_norm"]) == pytest.approx(5 * coef)
        assert calls == [coef] * times
    said = [record.getMessage() for record in caplog.records if "neuraxis" in record.name]
    assert len(said) == 1 and said[0].startswith("an update reads Owner.coef, a number that change")


def test_what_a_killed_compiler_left_is_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves an empty file, which the compiler's cache takes for a compiled one."""
    file = Path(cache_dir(), "killed.main.so")
    file.touch()
    original = torch._inductor.compile

    def compile(*args: Any) -> Any:
        if file.exists():
            raise ImportError(f"{file}: file too short")
        return original(*args)

    monkeypatch.setattr("torch._inductor.compile", compile)
    function = compiled(lambda batch: {"made": batch["x"] * 2})
    assert torch.equal(function({"x": torch.ones(3)})["made"], torch.full((3,), 2.0))
    assert all(function.graphs.values()) and not file.exists()


@pytest.mark.parametrize("error", [ImportError("x.so: cannot open"), AssertionError(), OSError(28)])
def test_whatever_fails_in_compiling_the_update_runs_plain(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def compile(*_: Any) -> None:
        raise error

    monkeypatch.setattr("torch._inductor.compile", compile)
    function = compiled(lambda batch: {"y": 2 * batch["x"]}, lambda batch: {"y": 2 * batch["x"]})
    for _ in range(2):
        assert torch.equal(function({"x": torch.ones(3)})["y"], torch.full((3,), 2.0))
    (said,) = [record.getMessage() for record in caplog.records if "neuraxis" in record.name]
    assert said.startswith(f"the update is not compiled: {type(error).__name__}")
