"""The optimizer against PyTorch's own, and what it must leave alone."""

import copy
import hashlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuraxis.agents.optimizer import Optimizer


class Net(nn.Module):
    """Matrices, biases, a norm and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.norm, self.last = nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 3)
        self.log_std = nn.Parameter(torch.ones(3))
        self.unused = nn.Parameter(torch.ones(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.linear(x)).tanh()) * self.log_std.exp()


def loss(net: Net, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    error = (net(batch["x"]) - batch["y"]).square()
    return error.mean(), {"error": error.detach()}


def batches(count: int) -> Iterator[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        size = torch.rand((), generator=generator) * 30  # now above, now below the limit
        x, y = (torch.randn(16, n, generator=generator) for n in (5, 3))
        yield {"x": x, "y": size * y}


def trained(steps: int = 20, net: Net | None = None, **settings: Any) -> tuple[Net, Optimizer]:
    net = net or Net()
    optimizer = Optimizer(net, loss, **{"learning_rate": 1e-2, **settings})
    for batch in batches(steps):
        optimizer.update(batch)
    return net, optimizer


def torchs(make: Any, limit: float | None) -> Net:
    """The same training with PyTorch's optimizer."""
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


def test_weight_decay_is_adamw_on_matrices_only() -> None:
    def adamw(net: Net) -> torch.optim.Optimizer:
        groups = [
            {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": 0.3},
            {"params": [p for p in net.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=1e-2)

    ours, _ = trained(weight_decay=0.3)
    assert close(ours, torchs(adamw, None), 1e-6)
    # a matrix without gradient shows the decay alone: 20 times 1 - 0.01 * 0.3
    assert torch.allclose(ours.unused, torch.full((4, 2), (1 - 0.003) ** 20))


def test_weight_decay_0_is_bit_equal_to_none() -> None:
    (without, _), (zero, _) = trained(), trained(weight_decay=0.0)
    some, _ = trained(weight_decay=0.1)
    assert digest(without) == digest(zero) != digest(some)


def test_the_learning_rate_may_change() -> None:
    def step(optimizer: Optimizer, rate: float) -> None:
        optimizer.rate.fill_(rate)
        optimizer.update(next(batches(1)))

    net, optimizer = trained(3)
    before = digest(net)
    step(optimizer, 0.0)
    assert digest(net) == before
    step(optimizer, 1e-2)
    assert digest(net) != before


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


def test_metrics_of_an_update() -> None:
    net, batch = Net(), next(batches(1))
    grads = torch.autograd.grad(loss(net, batch)[0], list(net.parameters()), allow_unused=True)
    norm = torch.cat([g.reshape(-1) for g in grads if g is not None]).norm()
    metrics = Optimizer(net, loss, learning_rate=0.1, max_grad_norm=1e-3).update(batch)
    assert torch.allclose(metrics["grad_norm"], norm)  # as it was before the clip
    assert metrics["error"].shape == (16, 3)


def test_a_veto_forbids_the_step() -> None:
    net, optimizer = trained(3)
    before, count = digest(net), optimizer.count
    seen: list[Tensor] = []

    def veto(metrics: dict[str, Tensor]) -> bool:
        seen.append(metrics["error"])
        return True

    optimizer.update(next(batches(1)), veto)
    assert digest(net) == before and optimizer.count == count and len(seen) == 1
    optimizer.update(next(batches(1)), lambda _: False)
    assert digest(net) != before


def test_state_dict_round_trip_is_exact() -> None:
    whole, _ = trained(20)
    net, optimizer = trained(11)
    state = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    again = Net()
    resumed = Optimizer(again, loss, learning_rate=1e-2)
    again.load_state_dict(state[0])
    resumed.load_state_dict(state[1])
    for batch in list(batches(20))[11:]:
        resumed.update(batch)
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


@pytest.mark.skipif(shutil.which("g++") is None, reason="the compiler needs g++")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_update_is_the_plain_one() -> None:
    """The second pair of the same shapes shows that no graph is shared."""
    for limit in (2.0, None):
        settings: dict[str, Any] = {"max_grad_norm": limit, "weight_decay": 0.1}
        plain, _ = trained(**settings)
        compiled, optimizer = trained(**settings, execution="compiled")
        assert close(compiled, plain, 1e-5)
        assert optimizer.count == 20
