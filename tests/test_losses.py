"""Losses against the formulas of their papers, written out."""

import numpy as np
import pytest
import torch

from neuraxis.agents.learning.losses import (
    approx_kl,
    clipped_surrogate,
    huber,
    masked_mean,
    masked_normalize,
    masked_variance,
    mean_weights,
    value_loss,
)

random = np.random.default_rng(0)
X = torch.from_numpy(random.normal(3, 5, (6, 4)))
MASK = torch.from_numpy(random.random((6, 4)) < 0.6)


@pytest.mark.parametrize("clip", [0.1, 0.2, 0.9])
def test_clipped_surrogate_is_the_papers(clip: float) -> None:
    log_ratio, advantage = torch.meshgrid(
        torch.linspace(-3, 3, 61, dtype=torch.float64),
        torch.tensor([-5.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 5.0], dtype=torch.float64),
        indexing="ij",
    )
    ratio = log_ratio.exp()
    plain = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    assert torch.allclose(clipped_surrogate(log_ratio, advantage, clip), -plain, atol=1e-12)


def test_clipped_surrogate_has_no_gradient_outside() -> None:
    # advantage 1, ratio e > 1.2: clipped; ratio 1/e: not. Advantage -1: the other way round.
    log_ratio = torch.tensor([1.0, -1.0, 1.0, -1.0], requires_grad=True)
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0])
    clipped_surrogate(log_ratio, advantage, 0.2).sum().backward()
    assert log_ratio.grad is not None
    e = float(np.e)
    assert log_ratio.grad.tolist() == pytest.approx([0.0, -1 / e, e, 0.0])


@pytest.mark.parametrize("advantage", [1.0, -1.0, 0.0])
@pytest.mark.parametrize("log_ratio", [100.0, -100.0])
def test_clipped_surrogate_is_finite_for_any_ratio(log_ratio: float, advantage: float) -> None:
    """The branch that is not taken must not overflow: 0 times infinity is no gradient."""
    moved = torch.tensor([log_ratio, 0.0], requires_grad=True)
    loss = clipped_surrogate(moved, torch.tensor([advantage, 1.0]), 0.2)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert moved.grad is not None and moved.grad.isfinite().all()
    assert moved.grad[1] == -1.0  # the other sample is learned from
    if advantage > 0:
        assert loss[0].item() == pytest.approx(-1.2 if log_ratio > 0 else 0.0, abs=1e-6)


def test_approx_kl() -> None:
    log_ratio = torch.linspace(-3, 3, 61, dtype=torch.float64)
    assert torch.allclose(approx_kl(log_ratio), log_ratio.exp() - 1 - log_ratio)
    assert (approx_kl(log_ratio) > -1e-15).all()
    far = approx_kl(torch.tensor([100.0, -100.0]))
    # a step of weight 0 has no say, however far its action is
    assert masked_mean(far[None], torch.tensor([[0.0, 1.0]])).item() == pytest.approx(far[1])
    assert far[0] > 1e6 and far[1] > 10


def test_masked_mean_and_normalize_are_numpys() -> None:
    kept = X[MASK].numpy()
    mask = MASK.double()
    assert masked_mean(X, mask).item() == pytest.approx(kept.mean())
    assert masked_variance(X, mask).item() == pytest.approx(kept.var())
    assert (X * mean_weights(mask)).sum().item() == pytest.approx(kept.mean())
    expected = (kept - kept.mean()) / kept.std(ddof=1)
    assert np.allclose(masked_normalize(X, mask)[MASK].numpy(), expected, atol=1e-6)


def test_what_is_masked_has_no_say() -> None:
    mask = MASK.double()
    other = torch.where(MASK, X, 1e6)
    assert masked_mean(other, mask).item() == pytest.approx(masked_mean(X, mask).item())
    normal = masked_normalize(other, mask)[MASK]
    assert torch.allclose(normal, masked_normalize(X, mask)[MASK])


@pytest.mark.parametrize("valid", [0, 1])
def test_few_valid_entries(valid: int) -> None:
    """One entry has no deviation, and is its own mean; none at all is a mean of 0. Never NaN."""
    x = torch.tensor([[7.0, 3.0]])
    mask = torch.tensor([[float(valid), 0.0]])
    assert masked_mean(x, mask).item() == 7.0 * valid
    assert torch.equal(masked_normalize(x, mask), torch.zeros(1, 2))


def test_equal_entries_are_normalised_to_zero() -> None:
    same = masked_normalize(torch.full((3, 2), 5.0), torch.ones(3, 2))
    assert torch.equal(same, torch.zeros(3, 2))


def test_value_loss() -> None:
    value, target = torch.tensor([[2.0, 2.0]]), torch.tensor([[5.0, 1.0]])
    old = torch.tensor([[1.0, 1.9]])
    assert value_loss(value, target, old, None).tolist() == [[9.0, 1.0]]  # (2 - 5)^2, (2 - 1)^2
    # moved by 1, clipped to 1.5: (1.5 - 5)^2 = 12.25; moved by 0.1, not clipped
    assert value_loss(value, target, old, torch.tensor(0.5))[0].tolist() == pytest.approx(
        [12.25, 1.0]
    )


def test_huber() -> None:
    error = torch.tensor([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0], requires_grad=True)
    loss = huber(error)
    assert loss.tolist() == [2.5, 0.5, 0.125, 0.0, 0.125, 0.5, 2.5]
    loss.sum().backward()
    assert error.grad is not None
    assert error.grad.tolist() == [-1.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.0]  # the error, clipped
    expected = torch.nn.functional.huber_loss(error, 0 * error, reduction="none")
    assert torch.equal(huber(error), expected)
