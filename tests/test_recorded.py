"""A recorded function is the function, to the last bit."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from neuraxis.agents.learning.execution import recorded, recorder
from neuraxis.agents.learning.execution.numbers import Watched
from neuraxis.agents.learning.execution.recorded import Recorded
from neuraxis.agents.ppo import PPO
from neuraxis.training.distributed.learner import Learner

from .helpers import config, training, weights

Batch = dict[str, Tensor]
NUMBERS = itertools.count(2)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records the first call, plays the second."""
    monkeypatch.setattr(recorded, "CALLS_BEFORE", 0)


MASKED = ("env=neuraxis/Masked-v0", "env.kwargs.strict=true", "env.action_mask=info")
NET = nn.Linear(3, 2, bias=False)  # its weight is [2, 3]


class Owner:
    """Has numbers, or gets them from its class or a property."""

    coef = 0.5
    limits = (0.0, 0.5)

    def __init__(self) -> None:
        self.own = 0.5
        self.elsewhere = {"share": 0.5}

    @property
    def share(self) -> float:
        return self.elsewhere["share"]

    @share.setter
    def share(self, value: float) -> None:
        self.elsewhere["share"] = value


def recording(function: Callable[..., Any], owner: object = None) -> Recorded:
    return Recorded(function, NET.parameters(), Watched(owner or Owner()))


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


def without_numbers(batch: Batch) -> Batch:
    """Results that are equal to nothing, themselves included: of weights that diverged."""
    nothing = batch["x"] * torch.nan
    return {"x": torch.where(batch["x"] > 0, nothing, nothing), "y": nothing.clamp(min=0.0)}


def batch(seed: int) -> Batch:
    torch.manual_seed(seed)
    return {"x": torch.randn(4, 2), "scale": torch.rand(()), "count": torch.tensor(float(seed))}


def same(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("function", [gradient, in_place, drawn, listed, without_numbers])
def test_what_is_played_is_what_is_recorded(function: Callable[[Batch], Batch]) -> None:
    played = recording(function)
    for seed in (1, 2, 3, 2):
        with torch.no_grad():
            NET.weight.add_(seed)  # the recording sees its tensors as they are now
        with torch.enable_grad():
            expected = function(batch(seed))
            found = played(batch(seed))
        assert found.keys() == expected.keys()
        assert all(same(found[name], expected[name]) for name in expected)
        assert not any(value.requires_grad for value in found.values())


def test_each_geometry_is_recorded_apart() -> None:
    calls = []

    def function(x: Tensor) -> Tensor:
        calls.append(x.shape)
        return x.reshape(-1) * len(x)

    played = recording(function)
    whole = torch.arange(12.0).view(3, 4)
    for x in (whole, whole + 1, whole[:2], whole.t(), whole.double(), whole[:2] + 3):
        assert torch.equal(played(x), x.reshape(-1) * len(x))
    assert calls == [(3, 4), (2, 4), (4, 3), (3, 4)]


def test_arguments_that_are_one_tensor_are_not_taken_for_one_for_ever() -> None:
    played = recording(torch.sub)
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
    played = recording(function)
    with mode():
        for sign in (1.0, -1.0, 1.0, -1.0):
            x = torch.full((3,), sign)
            assert torch.equal(played(x), x.abs())


def test_a_vector_from_elsewhere_is_not_kept() -> None:
    played = recording(lambda x: x + torch.tensor([float(next(NUMBERS))]))
    for _ in range(3):
        before = next(NUMBERS)
        assert torch.equal(played(torch.ones(3)), torch.full((3,), 2.0 + before))


@pytest.mark.parametrize(
    "make", [lambda x: torch.ones_like(x.sum()), lambda x: torch.scalar_tensor(1.0)]
)
def test_a_constant_that_is_changed_in_place_is_not_kept(make: Callable[[Tensor], Tensor]) -> None:
    played = recording(lambda x: make(x).add_(x.sum()).view(1) * x)
    for number in range(4):
        x = torch.full((3,), float(number))
        assert torch.equal(played(x), x * (1 + 3 * number))


def test_constants_are_made_once() -> None:
    x = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    with recorder.Recorder([x], []) as noted:
        y = torch.where(x > 0, x * x, 0.0).sum()
        grad = torch.autograd.grad(y, x)
    play = noted.finish(grad)
    assert play is not None
    with profile(activities=[ProfilerActivity.CPU]) as found, torch.no_grad():
        assert torch.equal(play(x)[0], torch.tensor([2.0, 0.0, 6.0]))
    names = {event.name for event in found.events() or ()}
    assert names.isdisjoint({"aten::ones_like", "aten::scalar_tensor", "aten::sum"})


def test_rows_that_are_picked_by_numbers_are_played() -> None:
    played = recording(lambda x, rows: x[rows] * 2)
    for rows in ([0, 2], [1, 1], [2, 0]):
        x = torch.rand(3)
        assert torch.equal(played(x, torch.tensor(rows)), x[rows] * 2)
    assert all(played.recordings.values())


def test_autocast_is_not_played() -> None:
    found = []
    for before in (0, 10**9):
        recorded.CALLS_BEFORE = before  # the fixture puts it back
        run = training("agent=ppo", "num_envs=4", "agent.n_steps=16", "agent.batch_size=32")
        learner = Learner(config("learner.precision=bfloat16"), run.agent)
        for _ in range(3):
            learner.learn(run.source.next())
        found.append(weights(run.agent))
    assert torch.equal(*found)


def test_large_arguments_are_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recorded.LARGEST, "cpu", 5)
    played = recording(torch.exp)
    for _ in range(3):
        played(torch.ones(6))
        played(torch.ones(5))
    (made,) = played.recordings.values()
    assert made is not None


CONTINUOUS = [f"agent={name}" for name in ("sac", "tqc", "crossq", "td3", "ddpg")]
REPLAYED = ("agent.learning_starts=16", "agent.batch_size=16", "agent.train_freq=8")


@pytest.mark.parametrize(
    "words",
    [
        ("agent=ppo", "agent.ent_coef=0.01", "agent.clip_range_vf=0.2", "agent.weight_decay=0.1"),
        ("agent=ppo", "env=Pendulum-v1", "agent.normalize_observations=true"),
        ("agent=ppo", "agent.learning_rate_schedule=linear", "agent.clip_range_schedule=linear"),
        ("agent=ppo", "env=neuraxis/Dict-v0", "network=cnn_small", "agent.n_epochs=2"),
        ("agent=ppo", "network.blocks.0.weight_norm=spectral", "agent.l1=1e-3", "agent.l2=1e-3"),
        ("agent=appo",),
        ("agent=impala",),
        ("agent=ppo", *MASKED, "env.kwargs.action_space=multidiscrete"),
        ("agent=dqn", *MASKED),
        ("agent=dqn", "agent.prioritized=true", "agent.n_step=3"),
        ("agent=dqn", "agent.dueling=true", "network.blocks.0.norm=layer"),
        ("agent=dqn", "network.blocks.0.norm=batch_renorm"),
        ("agent=impala", "network.blocks.0.norm=batch_renorm"),
        ("agent=dqn", "agent.distribution=categorical", "agent.prioritized=true"),
        ("agent=dqn", "agent.distribution=quantile", "agent.dueling=true", "agent.double=false"),
        ("agent=dqn", "agent.distribution=implicit", "agent.value_rescaling=true"),
        ("agent=sac", "agent.prioritized=true", "agent.n_step=2"),
        ("agent=sac", "network.blocks.0.weight_norm=spectral", "agent.l2=1e-3"),
        ("agent=td3", "network.blocks.0.weight_norm=weight"),
        ("agent=sac", "env=neuraxis/Identity-v0", "agent.policy_delay=2"),
        ("agent=tqc",),
        ("agent=crossq", "network.critic.0.sizes=[32]"),
        ("agent=sac", "agent.normalize_observations=true", "agent.ent_coef=0.1"),
        ("agent=td3", "agent.policy_delay=3", "agent.normalize_observations=true"),
        ("agent=ddpg", "agent.prioritized=true", "agent.n_step=2"),
    ],
)
def test_recorded_updates_are_the_plain_ones(words: tuple[str, ...], monkeypatch: Any) -> None:
    """Of whole rollouts, with minibatches of two sizes."""
    small = {
        "agent=impala": (),
        "agent=dqn": REPLAYED,
        **dict.fromkeys(CONTINUOUS, (*REPLAYED, "env=Pendulum-v1")),
    }.get(words[0], ("agent.n_steps=24", "agent.batch_size=20"))
    found = []
    for before in (0, 10**9):
        monkeypatch.setattr(recorded, "CALLS_BEFORE", before)
        run = training(*small, *words, "num_envs=4", "total_steps=10_000")
        assert run.agent.execution == "recorded"
        metrics = [run.agent.learn(run.rollout()) for _ in range(6)]
        recordings = run.agent.run_update.recordings.values()
        assert all(recordings) and bool(recordings) == (before == 0)
        found.append((weights(run.agent), metrics))
    (played, metrics), (plain, expected) = found
    assert torch.equal(played, plain)
    for row, other in zip(metrics, expected, strict=True):
        assert all(torch.equal(row[name], other[name]) for name in other)


def test_a_scalar_tensor_may_change_in_place_or_be_replaced() -> None:
    """One that a property makes is made of other tensors, and recorded with them."""

    class Tensors:
        def __init__(self) -> None:
            self.log, self.scale = torch.zeros(()), torch.ones(())

        @property
        def factor(self) -> Tensor:
            return self.log.exp()

    owner = Tensors()
    calls = []

    def function(x: Tensor) -> Tensor:
        calls.append(1)
        return x * owner.factor * owner.scale

    played = recording(function, owner)
    x = torch.ones(3)
    for log, scale in ((0.0, 1.0), (1.0, 0.5), (2.0, 2.0)):
        owner.log.fill_(log)
        owner.scale.fill_(scale)
        assert torch.equal(played(x), x * owner.log.exp() * scale)
    assert len(calls) == 1
    owner.scale = torch.tensor(3.0)
    for scale in (3.0, 5.0):
        owner.scale.fill_(scale)
        assert torch.equal(played(x), x * owner.log.exp() * scale)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("name", "read", "values"),
    [
        ("own", lambda owner: owner.own, (0.5, 0.0, np.float32(2.0), -1.0)),
        ("coef", lambda owner: owner.coef, (0.5, 0.0, 2.0, -1.0)),
        ("limits", lambda owner: owner.limits[1], ((0.0, 0.5), (1.0, 2.0), (1.0, 3.0), (0.0, 4.0))),
        ("share", lambda owner: owner.share, (0.5, 0.0, 2.0, -1.0)),
        ("own", lambda owner: owner.own or 0.0, (0.5, None, 1, "")),
    ],
)
def test_a_number_that_changes_is_noticed(
    name: str, read: Callable[[Any], float], values: tuple[Any, ...], caplog: Any
) -> None:
    """Twice it is recorded anew; from the third change on the function is called, and that said."""
    calls, owner = [], Owner()

    def function(x: Tensor) -> Tensor:
        calls.append(name)
        return x * float(read(owner) or 0)

    played = recording(function, owner)
    made = []
    for value in values:
        if getattr(owner, name) != value:
            setattr(owner, name, value)
        for _ in range(3):
            assert torch.equal(played(torch.ones(2)), torch.full((2,), float(read(owner) or 0)))
        made.append(len(calls))
        calls.clear()
    assert made == [1, 1, 1, 3]
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("an update reads Owner.") and "so it is slower" in line


class Keeper:
    """Has its numbers one level below, as an agent may: on its policy, in a dict, in a list."""

    def __init__(self) -> None:
        self.policy: Any = nn.Linear(2, 2)
        self.policy.coef = 0.5
        self.policy.scale = torch.tensor(0.5)
        self.coefs: dict[str, Any] = {"entropy": 0.5, "net": self.policy}
        self.rates: list[Any] = [0.5]
        self.scales = {"own": torch.tensor(0.5)}
        self.optional: dict[str, float] = {}


def set_policy(owner: Keeper, value: float) -> None:
    owner.policy.coef = value


def set_scale(owner: Keeper, value: float) -> None:
    owner.policy.scale = torch.tensor(value)


BELOW = [
    (lambda owner: owner.policy.coef, set_policy, "Linear.coef"),
    (lambda owner: owner.policy.scale, set_scale, "Linear.scale"),
    (
        lambda owner: owner.coefs["entropy"],
        lambda owner, value: owner.coefs.update(entropy=value),
        "Keeper.coefs",
    ),
    (
        lambda owner: owner.optional.get("share", 0.5),
        lambda owner, value: owner.optional.update(share=value),
        "Keeper.optional",
    ),
    (
        lambda owner: owner.rates[0],
        lambda owner, value: owner.rates.__setitem__(0, value),
        "Keeper.rates",
    ),
    (
        lambda owner: owner.scales["own"],
        lambda owner, value: owner.scales.update(own=torch.tensor(value)),
        "Keeper.scales",
    ),
]


@pytest.mark.parametrize(("read", "write", "name"), BELOW)
def test_a_number_one_level_below_is_noticed(
    read: Callable[[Any], Any], write: Callable[[Any, float], None], name: str, caplog: Any
) -> None:
    calls, owner = [], Keeper()

    def function(x: Tensor) -> Tensor:
        calls.append(name)
        return x * read(owner)

    played, made = recording(function, owner), []
    for value in (0.5, 0.0, 2.0, -1.0):
        if value != 0.5:
            write(owner, value)
        for _ in range(3):
            assert torch.equal(played(torch.ones(2)), torch.full((2,), value))
        made.append(len(calls))
        calls.clear()
    assert made == [1, 1, 1, 3]
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"an update reads {name}, a number that changes")


def test_what_only_looks_like_a_number_is_not_watched() -> None:
    """The mode, which is another one within an update; what a dict or list has beside numbers."""
    calls, owner = [], Keeper()

    def function(x: Tensor) -> Tensor:
        calls.append(1)
        owner.policy.train()
        share = 0.25 if owner.policy.training else 0.75
        y = owner.policy(x) * owner.coefs["net"].coef * owner.rates[0] * share
        owner.policy.eval()
        return y.detach()

    played = Recorded(function, owner.policy.parameters(), Watched(owner))
    for _ in range(4):
        played(torch.ones(2))
        owner.policy.unread = len(calls) + 1.0
        owner.coefs["seen"] = owner.rates
    assert len(calls) == 1


@pytest.mark.parametrize("place", ["agent", "policy", "dict"])
def test_a_loss_of_ones_own_may_read_a_number(place: str, monkeypatch: Any, caplog: Any) -> None:
    """The gradient is of the entropy's coefficient as it is now, not as it was when recorded."""

    def loss(self: Any, batch: Any) -> tuple[Tensor, Batch]:
        params, _, _ = self.policy(batch["obs"], batch["state"], batch["first"])
        entropy = (self.policy.head.entropy(params) * batch["weight"]).sum()
        numbers = {"agent": self, "policy": self.policy}.get(place)
        coef = numbers.coef if numbers else self.numbers["coef"]
        return -coef * entropy, {"entropy": entropy.detach()}

    monkeypatch.setattr(PPO, "loss", loss)
    run = training("agent=ppo", "num_envs=4", "agent.n_steps=8", "agent.batch_size=32")
    agent = run.agent
    agent.optimizer.rate.zero_()  # so that the weights stay
    batch, _ = agent.batch_of(run.rollout())
    norms = []
    for coef in (0.5, 0.0, 1.0, 2.0):
        if place == "dict":
            agent.numbers = getattr(agent, "numbers", {})
            agent.numbers["coef"] = coef
        else:
            {"agent": agent, "policy": agent.policy}[place].coef = coef
        norms.append([float(agent.run_update(batch)["grad_norm"]) for _ in range(3)][-1])
    assert agent.execution == "recorded"
    assert norms[1] == 0.0 < norms[0]
    assert norms[2:] == pytest.approx([2 * norms[0], 4 * norms[0]], rel=1e-5)
    (line,) = [record.getMessage() for record in caplog.records]
    name = {"agent": "PPO.coef", "policy": "ActorCritic.coef", "dict": "PPO.numbers"}[place]
    assert line.startswith(f"an update reads {name}, a number that changes")


def test_a_policy_of_ones_own_may_read_a_number() -> None:
    """Also where calls no longer look at their arguments: a number may change between rollouts."""
    owner = Owner()
    acting = recording(lambda x: x * owner.own, owner)
    for value in (0.5, 0.0, 2.0, -1.0, 3.0):
        owner.own = value
        act = acting.for_one_geometry()
        with torch.inference_mode():
            for _ in range(4):
                assert torch.equal(act(torch.ones(2)), torch.full((2,), value))
