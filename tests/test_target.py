"""The target network follows what it copies, and nothing else changes it."""

from __future__ import annotations

import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from neuraxis.agents.learning.optimizer import Optimizer
from neuraxis.agents.learning.target import TargetNetwork
from neuraxis.agents.policies.normalize import Normalizer

from .helpers import training

X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Layers, statistics, and an input that may be shared."""

    def __init__(self, normalizer: Normalizer | None = None) -> None:
        super().__init__()
        self.normalizer = normalizer or Normalizer(spaces.Box(-9, 9, (3,)))
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layers(self.normalizer(x)))


def pair(tau: float = 1.0, frozen: bool = False) -> tuple[Net, Optimizer, TargetNetwork[Net]]:
    net = Net()
    net.layers.requires_grad_(not frozen)
    optimizer = Optimizer(net.eval(), learning_rate=0.1)
    return net, optimizer, TargetNetwork(Net(net.normalizer), optimizer, tau)


def learn(net: Net, optimizer: Optimizer) -> None:
    """A step, which moves the statistics of the batch normalisation as well."""
    optimizer.step(lambda x: (net(x).square().sum(), {}), X + 1)


def same(net: nn.Module, other: nn.Module) -> bool:
    states = net.state_dict(), other.state_dict()
    assert states[0].keys() == states[1].keys()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("frozen", [False, True])
def test_it_begins_as_a_copy_and_becomes_one_again(frozen: bool) -> None:
    """Also of what is not trained."""
    net, optimizer, target = pair(frozen=frozen)
    assert same(net, target.network)
    learn(net, optimizer)
    assert not same(net, target.network)
    target.follow()
    assert same(net, target.network)
    assert torch.equal(target(X), net(X))


@pytest.mark.parametrize("tau", [0.005, 0.3])
@pytest.mark.parametrize("times", [1, 2, 7])
def test_it_takes_a_share_of_the_newest_weights(tau: float, times: int) -> None:
    """Several times at once is as often; buffers are copied."""
    net, optimizer, target = pair(tau)
    before = target.flat.clone()
    learn(net, optimizer)
    share = 1 - (1 - tau) ** times
    target.follow(times)
    expected = (1 - share) * before + share * optimizer.flat
    assert torch.allclose(target.flat, expected, rtol=0, atol=1e-6)
    one_by_one = before.clone()
    for _ in range(times):
        one_by_one = (1 - tau) * one_by_one + tau * optimizer.flat
    assert torch.allclose(target.flat, one_by_one, rtol=0, atol=1e-6)
    assert not torch.equal(target.flat, optimizer.flat)
    norm, newest = target.network.layers[1], net.layers[1]
    assert isinstance(norm, nn.BatchNorm1d) and isinstance(newest, nn.BatchNorm1d)
    assert newest.running_mean is not None and newest.running_mean.any()
    for name, buffer in norm.named_buffers():
        assert torch.equal(buffer, newest.get_buffer(name)), name
    weight = next(target.network.parameters())
    assert torch.equal(weight.flatten(), target.flat[: weight.numel()])  # what acts is what follows


def test_it_is_always_in_eval_mode() -> None:
    """Its masks and batch statistics would be noise in every target."""
    net, optimizer, target = pair()
    both = nn.ModuleList([net, target])
    both.train()
    assert net.layers.training
    assert not any(module.training for module in target.modules())
    learn(net, optimizer)
    before = target.network.state_dict()["layers.1.running_mean"].clone()
    assert torch.equal(target(X), target(X))
    assert torch.equal(target.network.state_dict()["layers.1.running_mean"], before)
    for mode in (True, False):
        assert target.train(mode) is target
        assert not any(module.training for module in target.modules())


def test_no_gradient_reaches_it() -> None:
    net, optimizer, target = pair()
    before = target.flat.clone()
    assert not any(p.requires_grad for p in target.parameters())
    x = X.clone().requires_grad_()
    optimizer.step(lambda x: ((net(x) - target(x)).square().sum(), {}), x)
    assert all(p.grad is None for p in target.parameters())
    assert torch.equal(target.flat, before)
    assert {*map(id, optimizer.parameters)}.isdisjoint(map(id, target.parameters()))
    target.follow()
    assert not any(p.requires_grad for p in target.parameters())
    assert all(p.requires_grad for p in net.parameters())


def test_both_see_the_same_inputs() -> None:
    """The normaliser is one: its statistics count at once, before the target follows."""
    net, _, target = pair()
    assert target.network.normalizer is net.normalizer
    net.normalizer.update(3 * X + 2)
    assert torch.equal(target(X), net(X))
    target.follow()  # a buffer that is shared is not copied onto itself
    assert torch.equal(target(X), net(X))


def test_a_checkpoint_holds_it() -> None:
    net, optimizer, target = pair(0.1)
    learn(net, optimizer)
    target.follow()
    _, _, again = pair(0.1)
    again.load_state_dict(target.state_dict())
    assert torch.equal(again.flat, target.flat) and same(again, target)


@pytest.mark.parametrize(
    "words",
    [
        ("agent=dqn", "agent.target_update_interval=16", "agent.tau=0.5"),
        ("agent=sac", "env=Pendulum-v1"),
    ],
)
def test_the_target_of_an_agent(words: tuple[str, ...]) -> None:
    """It follows, in eval mode, and sees observations as the policy does."""
    small = ("agent.learning_starts=16", "agent.batch_size=8", "num_envs=2")
    run = training(
        *words, *small, "agent.normalize_observations=true", "network.blocks.0.norm=batch"
    )
    target = run.agent.target
    assert "target" in run.agent.parts
    if "agent=dqn" in words:
        assert target.network.normalizer is run.agent.policy.normalizer
    start = target.flat.clone()
    for _ in range(3):
        run.step()
        assert not any(module.training for module in target.modules())
    assert not torch.equal(target.flat, start)
    assert not any(p.requires_grad for p in target.parameters())
