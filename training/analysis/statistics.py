"""Scores of few runs: point estimates, intervals, and whether one group is above another.

After "Deep Reinforcement Learning at the Edge of the Statistical Precipice" by Agarwal et al.
(2021, https://arxiv.org/abs/2108.13264). A stratum holds the scores of one environment's seeds, and
resampling draws within each. The numbers come from SciPy, which is imported where it is called.

Deviation: the bootstrap's percentiles are expanded for few seeds, and groups are compared by a test
that counts how many there are. `benchmarks/verdicts.py` measures both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

FEW = 5
"""Seeds of each stratum below which there is no interval and no verdict: the bootstrap's interval
of two seeds holds the true value half of the time."""
RESAMPLES = 9_999  # SciPy's default; the interval's ends then err by about 1 % of its width
CONFIDENCE = 0.95
_BATCH = 500  # resamples at once, which bounds the memory
_SEED = 0  # the same runs give the same table

Statistic = Callable[..., Any]


class Estimate(NamedTuple):
    """A statistic and the ends of its interval; they are nan with fewer than `FEW` seeds."""

    value: float
    low: float
    high: float


def iqm(*strata: np.ndarray, axis: int = -1) -> Any:
    """Interquartile mean: the mean of the middle half of all scores [..., N], each stratum's.

    Of N scores the floor(N / 4) lowest and highest are left out, so of 5 seeds the middle 3 count
    and of 3 seeds all.
    """
    from scipy import stats

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
    """Returns a statistic of scores [N] per stratum with its bootstrap interval."""
    value = float(statistic(*strata))
    if min(map(len, strata)) < FEW:
        return Estimate(value, np.nan, np.nan)
    low, high = interval(statistic, strata)
    return Estimate(value, float(low), float(high))


def estimate_improvement(x: Sequence[np.ndarray], y: Sequence[np.ndarray]) -> Estimate:
    """Returns `improvement` of X over Y with its interval, which is never a single point.

    "Confidence intervals for an effect size measure based on the Mann-Whitney statistic" by
    Newcombe (2006), part 2, method 5: the probabilities p from which the measured one is no further
    than 1.96 of the standard deviations that it would have, were p the true one.

    Args:
        x: X's scores [N] in each environment.
        y: Y's scores [M] in the same ones.
    """
    from scipy import optimize, stats

    value = float(improvement(*x, *y))
    sizes = [(len(one), len(other)) for one, other in zip(x, y, strict=True)]
    if min(map(min, sizes)) < FEW:
        return Estimate(value, np.nan, np.nan)
    z = stats.norm.ppf((1 + CONFIDENCE) / 2)

    def deviation(p: float) -> float:
        own = (1 - p) / (2 - p) + p / (1 + p)
        parts = [(1 + ((n + m) / 2 - 1) * own) / (n * m) for n, m in sizes]
        return float(np.sqrt(p * (1 - p) * sum(parts))) / len(sizes)

    def end(bound: float) -> float:
        sign = np.sign(value - bound)
        if not sign:
            return bound
        near = value + 1e-9 * (bound - value)  # the deviation of 0 and of 1 is 0, a root as well
        found: Any = optimize.brentq(lambda p: value - p - sign * z * deviation(p), bound, near)
        return float(found)

    return Estimate(value, end(0.0), end(1.0))


def p_above(x: Sequence[np.ndarray], y: Sequence[np.ndarray], groups: int) -> float:
    """Returns the p-value of equal means of X and Y, two of so many groups; 1 if X is not above Y.

    The test of Games and Howell (1976): Welch's t, with unequal deviations, against the
    distribution of the largest difference between any two of the groups. So it holds for the two
    that differ most, picked after looking, with a chance of `1 - CONFIDENCE` of any false verdict.
    Over several environments the means of the strata are averaged.

    Args:
        x: X's scores [N], N > 1, in each environment.
        y: Y's scores [M] in the same ones.
        groups: how many there are, X and Y among them.
    """
    from scipy import stats

    # Relative to one of its scores, a stratum of equal ones has neither a gap nor a deviation.
    pairs = [(one - other[0], other - other[0]) for one, other in zip(x, y, strict=True)]
    gap = float(np.mean([one.mean() - other.mean() for one, other in pairs]))
    samples = [scores for pair in pairs for scores in pair]
    parts = [(float(np.var(own, ddof=1)) / len(own), len(own) - 1) for own in samples]
    total = sum(part for part, _ in parts)
    if gap <= 0 or not total:  # without any deviation the means are what they are
        return float(gap <= 0)
    freedom = total**2 / sum(part**2 / count for part, count in parts)
    q = np.sqrt(2 / total) * len(x) * gap
    return float(stats.studentized_range.sf(q, groups, freedom))


def interval(
    statistic: Statistic, strata: Sequence[np.ndarray], resamples: int = RESAMPLES
) -> tuple[Any, Any]:
    """Returns the ends of the stratified percentile bootstrap interval.

    A sample of N has (N - 1) / N of the variance, and of few seeds even the variance is uncertain.
    So the percentiles are those that make the interval of a mean as wide as Student's: "What
    teachers should know about the bootstrap" by Hesterberg (2015), section 5.3.

    Args:
        statistic: takes the strata and the axis of the seeds, the last one.
        strata: scores [..., N]; the statistic's shape is that of the rest.
        resamples: how often is drawn.
    """
    from scipy import stats

    sizes = [stratum.shape[-1] for stratum in strata]
    if min(sizes) < FEW:
        unknown = np.full(np.shape(statistic(*strata)), np.nan)
        return unknown, unknown
    few = min(sizes)
    t = stats.t.ppf((1 + CONFIDENCE) / 2, sum(sizes) - len(sizes))
    outside = float(2 * stats.norm.sf(t * np.sqrt(few / (few - 1))))
    result = stats.bootstrap(
        strata,
        statistic,
        n_resamples=resamples,
        batch=_BATCH,
        axis=-1,
        confidence_level=1 - outside,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    )
    return result.confidence_interval
