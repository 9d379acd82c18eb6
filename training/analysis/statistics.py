"""Scores of few runs: point estimates and stratified bootstrap intervals.

After "Deep Reinforcement Learning at the Edge of the Statistical Precipice" by Agarwal et al.
(2021, https://arxiv.org/abs/2108.13264). A stratum holds the scores of one environment's seeds, and
resampling draws within each. The numbers come from SciPy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

RESAMPLES = 9_999  # SciPy's default; the interval's ends then err by about 1 % of its width
CONFIDENCE = 0.95
_BATCH = 500  # resamples at once, which bounds the memory
_SEED = 0  # the same runs give the same table

Statistic = Callable[..., Any]


class Estimate(NamedTuple):
    """A statistic and the ends of its interval; they are nan where a stratum has a single seed."""

    value: float
    low: float
    high: float


def iqm(*strata: np.ndarray, axis: int = -1) -> Any:
    """Interquartile mean: the mean of the middle half of all scores [..., N], each stratum's.

    Of N scores the floor(N / 4) lowest and highest are left out, so of 5 seeds the middle 3 count
    and of 3 seeds all.
    """
    return stats.trim_mean(np.concatenate(strata, axis), 0.25, axis)


def mean(*strata: np.ndarray, axis: int = -1) -> Any:
    """Mean of all scores [..., N]."""
    return np.concatenate(strata, axis).mean(axis)


def median(*strata: np.ndarray, axis: int = -1) -> Any:
    """Median of all scores [..., N]."""
    return np.median(np.concatenate(strata, axis), axis)


def improvement(*strata: np.ndarray, axis: int = -1) -> Any:
    """Probability that a run of X scores higher than one of Y, ties counting half.

    The mean over environments of the Mann-Whitney statistic U / (N M).

    Args:
        strata: X's scores [..., N] in each environment, then Y's [..., M] in the same order.
        axis: the last one.
    """
    half = len(strata) // 2
    shares = []
    for x, y in zip(strata[:half], strata[half:], strict=True):
        x, y = x[..., :, None], y[..., None, :]
        shares.append((x > y).mean((-2, -1)) + (x == y).mean((-2, -1)) / 2)
    return np.mean(shares, axis=0)


def estimate(statistic: Statistic, strata: Sequence[np.ndarray]) -> Estimate:
    """Returns a statistic of scores [N] per stratum with its percentile bootstrap interval."""
    value = float(statistic(*strata))
    low, high = interval(statistic, strata)
    return Estimate(value, float(low), float(high))


def interval(
    statistic: Statistic, strata: Sequence[np.ndarray], resamples: int = RESAMPLES
) -> tuple[Any, Any]:
    """Returns the ends of the stratified percentile bootstrap interval.

    Args:
        statistic: takes the strata and the axis of the seeds, the last one.
        strata: scores [..., N]; the statistic's shape is that of the rest.
        resamples: how often is drawn.
    """
    if min(stratum.shape[-1] for stratum in strata) < 2:
        unknown = np.full(np.shape(statistic(*strata)), np.nan)
        return unknown, unknown
    result = stats.bootstrap(
        strata,
        statistic,
        n_resamples=resamples,
        batch=_BATCH,
        axis=-1,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    )
    return result.confidence_interval
