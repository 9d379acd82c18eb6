"""The optimizer against PyTorch's and Stable-Baselines3's, and what it must leave alone."""

import copy
import hashlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from torch import Tensor, nn

from neuraxis.agents.learning.execution.execute import execute
from neuraxis.agents.learning.optimizer import Optimizer
from neuraxis.agents.learning.penalty import Penalty
from neuraxis.agents.learning.terms import Terms
from neuraxis.agents.learning.update_rules import RULES, Rule
from neuraxis.agents.learning.vector import Treatment, in_train_mode
from neuraxis.networks import NetworkConfig, action_head, build
from neuraxis.networks.layers import decayed_parameters
from neuraxis.networks.noisy import NoisyLinear

from .helpers import training


class Net(nn.Module):
    """Matrices, biases, a norm and parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.norm, self.last = nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 3)
        self.log_std = nn.Parameter(torch.ones(3))
        self.unused = nn.Parameter(torch.ones(4, 2))
        self.table = nn.Parameter(torch.ones(2, 2))  # two axes, and no layer's weight

    @property
    def matrices(self) -> list[Tensor]:
        """What is to decay."""
        return [self.linear.weight, self.last.weight, self.unused]

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.linear(x)).tanh()) * self.log_std.exp()


def loss(net: Net, batch: dict[str, Tensor]) -> tuple[Tensor, Terms]:
    error = (net(batch["x"]) - batch["y"]).square()
    return error.mean(), {"error": error.detach()}


def batches(count: int) -> Iterator[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        size = torch.rand((), generator=generator) * 30  # now above, now below the limit
        x, y = (torch.randn(16, n, generator=generator) for n in (5, 3))
        yield {"x": x, "y": size * y}


def built(net: Net, **settings: Any) -> tuple[Optimizer, Callable[..., Terms]]:
    """An optimizer, and its step down the loss of a minibatch."""
    settings = {"learning_rate": 1e-2, "decayed": net.matrices, **settings}
    optimizer = Optimizer(net, **settings)
    return optimizer, partial(optimizer.step, partial(loss, net))


def trained(
    steps: int = 20, net: Net | None = None, factor: float = 1.0, **settings: Any
) -> tuple[Net, Optimizer]:
    net = net or Net()
    optimizer, step = built(net, **settings)
    if factor != 1:
        optimizer.arrange(treated(net, 0, factor))
    for batch in batches(steps):
        step(batch)
    return net, optimizer


def torchs(make: Any, limit: float | None) -> Net:
    """The same training with an optimizer of PyTorch's kind."""
    net = Net()
    optimizer = make(net)
    for batch in batches(20):
        for parameter in net.parameters():
            parameter.grad = torch.zeros_like(parameter)  # also where the loss has none
        loss(net, batch)[0].backward()
        if limit is not None:
            nn.utils.clip_grad_norm_(net.parameters(), limit)
        optimizer.step()
    return net


def close(one: Net, other: Net, tolerance: float) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.allclose(a, b, rtol=0, atol=tolerance) for a, b in pairs)


def digest(module: nn.Module) -> str:
    arrays = (t.detach().numpy().tobytes() for t in module.state_dict().values())
    return hashlib.sha256(b"".join(arrays)).hexdigest()


@pytest.mark.parametrize("limit", [None, 2.0])
@pytest.mark.parametrize("eps", [1e-8, 1e-5])
def test_it_is_adam(limit: float | None, eps: float) -> None:
    ours, _ = trained(max_grad_norm=limit, eps=eps)
    theirs = torchs(lambda net: torch.optim.Adam(net.parameters(), lr=1e-2, eps=eps), limit)
    assert close(ours, theirs, 1e-6)
    assert not close(ours, Net(), 1e-2)


@pytest.mark.parametrize("limit", [None, 2.0])
@pytest.mark.parametrize("eps", [1e-8, 1e-2])
def test_radam_is_pytorchs(limit: float | None, eps: float) -> None:
    """20 updates: five that follow the mean gradient, and 15 rectified ones."""
    ours, _ = trained(rule="radam", max_grad_norm=limit, eps=eps)
    theirs = torchs(lambda net: torch.optim.RAdam(net.parameters(), lr=1e-2, eps=eps), limit)
    assert close(ours, theirs, 1e-6)
    assert not close(ours, Net(), 1e-2)
    assert not close(ours, trained(max_grad_norm=limit, eps=eps)[0], 1e-2)  # nor Adam


@pytest.mark.parametrize("limit", [None, 2.0])
@pytest.mark.parametrize("alpha, eps", [(0.99, 1e-5), (0.9, 0.1)])
def test_rmsprop_is_that_of_stable_baselines3(
    alpha: float, eps: float, limit: float | None
) -> None:
    def rmsprop(net: Net) -> torch.optim.Optimizer:
        return RMSpropTFLike(net.parameters(), lr=1e-2, alpha=alpha, eps=eps)

    ours, _ = trained(rule="rmsprop", max_grad_norm=limit, eps=eps, betas=(0.9, alpha))
    assert close(ours, torchs(rmsprop, limit), 1e-6)
    assert not close(ours, Net(), 1e-2)
    assert not close(ours, torchs(lambda net: torch.optim.RMSprop(net.parameters()), limit), 1e-2)


def test_the_settings_choose_the_optimizer() -> None:
    """Also for several optimizers of one agent."""
    words = ("agent.optimizer=rmsprop", "agent.rmsprop_alpha=0.9", "agent.optimizer_eps=0.5")
    for name, places in (("ppo", 1), ("sac", 3)):
        agent = training(f"agent={name}", "env=Pendulum-v1", *words).agent
        found = [(o.rule, o.betas[1], o.eps, o.square.mean()) for o in agent.optimizers.values()]
        assert found == [("rmsprop", 0.9, 0.5, 1.0)] * places


def test_weight_decay_is_adamw_on_what_decays_only() -> None:
    def adamw(net: Net) -> torch.optim.Optimizer:
        decayed = set(net.matrices)
        groups = [
            {"params": net.matrices, "weight_decay": 0.3},
            {"params": [p for p in net.parameters() if p not in decayed], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=1e-2)

    ours, _ = trained(weight_decay=0.3)
    assert close(ours, torchs(adamw, None), 1e-6)
    # a matrix without gradient shows the decay alone: 20 times 1 - 0.01 * 0.3
    assert torch.allclose(ours.unused, torch.full((4, 2), (1 - 0.003) ** 20))
    assert torch.equal(ours.table, torch.ones(2, 2))  # one that no layer multiplies with does not


def test_weight_decay_leaves_deviations_and_position_biases_alone() -> None:
    """Of a zero loss without gradients, what changes is what decays."""
    blocks = NetworkConfig.model_validate({"blocks": [{"name": "transformer", "layers": 1}]}).blocks
    net = nn.ModuleDict(
        {
            "transformer": build(blocks, spaces.Box(-1.0, 1.0, (3,))),
            "lstm": nn.LSTM(2, 2),
            "noisy": NoisyLinear(3, 2),
            "head": action_head(spaces.Box(-1.0, 1.0, (2,)), 3),
        }
    )
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    settings: dict[str, Any] = {"learning_rate": 0.1, "weight_decay": 1.0}
    optimizer = Optimizer(net, decayed=decayed_parameters(net), **settings)
    optimizer.step(lambda _: (torch.zeros((), requires_grad=True), {}), {})
    decayed = {name for name, p in net.named_parameters() if not torch.equal(p, torch.ones_like(p))}
    layer = "transformer.blocks.0.layers.0."
    assert decayed == {
        "transformer.blocks.0.embed.weight",
        *(
            f"{layer}{name}.weight"
            for name in ("project", "attended", "feedforward.1", "feedforward.3")
        ),
        "lstm.weight_ih_l0",
        "lstm.weight_hh_l0",
        "noisy.weight",
        "head.linear.weight",
    }


SEQUENCES = ("network=gru", "agent.sequence_length=8")
KEPT: list[tuple[tuple[str, ...], str]] = [
    (("agent=dqn", *SEQUENCES), r".*\.bias(_[ih]h_l0)?"),
    (("agent=dqn", *SEQUENCES, "network.blocks.0.norm=layer"), r".*\.bias.*|.*layers\.1\.weight"),
    (
        ("agent=dqn", "network=cnn_small", "env=neuraxis/Dict-v0", "network.blocks.0.norm=batch"),
        r".*\.bias|.*(features\.[14]|head\.1)\.weight",
    ),
    (("agent=ppo", "network.blocks.0.weight_norm=weight"), r".*\.bias|.*\.norm\.scale"),
    (("agent=ppo", "network.blocks.0.weight_norm=spectral"), r".*\.bias"),
    (("agent=iqn",), r".*\.bias"),
    (("agent=iqn", "agent.noisy=true"), r".*\.(bias|bias_sigma|weight_sigma)"),
    (("agent=ppo", "env=Pendulum-v1", "agent.gaussian.use_sde=true"), r".*\.bias|head\.log_std"),
]


@pytest.mark.parametrize(("words", "kept"), KEPT)
def test_weight_decay_shrinks_only_matrices_of_layers(words: tuple[str, ...], kept: str) -> None:
    """Whatever their number of axes: all but biases, scales of norms and deviations decay."""
    policy = training(*words).agent.policy
    decayed = {id(parameter) for parameter in decayed_parameters(policy)}
    assert decayed
    for name, parameter in policy.named_parameters():
        assert (id(parameter) in decayed) == (re.fullmatch(kept, name) is None), name


def test_weight_decay_0_is_bit_equal_to_none() -> None:
    """And so are penalties of 0, beside an optimizer that knows of nothing that could decay."""
    none, _ = trained(decayed=(), weight_decay=0.1, penalty=Penalty(0.1, 0.1))
    zero, _ = trained(weight_decay=0.0, penalty=Penalty(0.0, 0.0))
    some, _ = trained(weight_decay=0.1)
    assert digest(none) == digest(zero) != digest(some)


@pytest.mark.parametrize("limit", [None, 2.0])
def test_l1_and_l2_are_terms_of_the_loss(limit: float | None) -> None:
    """Of the matrices that decay; their gradients go through the clip and the moments."""
    ours, optimizer = trained(penalty=Penalty(l1=0.2, l2=0.3), max_grad_norm=limit)
    net = Net()
    theirs = torch.optim.Adam(net.parameters(), lr=1e-2)
    for batch in batches(20):
        l1 = sum(weight.abs().sum() for weight in net.matrices)
        l2 = sum(weight.square().sum() / 2 for weight in net.matrices)
        theirs.zero_grad(set_to_none=False)
        (loss(net, batch)[0] + 0.2 * l1 + 0.3 * l2).backward()
        if limit is not None:
            nn.utils.clip_grad_norm_(net.parameters(), limit)
        theirs.step()
    assert close(ours, net, 1e-5)
    assert not close(ours, trained(max_grad_norm=limit)[0], 1e-2)
    sums = optimizer.penalties()
    expected = torch.cat([weight.detach().flatten() for weight in ours.matrices])
    torch.testing.assert_close(sums["l1"], expected.abs().sum())
    torch.testing.assert_close(sums["l2"], expected.square().sum() / 2)


def test_l2_is_the_weight_decay_of_pytorchs_adam() -> None:
    def adam(net: Net) -> torch.optim.Optimizer:
        spared = [net.linear.bias, net.last.bias, *net.norm.parameters(), net.log_std, net.table]
        groups = [{"params": net.matrices, "weight_decay": 0.3}, {"params": spared}]
        return torch.optim.Adam(groups, lr=1e-2)

    assert close(trained(penalty=Penalty(l2=0.3))[0], torchs(adam, None), 1e-6)


def test_the_learning_rate_may_change() -> None:
    net, optimizer = trained(3)
    before = digest(net)
    for rate in (0.0, 1e-2):
        optimizer.rate.fill_(rate)
        optimizer.step(partial(loss, net), next(batches(1)))
        assert (digest(net) == before) == (rate == 0.0)


def test_frozen_parameters_never_change() -> None:
    net = Net()
    first = net.linear.requires_grad_(False)
    net.log_std.requires_grad_(False)
    frozen, rest = digest(first), net.last.weight.clone()
    net, optimizer = trained(net=net, weight_decay=0.1, max_grad_norm=1.0)
    assert digest(first) == frozen and torch.equal(net.log_std, torch.ones(3))
    assert first.weight.grad is None
    assert not torch.equal(net.last.weight, rest)
    trainable = sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert len(optimizer.flat) == trainable


def test_terms_of_an_update() -> None:
    net, batch = Net(), next(batches(1))
    grads = torch.autograd.grad(loss(net, batch)[0], list(net.parameters()), allow_unused=True)
    norm = torch.cat([g.reshape(-1) for g in grads if g is not None]).norm()
    _, step = built(net, learning_rate=0.1, max_grad_norm=1e-3)
    terms = step(batch)
    assert torch.allclose(terms["grad_norm"], norm)  # as it was before the clip
    assert terms["error"].shape == (16, 3)


def test_a_veto_forbids_the_step() -> None:
    net, optimizer = trained(3)
    before, count = digest(net), optimizer.count
    seen: list[Tensor] = []

    def veto(terms: Terms) -> bool:
        seen.append(terms["error"])
        return True

    step = partial(optimizer.step, partial(loss, net), next(batches(1)))
    assert step(veto).keys() == {"error"}  # and no grad_norm
    assert digest(net) == before and optimizer.count == count and len(seen) == 1
    assert "grad_norm" in step(lambda _: False)
    assert digest(net) != before


def test_a_loss_may_read_what_is_not_trained() -> None:
    """Only what is trained changes, and only it is in train mode meanwhile."""
    net, read = Net().eval(), Net().eval()
    before = digest(read)
    optimizer, _ = built(net)
    modes = []

    def difference(batch: dict[str, Tensor]) -> tuple[Tensor, Terms]:
        modes.append((net.training, net.norm.training, read.training))
        return (net(batch["x"]) * read(batch["x"]) - batch["y"]).square().mean(), {}

    for batch in batches(3):
        optimizer.step(difference, batch)
    assert modes == [(True, True, False)] * 3 and not net.training and not net.norm.training
    assert digest(read) == before != digest(net)
    assert all(p.grad is None for p in read.parameters())


@pytest.mark.parametrize("rule", RULES)
def test_state_dict_round_trip_is_exact(rule: Rule) -> None:
    whole, _ = trained(20, rule=rule)
    net, optimizer = trained(11, rule=rule)
    state = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    again = Net()
    resumed, step = built(again, rule=rule)
    again.load_state_dict(state[0])
    resumed.load_state_dict(state[1])
    for batch in list(batches(20))[11:]:
        step(batch)
    assert digest(again) == digest(whole)


def test_weights_stay_views_of_one_buffer() -> None:
    """Loading weights goes into the buffer that Adam steps, and a copy of the net leaves it."""
    net, optimizer = trained(2)
    twin = copy.deepcopy(net)
    net.load_state_dict(Net().state_dict())
    parts = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
    assert torch.equal(optimizer.flat, parts)
    optimizer.flat.zero_()
    assert not net.log_std.any() and twin.log_std.all()


COMPILED = (
    pytest.param(  # for one rule: compiling takes half a minute, and all rules are elementwise
        *("compiled", "adam"),
        marks=[
            pytest.mark.skipif(shutil.which("g++") is None, reason="the compiler needs g++"),
            pytest.mark.filterwarnings("ignore::DeprecationWarning"),
        ],
    )
)


@pytest.mark.parametrize(("execution", "rule"), [*(("recorded", rule) for rule in RULES), COMPILED])
def test_an_executed_step_is_the_plain_one(execution: Any, rule: Rule) -> None:
    """A second pair of the same shapes shows that nothing recorded is shared; it has factors."""
    pairs = [(2.0, 0.3)] if execution == "compiled" else [(2.0, 1.0), (None, 0.3)]
    for limit, factor in pairs:
        settings: dict[str, Any] = {"rule": rule, "max_grad_norm": limit, "weight_decay": 0.1}
        settings["penalty"] = Penalty(l1=0.1, l2=0.1) if limit else Penalty()
        plain, _ = trained(30, factor=factor, **settings)
        net = Net()
        optimizer, step = built(net, **settings)
        if factor != 1:
            optimizer.arrange(treated(net, 0, factor))
        update = execute(step, [net, optimizer], execution, optimizer)
        for batch in batches(30):
            update(batch)
        if execution == "recorded":
            assert digest(net) == digest(plain)
        assert close(net, plain, 1e-5)
        assert optimizer.count == 30


FIRST = 12
"""Steps before the thaw."""


def treated(net: Net, until: int, factor: float) -> dict[Tensor, Treatment]:
    """The first layer thaws at a stage and has a factor; so does what is neither first nor last."""
    treatments: dict[Tensor, Treatment] = {p: Treatment() for p in net.parameters()}
    late = [net.linear.weight, net.log_std]
    return treatments | {parameter: Treatment(until, factor) for parameter in late}


def thawed(steps: int = 30, factor: float = 1.0, **settings: Any) -> tuple[Net, Optimizer]:
    """A training in which something thaws after `FIRST` steps."""
    net = Net()
    optimizer, step = built(net, **settings)
    optimizer.arrange(treated(net, 1, factor))
    frozen, places = net.linear.weight.clone(), [p.data_ptr() for p in net.parameters()]
    for number, batch in enumerate(batches(steps)):
        if number == FIRST:
            assert torch.equal(net.linear.weight, frozen) and torch.equal(
                net.log_std, torch.ones(3)
            )
            assert len(optimizer.mean) == len(optimizer.flat) == optimizer.whole.numel() - 43
            optimizer.reach(1)
        step(batch)
    assert places == [p.data_ptr() for p in net.parameters()], "what acts reads there"
    return net, optimizer


@pytest.mark.parametrize("factor", [1.0, 0.3])
@pytest.mark.parametrize("limit", [None, 2.0])
@pytest.mark.parametrize("rule", RULES)
def test_what_thaws_is_a_new_group_of_pytorchs(
    rule: Rule, limit: float | None, factor: float
) -> None:
    """Fresh moments and a fresh count for it; those of the others go on."""
    kinds: dict[str, Any] = {
        "adam": torch.optim.AdamW,
        "radam": partial(torch.optim.RAdam, decoupled_weight_decay=True),
        "rmsprop": partial(RMSpropTFLike, alpha=0.999),
    }
    decay = 0.0 if rule == "rmsprop" else 0.3
    net = Net()
    late = [net.linear.weight, net.log_std]
    decaying = {*map(id, net.matrices)}

    def groups(parameters: Iterable[Tensor], rate: float) -> list[dict[str, Any]]:
        return [
            {"params": [p], "lr": rate, "weight_decay": decay * (id(p) in decaying)}
            for p in parameters
        ]

    early = [p for p in net.parameters() if all(p is not q for q in late)]
    theirs = kinds[rule](groups(early, 1e-2))
    for number, batch in enumerate(batches(30)):
        if number == FIRST:
            for group in groups(late, 1e-2 * factor):
                theirs.add_param_group(group)
        trained_now = early if number < FIRST else [*net.parameters()]
        for parameter in trained_now:
            parameter.grad = torch.zeros_like(parameter)
        grads = torch.autograd.grad(loss(net, batch)[0], trained_now, materialize_grads=True)
        for parameter, grad in zip(trained_now, grads, strict=True):
            parameter.grad = grad
        if limit is not None:
            nn.utils.clip_grad_norm_(trained_now, limit)
        theirs.step()
    settings: dict[str, Any] = {"rule": rule, "max_grad_norm": limit, "weight_decay": decay}
    ours, _ = thawed(30, factor, **settings)
    assert close(ours, net, 2e-6)
    assert not close(ours, Net(), 1e-2)


def test_a_factor_of_1_is_bit_equal_to_none() -> None:
    expected, _ = trained(weight_decay=0.1)
    for factor in (1.0, 0.5):
        net = Net()
        optimizer, step = built(net, weight_decay=0.1)
        optimizer.arrange(treated(net, 0, factor))
        assert bool(optimizer.groups) == (factor != 1)
        for batch in batches(20):
            step(batch)
        assert (digest(net) == digest(expected)) == (factor == 1)


def test_all_frozen_takes_steps_of_nothing() -> None:
    """They are counted, as a policy that learns less often follows this count."""
    net = Net()
    optimizer, step = built(net, weight_decay=0.1, max_grad_norm=1.0)
    optimizer.arrange({p: Treatment(1) for p in net.parameters()})
    before = digest(net)
    terms = [step(batch) for batch in batches(3)]
    assert digest(net) == before and optimizer.count == 3
    assert all(found["grad_norm"] == 0 and "error" in found for found in terms)
    optimizer.reach(1)
    fresh, _ = trained(20, weight_decay=0.1, max_grad_norm=1.0)
    for batch in batches(20):
        step(batch)
    assert digest(net) == digest(fresh), "as a training that begins here"
    never = Net()
    optimizer, step = built(never)
    optimizer.arrange({p: Treatment(None) for p in never.parameters()})
    step(next(batches(1)))
    assert digest(never) == before and not len(optimizer.whole)


def test_what_is_frozen_stays_in_eval_mode() -> None:
    """Dropout and norms among layers of which nothing is trained; not beside trained ones."""
    first = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    linear = nn.Linear(4, 3)
    last = nn.Sequential(linear, nn.Dropout(0.5))
    net = nn.Sequential(first, last)
    optimizer = Optimizer(net.eval(), learning_rate=0.1)
    late: list[Tensor] = [*first.parameters(), linear.bias]
    optimizer.arrange({p: Treatment(1) for p in late} | {linear.weight: Treatment()})
    before, modes = digest(first), []

    def error(batch: dict[str, Tensor]) -> tuple[Tensor, Terms]:
        modes.append([layer.training for layer in (net, *first, *last)])
        return (net(batch["x"]) - batch["y"]).square().mean(), {}

    for batch in batches(3):
        optimizer.step(error, batch)
    assert modes == [[True, False, False, False, True, True]] * 3
    assert digest(first) == before and not any(layer.training for layer in net.modules())
    again = copy.deepcopy(optimizer)
    again.set_train_mode(True)
    copied_first, copied_last = again.trained.children()
    layers = again.trained, *copied_first.children(), *copied_last.children()
    assert [layer.training for layer in layers] == modes[0]
    assert not any(layer.training for layer in net.modules()), "a copy has layers of its own"
    copied = in_train_mode(copy.deepcopy(net))
    assert [layer.training for layer in copied.modules()][2:6] == [False] * 3 + [True]
    optimizer.reach(1)
    optimizer.step(error, next(batches(1)))
    assert modes[-1] == [True] * 6 and digest(first) != before


@pytest.mark.parametrize("rule", RULES)
def test_a_thaw_is_resumed_exactly(rule: Rule) -> None:
    whole, _ = thawed(30, 0.5, rule=rule)
    for stop in (5, FIRST, 20):
        net = Net()
        optimizer, step = built(net, rule=rule)
        optimizer.arrange(treated(net, 1, 0.5))
        found = list(batches(30))
        for number, batch in enumerate(found[:stop]):
            optimizer.reach(1) if number == FIRST else None
            step(batch)
        stage = optimizer.stage
        state = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
        assert ("begun" in state[1]) == (stop > FIRST)
        again = Net()
        optimizer, step = built(again, rule=rule)
        optimizer.arrange(treated(again, 1, 0.5))
        optimizer.reach(stage)
        again.load_state_dict(state[0])
        optimizer.load_state_dict(state[1])
        for number, batch in list(enumerate(found))[stop:]:
            optimizer.reach(1) if number == FIRST else None
            step(batch)
        assert digest(again) == digest(whole)
