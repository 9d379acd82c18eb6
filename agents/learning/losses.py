"""Losses: pure functions of each step, [T, B] in and [T, B] out; the agent takes the mean once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LARGEST_LOG_RATIO = 20.0
"""Logarithms of ratios are clamped to this: their exponentials and squares stay finite."""


def mean_weights(mask: Tensor) -> Tensor:
    """Weights that make a sum the mean over `mask` [T, B]; all are 0 if the mask is empty."""
    return mask / mask.sum().clamp(min=1)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x [T, B] where `mask` [T, B] is not 0; 0 when it is 0 everywhere."""
    return (x * mean_weights(mask)).sum()


def masked_variance(x: Tensor, mask: Tensor) -> Tensor:
    """Variance of x [T, B] where `mask` [T, B] is not 0; the biased one, divided by the count."""
    return masked_mean((x - masked_mean(x, mask)).square(), mask)


def masked_normalize(x: Tensor, mask: Tensor, eps: float = 1e-8) -> Tensor:
    """Shifts and scales x [T, B] to mean 0 and (unbiased) deviation 1 over `mask` [T, B].

    Where only one entry is valid, all are 0: it is its own mean, and has no deviation.
    """
    count = mask.sum()
    centred = x - (x * mask).sum() / count.clamp(min=1)
    scale = ((centred.square() * mask).sum() / (count - 1)).sqrt() + eps
    return torch.where(count > 1, centred / scale, 0.0)


def clipped_surrogate(log_ratio: Tensor, advantage: Tensor, clip_range: float | Tensor) -> Tensor:
    """PPO's clipped objective, negated (Schulman et al. 2017, equation 7).

    Args:
        log_ratio: [T, B], log pi(a|s) - log pi_old(a|s).
        advantage: [T, B], of the old policy.
        clip_range: Half the width of the interval around 1 outside which the ratio gains nothing.

    Returns:
        Loss, [T, B].
    """
    # Beyond this ratio exp overflows, and 0 times infinity in the backward would be NaN.
    log_ratio = log_ratio.clamp(max=LARGEST_LOG_RATIO)
    bound = advantage + clip_range * advantage.abs()  # clip(ratio) * advantage where that is less
    gain = log_ratio.exp() * advantage
    return -torch.where(gain < bound, gain, bound)  # half the backward of `torch.minimum`


def approx_kl(log_ratio: Tensor) -> Tensor:
    """Schulman's k3 of KL(old, new), [T, B]: unbiased, never negative, finite."""
    log_ratio = log_ratio.clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    return log_ratio.exp() - 1 - log_ratio


def value_loss(
    value: Tensor, target: Tensor, old_value: Tensor, clip_range: Tensor | None
) -> Tensor:
    """Squared error of values, [T, B]; with `clip_range`, of values clipped to the old ones.

    A value that has moved further than `clip_range` from the old one has no gradient. This is
    Stable-Baselines3's clip; the original `baselines` takes the larger of both errors. Clipping
    mostly hurts (Andrychowicz et al. 2021).

    Args:
        value: [T, B].
        target: [T, B].
        old_value: [T, B], before the updates of this rollout.
        clip_range: Scalar; None: no clip.
    """
    if clip_range is not None:
        value = old_value + (value - old_value).clamp(-clip_range, clip_range)
    return F.mse_loss(value, target, reduction="none")


def huber(error: Tensor, delta: float = 1.0) -> Tensor:
    """Huber's loss of each error: quadratic within +-`delta`, linear outside (Mnih et al. 2015)."""
    return F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)
