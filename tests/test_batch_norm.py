"""Batch normalisation and renormalisation: statistics of the rows that count."""

import copy
from typing import Any

import pytest
import torch
from sb3_contrib.common.torch_layers import BatchRenorm1d
from torch import Tensor

from neuraxis.networks.backbone import read_block
from neuraxis.networks.batch_norm import (
    BatchRenorm,
    FoldedBatchNorm,
    FoldedBatchRenorm,
    ImageBatchNorm,
    counting,
)
from neuraxis.networks.mlp import MLP

C = 5


def renorm(warm_up: int, eps: float = 1e-3) -> BatchRenorm:
    """Batch renormalisation away from its start values."""
    layer: Any = BatchRenorm(C)
    layer.warm_up, layer.eps = warm_up, eps
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.rand(C) + 0.5)
    return layer


@torch.no_grad()
def test_renormalisation_is_that_of_its_paper() -> None:
    """Ioffe (2017), algorithm 1, number by number, with the unbiased variance."""
    torch.manual_seed(0)
    layer, mean, variance = renorm(warm_up=2), [0.0] * C, [1.0] * C
    for step in range(6):
        x = torch.randn(7, C) * torch.linspace(0.1, 9, C) + torch.linspace(-9, 9, C)
        y = layer(x)
        for c in range(C):
            mu = sum(x[:, c].tolist()) / 7
            var = sum((value - mu) ** 2 for value in x[:, c].tolist()) / 6
            sigma, running = (var + 1e-3) ** 0.5, (variance[c] + 1e-3) ** 0.5
            r = min(max(sigma / running, 1 / 3), 3.0) if step >= 2 else 1.0
            d = min(max((mu - mean[c]) / running, -5.0), 5.0) if step >= 2 else 0.0
            expected = ((x[:, c] - mu) / sigma * r + d) * layer.weight[c] + layer.bias[c]
            torch.testing.assert_close(y[:, c], expected, atol=1e-4, rtol=1e-4)
            mean[c] += 0.01 * (mu - mean[c])
            variance[c] += 0.01 * (var - variance[c])
    layer.eval()
    x = torch.randn(3, C)
    scale = layer.weight / (torch.tensor(variance) + 1e-3).sqrt()
    expected = (x - torch.tensor(mean)) * scale + layer.bias
    torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-4)
    assert layer.num_batches_tracked == 6


@pytest.mark.parametrize(("warm_up", "eps"), [(100, 1e-3), (2, 1e-9)])
def test_renormalisation_is_that_of_stable_baselines(warm_up: int, eps: float) -> None:
    """With gradients and statistics. Its epsilon is outside of r and d: here it is tiny then."""
    torch.manual_seed(0)
    ours = renorm(warm_up, eps)
    theirs = BatchRenorm1d(C, eps=eps, warmup_steps=warm_up - 1)
    theirs.scale.data.copy_(ours.weight.data)
    theirs.bias.data.copy_(ours.bias.data)
    for _ in range(6):
        x = (torch.randn(7, C) * 2 + torch.linspace(-3, 3, C)).requires_grad_()
        seed = torch.randn(7, C)
        found, expected = (
            (*torch.autograd.grad(y, [x, *layer.parameters()], seed), y)
            for layer in (ours, theirs)
            for y in [layer(x)]
        )
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.running_mean, theirs.ra_mean)
    torch.testing.assert_close(ours.running_var, theirs.ra_var)
    x = torch.randn(7, C)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


KINDS = {
    "batch": (FoldedBatchNorm, (2, 6, C)),
    "batch_renorm": (FoldedBatchRenorm, (2, 6, C)),
    "images": (ImageBatchNorm, (12, C, 2, 3)),
    "images_renorm": (BatchRenorm, (12, C, 2, 3)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_do_not_count_change_nothing(kind: str) -> None:
    """Statistics, and gradients of the rows that do, are those of a minibatch without them."""
    cls, shape = KINDS[kind]
    torch.manual_seed(0)
    rows = torch.tensor([[1, 0, 1, 1, 0, 1], [0, 0, 1, 1, 1, 1]]).float()
    counted = rows.flatten().bool()
    masked: Any = cls(C)
    alone = copy.deepcopy(masked)

    def of_counted(x: Tensor) -> Tensor:
        flat = x.reshape(12, *shape[-len(shape) + (1 if kind.startswith("images") else 2) :])
        return flat[counted]

    for _ in range(3):
        x = torch.randn(shape, requires_grad=True)
        kept = of_counted(x) if kind.startswith("images") else of_counted(x)[:, None]
        with counting(masked, rows):
            found = of_counted(masked(x))
        expected = alone(kept).view_as(found)
        torch.testing.assert_close(found, expected)
        seed = torch.randn_like(found)
        grads = (torch.autograd.grad(y, x, seed)[0] for y in (found, expected))
        torch.testing.assert_close(*grads, atol=1e-5, rtol=1e-4)
    for name, buffer in masked.named_buffers():
        torch.testing.assert_close(buffer, alone.get_buffer(name))
    with counting(masked, torch.zeros_like(rows)):
        assert torch.isfinite(masked(torch.randn(shape))).all()
    assert masked.counted is None


def test_the_inputs_of_layers_are_normalised() -> None:
    """CrossQ's order: norm, layer, activation, norm, layer, activation, norm."""
    words = {"sizes": (4, 3), "activation": "relu", "norm": "batch_renorm", "norm_inputs": True}
    block = MLP(MLP.Config.model_validate(words), (C,))
    kinds = [type(layer).__name__ for layer in block.layers]
    layer = ["Linear", "ReLU", "FoldedBatchRenorm"]
    assert kinds == ["FoldedBatchRenorm", *layer, *layer]
    sizes = [norm.num_features for norm in block.layers if isinstance(norm, FoldedBatchRenorm)]
    assert sizes == [C, 4, 3]
    assert all(linear.bias is not None for linear in block.linears)
    with pytest.raises(ValueError, match="norm_inputs=true: expected a norm"):
        read_block({"name": "mlp", "norm_inputs": True})
