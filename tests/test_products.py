"""Large products go to oneDNN: the same numbers to rounding, gradients and their gradients."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from neuraxis.networks import products
from neuraxis.networks.dense import ACTIVATED, dense, float32_linear
from neuraxis.networks.layers import Linear

from .helpers import training, weights


@pytest.fixture(autouse=True)
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """On each processor, and for small products, so that the tests are quick."""
    monkeypatch.setattr(products, "ONEDNN", torch.backends.mkldnn.is_available())
    monkeypatch.setattr(products, "LARGE", 64)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each product that goes there."""
    found: list[int] = []
    affine = products.affine
    monkeypatch.setattr(products, "affine", lambda *args: found.append(1) or affine(*args))
    return found


def tensors(rows: int = 40) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = ((rows, 8), (6, 8), (6,))
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


def close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way", [products.linear, float32_linear, lambda x, w, b: layer(x, w, b)])
def test_values_and_gradients_are_those_of_pytorch(
    way: Callable[..., Tensor], calls: list[int]
) -> None:
    x, w, b = tensors()
    y, expected = way(x, w, b), F.linear(x, w, b)
    assert close(y, expected) and calls
    into = torch.randn_like(y)
    pairs = zip(*(torch.autograd.grad(z, (x, w, b), into) for z in (y, expected)), strict=True)
    assert all(close(*pair) for pair in pairs)


def layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """By the module that the blocks are built of, for sequences."""
    module = Linear(8, 6)
    parameters = {"weight": weight, "bias": bias}
    sequence = torch.func.functional_call(module, parameters, x.view(4, 10, 8))
    return sequence.flatten(0, 1)


@pytest.mark.parametrize("activation", ACTIVATED)
def test_layers_with_a_backward_of_their_own_use_it(activation: str, calls: list[int]) -> None:
    x, w, b = tensors()
    y = dense(x, (w, b), activation)
    expected = getattr(torch, activation)(F.linear(x, w, b))
    assert close(y, expected) and calls
    pairs = zip(*(torch.autograd.grad(z.sum(), (x, w, b)) for z in (y, expected)), strict=True)
    assert all(close(*pair) for pair in pairs)


def test_a_gradient_has_a_gradient() -> None:
    for with_bias in (True, False):
        x, w, b = tensors(9)
        bias = b if with_bias else None
        found = [
            torch.autograd.grad(grad.square().sum(), w)[0]
            for y in (products.linear(x, w, bias), F.linear(x, w, bias))
            for grad in torch.autograd.grad(y.sin().sum(), x, create_graph=True)
        ]
        assert close(*found)


def test_small_products_and_others_go_the_usual_way(
    calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, w, b = tensors()
    with torch.autocast("cpu", torch.bfloat16):
        assert products.linear(x, w, b).dtype == torch.bfloat16
    products.linear(x.double(), w.double(), b.double())
    monkeypatch.setattr(products, "LARGE", 40 * 8 * 6 + 1)
    products.linear(x, w, b)
    assert not calls
    monkeypatch.setattr(products, "LARGE", 40 * 8 * 6)
    products.linear(x, w, b)
    assert calls


WORDS = {
    "sac": ("agent=sac", "env=Pendulum-v1", "agent.learning_starts=20", "agent.batch_size=40"),
    "ppo": ("agent=ppo", "agent.n_steps=16", "agent.batch_size=64", "agent.n_epochs=4"),
}
COMPILED = pytest.param(
    *("ppo", "compiled"),
    marks=[
        pytest.mark.skipif(shutil.which("g++") is None, reason="the compiler needs g++"),
        pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of PyTorch's own code
    ],
)


@pytest.mark.parametrize(("agent", "way"), [("sac", "plain"), ("ppo", "recorded"), COMPILED])
def test_an_agent_learns_the_same(agent: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By both libraries, to rounding; recorded after 20 updates, and compiled."""

    def learned(large: int) -> Tensor:
        monkeypatch.setattr(products, "LARGE", large)
        run = training(
            *(*WORDS[agent], "num_envs=8", f"compile={str(way == 'compiled').lower()}"),
            *("network.blocks.0.sizes=[16,16]", "agent.optimizer_eps=1e-3", "seed=3"),
        )
        for _ in range(6):
            run.step()
        if way != "plain":
            made = getattr(run.agent.run_update, "graphs" if way == "compiled" else "recordings")
            assert made and all(made.values())
        return weights(run.agent)

    assert torch.allclose(learned(64), learned(10**9), rtol=1e-3, atol=1e-3)
