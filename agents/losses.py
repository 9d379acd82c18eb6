"""Losses: pure and elementwise, [T, B] in and [T, B] out; the agent reduces once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def mean_weights(mask: Tensor) -> Tensor:
    """Weights that sum x to its mean over `mask` [T, B]; all 0 if that is empty."""
    return mask / mask.sum().clamp(min=1)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x [T, B] where `mask` [T, B] is not 0; 0 when it is 0 everywhere."""
    return (x * mean_weights(mask)).sum()


def masked_variance(x: Tensor, mask: Tensor) -> Tensor:
    """Variance of x [T, B] (of the entries, not unbiased) where `mask` [T, B] is not 0."""
    return masked_mean((x - masked_mean(x, mask)).square(), mask)


def masked_normalize(x: Tensor, mask: Tensor, eps: float = 1e-8) -> Tensor:
    """Shifts and scales `x` [T, B] to mean 0 and (unbiased) deviation 1 over `mask`.

    A single valid entry is left as it is: it has no deviation.
    """
    count = mask.sum()
    centred = x - (x * mask).sum() / count.clamp(min=1)
    scale = ((centred.square() * mask).sum() / (count - 1)).sqrt() + eps
    return torch.where(count > 1, centred / scale, x)


def clipped_surrogate(log_ratio: Tensor, advantage: Tensor, clip_range: float | Tensor) -> Tensor:
    """PPO's clipped objective, negated (Schulman et al. 2017, equation 7).

    Args:
        log_ratio: [T, B], log pi(a|s) - log pi_old(a|s).
        advantage: [T, B], of the old policy.
        clip_range: Half-width of the interval about 1 in which the ratio earns.

    Returns:
        Loss, [T, B].
    """
    bound = advantage + clip_range * advantage.abs()  # clip(ratio) * advantage where that is less
    gain = log_ratio.exp() * advantage
    return -torch.where(gain < bound, gain, bound)  # half the backward of `torch.minimum`


def value_loss(
    value: Tensor, target: Tensor, old_value: Tensor, clip_range: float | None
) -> Tensor:
    """Squared error, [T, B]; with `clip_range` the new value may leave the old by that much only.

    Clipping takes the smaller step, not the larger error, as Stable-Baselines3 and unlike the
    original `baselines`, which takes the maximum of both errors. Off by default: it hurts
    (Andrychowicz 2021).
    """
    if clip_range is not None:
        value = old_value + (value - old_value).clamp(-clip_range, clip_range)
    return F.mse_loss(value, target, reduction="none")


def huber(error: Tensor, delta: float = 1.0) -> Tensor:
    """Quadratic within `delta`, linear outside (Mnih et al. 2015's clipped error), elementwise."""
    return F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)
