"""A compiled update is the plain one but for rounding, and sees its tensors as they are now."""

import shutil

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

# Of three sorts of minibatches: with a shorter one at the end, with images, with priorities.
SHORT = ("env=Pendulum-v1", "agent.normalize_observations=true", "agent.batch_size=40")
IMAGES = ("env=neuraxis/Dict-v0", "network=cnn_small", "agent.n_epochs=2")
REPLAYED = ("agent=dqn", "agent.prioritized=true", "agent.train_freq=8", "agent.batch_size=16")


@pytest.mark.parametrize(
    ("words", "tolerance"),
    [
        ((*SHORT, "agent.n_steps=24"), 1e-6),
        ((*IMAGES, "agent.n_steps=8"), 1e-6),
        ((*REPLAYED, "agent.learning_starts=16"), 1e-6),
        (("learner.precision=bfloat16", "agent.n_steps=16"), 1e-3),
    ],
)
def test_compiled_updates_are_the_plain_ones(words: tuple[str, ...], tolerance: float) -> None:
    """Six rollouts: statistics of observations, schedules and targets change in between."""
    words = (*words, "num_envs=4", "total_steps=10_000")
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


def test_results_that_are_arguments_come_back_themselves() -> None:
    double = torch.tensor(2.0)
    function = Compiled(lambda batch: {"kept": batch["x"], "made": batch["x"] * double})
    for size in (3, 4):
        x = torch.ones(size)
        results = function({"x": x})
        assert list(results) == ["made", "kept"] and results["kept"] is x
        assert torch.equal(results["made"], 2 * x)


def test_tensors_from_elsewhere_are_refused() -> None:
    elsewhere = torch.ones(3)

    def function(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"y": batch["x"] + elsewhere}

    with pytest.raises(ValueError, match=r"shape \(3,\) that is neither in the minibatch nor"):
        Compiled(function)({"x": torch.ones(3)})
