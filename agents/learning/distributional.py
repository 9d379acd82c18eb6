"""Distances between distributions of returns: pure functions of the last axis.

A distribution is a row of probabilities on fixed values (atoms), or a row of values at given
fractions of its probability (quantiles).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .losses import huber
from .terms import Terms


def project(atoms: Tensor, probability: Tensor, support: Tensor) -> Tensor:
    """Projects a distribution onto evenly spaced atoms; within them it keeps its mean.

    "A distributional perspective on reinforcement learning" by Bellemare et al. (2017), equation 7:
    each atom's mass goes to its two neighbours in the support, the nearer one gets more. An atom
    outside goes to the end; one that lies on an atom of the support keeps its mass together. On a
    GPU the order of the sums, and so their last digit, may differ from call to call.

    Args:
        atoms: [*, M], the values.
        probability: [*, M], theirs.
        support: [N], evenly spaced and rising.

    Returns:
        Probabilities of the support, [*, N].
    """
    gap = support[1] - support[0]
    place = ((atoms - support[0]) / gap).clamp(0, len(support) - 1)
    below = place.floor().clamp(max=len(support) - 2)
    upper = probability * (place - below)
    index = below.long()
    moved = torch.zeros(*index.shape[:-1], len(support), device=atoms.device)
    moved.scatter_add_(-1, index, probability - upper)
    return moved.scatter_add_(-1, index + 1, upper)


def divergence(target: Tensor, log_probability: Tensor) -> Tensor:
    """KL(target, p), [*], in nats: the cross-entropy minus the entropy of the target.

    Args:
        target: Probabilities [*, N].
        log_probability: log p, [*, N].
    """
    return (torch.xlogy(target, target) - target * log_probability).sum(-1)


def quantile_huber(quantile: Tensor, tau: Tensor, target: Tensor, kappa: float = 1.0) -> Tensor:
    """The quantile Huber loss: summed over quantiles, mean over the samples of the target.

    "Distributional reinforcement learning with quantile regression" by Dabney et al. (2018a),
    equations 9 and 10: with u = target - quantile, |tau - 1{u < 0}| huber(u) / kappa.

    Args:
        quantile: [*, N], the values at `tau`.
        tau: [N] or [*, N], fractions in [0, 1].
        target: [*, M], samples or quantiles of equal probability.
        kappa: Where Huber's loss becomes linear.

    Returns:
        Loss, [*].
    """
    error = target[..., None, :] - quantile[..., :, None]  # [*, N, M]
    side = (tau[..., None] - (error.detach() < 0).float()).abs()
    return (side * huber(error, kappa) / kappa).mean(-1).sum(-1)


def quantile_td(quantiles: Tensor, target: Tensor) -> tuple[Tensor, Terms]:
    """The quantile regression of several critics, as TQC learns it (Kuznetsov et al. 2020).

    Args:
        quantiles: [count, *, K], at the middles of K equal fractions.
        target: [*, M], values with equal weight.

    Returns:
        The loss [*], a mean over critics and quantiles; and terms [*] without gradient: `q`, the
        mean value, `error`, the mean distance of the critics' means to the target's, and `td`, the
        loss.
    """
    count = quantiles.shape[-1]
    tau = (torch.arange(count, device=quantiles.device) + 0.5) / count
    loss = quantile_huber(quantiles, tau, target[None]).mean(0) / count
    value = quantiles.detach()
    error = target.mean(-1) - value.mean(-1)
    terms = {"q": value.mean((0, -1)), "error": error.abs().mean(0), "td": loss.detach()}
    return loss, terms


def truncated_mixture(quantiles: Tensor, drop: int) -> Tensor:
    """The values of several critics in one distribution, without its greatest ones.

    "Controlling overestimation bias with truncated mixture of continuous distributional quantile
    critics" by Kuznetsov et al. (2020), section 3.2.

    Args:
        quantiles: [C, *, M], of C critics.
        drop: Values left out for each critic, so C times as many of the mixture.

    Returns:
        [*, C (M - drop)], rising.
    """
    count = len(quantiles) * (quantiles.shape[-1] - drop)
    return quantiles.movedim(0, -2).flatten(-2).sort(-1).values[..., :count]
