"""A recorded function is the function, to the last bit."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuraxis.agents import recorded
from neuraxis.agents.recorded import Recorded
from neuraxis.training.learner import Learner

from .helpers import config, training

Batch = dict[str, Tensor]
NUMBERS = itertools.count(2)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records the first call, plays the second."""
    monkeypatch.setattr(recorded, "CALLS_BEFORE", 0)


NET = nn.Linear(3, 2, bias=False)  # its weight is [2, 3]


def gradient(batch: Batch) -> Batch:
    """A loss with the gradient of a tensor that is no argument."""
    y = F.layer_norm(batch["x"] @ NET.weight, (3,)).split([1, 2], -1)
    loss = (y[0].tanh() * y[1].exp()).sum() * batch["scale"]
    (grad,) = torch.autograd.grad(loss, [NET.weight])
    return {"loss": loss.detach(), "grad": torch.cat([grad, grad.t().reshape(2, 3)]), **batch}


def in_place(batch: Batch) -> Batch:
    """Changes an argument, and a view of a result."""
    batch["count"].add_(1)
    y = batch["x"] * 2
    y[:, 0].mul_(batch["count"])
    return {"y": y, "count": batch["count"].clone()}


def drawn(batch: Batch) -> Batch:
    """Two draws that nothing tells apart but the generator."""
    return {"a": F.dropout(batch["x"]), "b": torch.rand_like(batch["x"])}


def listed(batch: Batch) -> Batch:
    """An operator of lists, and one whose result is looked up in a table by name."""
    largest = batch["x"].max(0)
    return {"values": torch.stack([*largest.values, batch["scale"]]), "index": largest.indices}


def batch(seed: int) -> Batch:
    torch.manual_seed(seed)
    return {"x": torch.randn(4, 2), "scale": torch.rand(()), "count": torch.tensor(float(seed))}


@pytest.mark.parametrize("function", [gradient, in_place, drawn, listed])
def test_what_is_played_is_what_is_recorded(function: Callable[[Batch], Batch]) -> None:
    played = Recorded(function, NET.parameters())
    for seed in (1, 2, 3, 2):
        with torch.no_grad():
            NET.weight.add_(seed)  # the recording sees its tensors as they are now
        with torch.enable_grad():
            expected = function(batch(seed))
            found = played(batch(seed))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert not any(value.requires_grad for value in found.values())


def test_each_geometry_is_recorded_apart() -> None:
    calls = []

    def function(x: Tensor) -> Tensor:
        calls.append(x.shape)
        return x.reshape(-1) * len(x)

    played = Recorded(function, NET.parameters())
    whole = torch.arange(12.0).view(3, 4)
    for x in (whole, whole + 1, whole[:2], whole.t(), whole.double(), whole[:2] + 3):
        assert torch.equal(played(x), x.reshape(-1) * len(x))
    assert calls == [(3, 4), (2, 4), (4, 3), (3, 4)]


def test_arguments_that_are_one_tensor_are_not_taken_for_one_for_ever() -> None:
    played = Recorded(torch.sub, NET.parameters())
    x = torch.ones(3)
    for other in (x, x, x + 1, x + 2):
        assert torch.equal(played(x, other), x - other)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x if x.sum() > 0 else -x,
        lambda x: x * (1 if x.sum().item() > 0 else -1),
        lambda x: x if torch.equal(x, x.abs()) else -x,
        lambda x: torch.cat((x[x > 0], -x[x <= 0])),
        lambda x: x * torch.from_numpy(np.sign(x.numpy())),
    ],
)
def test_what_may_differ_next_time_is_not_played(
    function: Callable[[Tensor], Tensor], mode: Callable[[], Any]
) -> None:
    played = Recorded(function, NET.parameters())
    with mode():
        for sign in (1.0, -1.0, 1.0, -1.0):
            x = torch.full((3,), sign)
            assert torch.equal(played(x), x.abs())


def test_a_vector_from_elsewhere_is_not_kept() -> None:
    played = Recorded(lambda x: x + torch.tensor([float(next(NUMBERS))]), NET.parameters())
    for _ in range(3):
        before = next(NUMBERS)
        assert torch.equal(played(torch.ones(3)), torch.full((3,), 2.0 + before))


def test_rows_that_are_picked_by_numbers_are_played() -> None:
    played = Recorded(lambda x, rows: x[rows] * 2, NET.parameters())
    for rows in ([0, 2], [1, 1], [2, 0]):
        x = torch.rand(3)
        assert torch.equal(played(x, torch.tensor(rows)), x[rows] * 2)
    assert all(played._recordings.values())


def test_autocast_is_not_played() -> None:
    found = []
    for before in (0, 10**9):
        recorded.CALLS_BEFORE = before  # the fixture puts it back
        run = training("agent=ppo", "num_envs=4", "agent.n_steps=16", "agent.batch_size=32")
        learner = Learner(config("learner.precision=bfloat16"), run.agent)
        for _ in range(3):
            learner.learn(run.source.next())
        found.append(run.agent.optimizer.flat.clone())
    assert torch.equal(*found)


def test_large_arguments_are_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "LARGEST", 5)
    played = Recorded(torch.exp, NET.parameters())
    for _ in range(3):
        played(torch.ones(6))
        played(torch.ones(5))
    (recording,) = played._recordings.values()
    assert recording is not None


@pytest.mark.parametrize(
    "words",
    [
        ("agent=ppo", "agent.ent_coef=0.01", "agent.clip_range_vf=0.2", "agent.weight_decay=0.1"),
        ("agent=ppo", "env=Pendulum-v1", "agent.normalize_observations=true"),
        ("agent=ppo", "agent.learning_rate_schedule=linear", "agent.clip_range_schedule=linear"),
        ("agent=ppo", "env=neuraxis/Dict-v0", "network=cnn_small", "agent.n_epochs=2"),
        ("agent=appo",),
        ("agent=impala",),
        ("agent=dqn", "agent.prioritized=true", "agent.n_step=3"),
        ("agent=dqn", "agent.dueling=true", "network.blocks.0.norm=layer"),
    ],
)
def test_recorded_updates_are_the_plain_ones(words: tuple[str, ...], monkeypatch: Any) -> None:
    """Of whole rollouts, with a last minibatch that is shorter."""
    small = ("agent.n_steps=24", "agent.batch_size=40") if "dqn" not in words[0] else ()
    sizes = ("num_envs=4", "total_steps=10_000", *small)
    if "impala" in words[0]:
        sizes = ("num_envs=4", "total_steps=10_000")
    if "dqn" in words[0]:
        sizes = (*sizes, "agent.learning_starts=16", "agent.batch_size=16", "agent.train_freq=8")
    found = []
    for before in (0, 10**9):
        monkeypatch.setattr(recorded, "CALLS_BEFORE", before)
        run = training(*words, *sizes)
        assert run.agent.optimizer.execution == "recorded"
        metrics = [run.agent.learn(run.rollout()) for _ in range(6)]
        assert all(run.agent.optimizer._update._recordings.values())
        found.append((run.agent.optimizer.flat.clone(), metrics))
    (played, metrics), (plain, expected) = found
    assert torch.equal(played, plain)
    for row, other in zip(metrics, expected, strict=True):
        assert all(torch.equal(row[name], other[name]) for name in other)
