"""Spectral and weight normalisation: PyTorch's numbers, and what follows the weights."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from neuraxis.agents.learning.optimizer import Optimizer
from neuraxis.networks.layers import decayed_parameters
from neuraxis.networks.weight_norm import NormedLinear, followers, normed

from .helpers import LEARNERS, VARIANTS, Training, action_words, kind_of, quick, training

SMALL = ("num_envs=2", "env.time_limit=20", "network.blocks.0.sizes=[8]")


def layers() -> list[tuple[Any, Tensor]]:
    """Layers away from special start values, and inputs for them."""
    torch.manual_seed(0)
    return [
        (nn.Linear(5, 3), torch.randn(7, 5)),
        (nn.Conv2d(2, 3, 3, 2, 1), torch.randn(7, 2, 5, 5)),
    ]


def gradients(layer: nn.Module, x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(layer(x).square().sum(), weights)


@pytest.mark.parametrize("number", [0, 1])
def test_spectral_norm_is_pytorchs(number: int) -> None:
    """Output and gradient, by the same singular vectors; those are of the largest value."""
    layer, x = layers()[number]
    theirs: Any = parametrizations.spectral_norm(copy.deepcopy(layer)).eval()
    ours = normed(layer, "spectral")
    largest = torch.linalg.matrix_norm(ours.weight.flatten(1), 2)
    torch.testing.assert_close(ours.norm(ours.weight), ours.weight / largest)
    parts = theirs.parametrizations.weight
    parts[0]._u.copy_(ours.norm.u)
    parts[0]._v.copy_(ours.norm.v)
    torch.testing.assert_close(ours(x), theirs(x))
    (found,), (expected,) = gradients(ours, x, ours.weight), gradients(theirs, x, parts.original)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("number", [0, 1])
def test_weight_norm_is_pytorchs_and_begins_as_the_layer(number: int) -> None:
    layer, x = layers()[number]
    theirs: Any = parametrizations.weight_norm(copy.deepcopy(layer))
    plain = layer(x)
    ours = normed(layer, "weight")
    torch.testing.assert_close(ours(x), plain)
    parts = theirs.parametrizations.weight
    with torch.no_grad():
        ours.norm.scale.mul_(3)
        parts.original0.mul_(3)
    torch.testing.assert_close(ours(x), theirs(x))
    found = gradients(ours, x, ours.norm.scale, ours.weight)
    expected = gradients(theirs, x, parts.original0, parts.original1)
    torch.testing.assert_close(found[0], expected[0].flatten(), rtol=1e-4, atol=1e-5)  # sums
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-5)


def test_singular_vectors_follow_steps_and_stay_where_a_layer_is_frozen() -> None:
    layer, x = layers()[0]
    moving: Any = normed(layer, "spectral")
    frozen: Any = normed(nn.Linear(3, 3), "spectral")
    frozen.weight.requires_grad_(False)
    net = nn.Sequential(moving, frozen)
    optimizer = Optimizer(net, learning_rate=0.1, followers=followers(net))
    before = copy.deepcopy(net.state_dict())
    for _ in range(20):
        optimizer.step(lambda x: ((net(x) - 1).square().sum(), {}), x)
    assert not torch.equal(moving.norm.u, before["0.norm.u"])
    assert torch.equal(frozen.norm.u, before["1.norm.u"])
    for _ in range(20):  # of weights that stay, the vectors come to be exact
        optimizer.rate.zero_()
        optimizer.step(lambda x: (net(x).sum(), {}), x)
    effective = moving.norm(moving.weight).detach()
    assert float(torch.linalg.matrix_norm(effective, 2)) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("norm", ["spectral", "weight"])
def test_a_layer_goes_to_a_worker(norm: Any) -> None:
    """Ray sends the policy as a pickle."""
    layer, x = layers()[0]
    layer = normed(layer, norm)
    torch.testing.assert_close(pickle.loads(pickle.dumps(layer))(x), layer(x))


def test_lengths_do_not_decay() -> None:
    layer = normed(layers()[0][0], "weight")
    assert decayed_parameters(layer) == [layer.weight]


@pytest.mark.parametrize("agent", LEARNERS)
def test_singular_vectors_follow_in_every_agent(agent: str) -> None:
    """In all networks that are trained: actor, critics, Q-networks."""
    words = (*VARIANTS.get(agent, ()), *quick(agent), *action_words(kind_of(agent)), *SMALL)
    run = training(f"agent={agent}", "network.blocks.0.weight_norm=spectral", *words)
    before = [norm.u.clone() for norm in norms(run)]
    for _ in range(4):
        run.step()
    after = [norm.u for norm in norms(run)]
    assert before and not any(map(torch.equal, before, after))


def norms(run: Training) -> list[Any]:
    """The norms of all layers that are trained."""
    modules = [part for part in run.agent.parts.values() if isinstance(part, nn.Module)]
    layers = [layer for module in modules for layer in module.modules()]
    normed = [layer for layer in layers if isinstance(layer, NormedLinear)]
    return [layer.norm for layer in normed if layer.weight.requires_grad]
