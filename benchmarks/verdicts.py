"""How often `neuraxis compare` is wrong: coverage of its intervals, and false verdicts.

    python benchmarks/verdicts.py        # 5 minutes on one core

Scores are drawn from known distributions. An interval is right if it holds the true value; a
verdict between equal groups is false. The table goes to `benchmarks/results/verdicts.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from neuraxis.training.analysis import statistics

RESULTS = Path(__file__).parent / "results" / "verdicts.md"
SAMPLES, REPORTS = 2_000, 500
SEEDS = 5, 10, 20
GROUPS = 2, 5, 10, 30

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda random, shape: random.normal(size=shape),
    "exponential": lambda random, shape: random.exponential(size=shape),
    "one of five seeds fails": lambda random, shape: (
        random.normal(size=shape) - 5.0 * (random.random(shape) < 0.2)
    ),
    "capped, as CartPole's 500": lambda random, shape: np.minimum(random.normal(0.8, 1, shape), 1),
}


def coverage(draw: Draw, seeds: int) -> tuple[float, float]:
    """Shares of the intervals of the IQM and of P(first higher) that hold the true value."""
    random = np.random.default_rng(0)
    true = np.mean([statistics.iqm(draw(random, (seeds,))) for _ in range(100_000)])
    low, high = statistics.interval(statistics.iqm, [draw(random, (SAMPLES, seeds))], 1_999)
    pairs = zip(draw(random, (SAMPLES, seeds)), draw(random, (SAMPLES, seeds)), strict=True)
    held = [statistics.estimate_improvement([x], [y]) for x, y in pairs]
    return (
        float(np.mean((low <= true) & (true <= high))),
        float(np.mean([found.low <= 0.5 <= found.high for found in held])),
    )


def false_verdicts(draw: Draw, groups: int, seeds: int) -> float:
    """Share of the reports of equal groups in which the leader is said to be above another."""
    random = np.random.default_rng(1)
    told = 0
    for scores in draw(random, (REPORTS, groups, seeds)):
        first, *others = sorted(scores, key=statistics.iqm, reverse=True)
        far = [other for other in others if welch(first, other) > 2]  # with less p is above 0.05
        values = (statistics.p_above([first], [other], groups) for other in far)
        told += any(p < 1 - statistics.CONFIDENCE for p in values)
    return told / REPORTS


def welch(x: np.ndarray, y: np.ndarray) -> float:
    """Welch's t of two groups; 0 where neither has a deviation."""
    error = x.var(ddof=1) / len(x) + y.var(ddof=1) / len(y)
    return float((x.mean() - y.mean()) / np.sqrt(error)) if error else 0.0


def main() -> None:
    """Writes both tables."""
    lines = [
        "# How often a comparison is wrong",
        "",
        f"`python benchmarks/verdicts.py`: {SAMPLES:,} samples or {REPORTS:,} reports a cell.",
        "",
        "## 95 % intervals that hold the true value: of the IQM, of P(first higher)",
        "",
        f"| scores | {' | '.join(f'{seeds} seeds' for seeds in SEEDS)} |",
        f"|---|{'--:|' * len(SEEDS)}",
    ]
    for name, draw in DISTRIBUTIONS.items():
        cells = [f"{iqm:.1%}, {p:.1%}" for iqm, p in (coverage(draw, n) for n in SEEDS)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    lines += [
        "",
        "## Reports of equal groups with a false `is above`, five seeds",
        "",
        f"| scores | {' | '.join(f'{groups} groups' for groups in GROUPS)} |",
        f"|---|{'--:|' * len(GROUPS)}",
    ]
    for name, draw in DISTRIBUTIONS.items():
        shares = [f"{false_verdicts(draw, groups, 5):.1%}" for groups in GROUPS]
        lines.append(f"| {name} | {' | '.join(shares)} |")
        print(lines[-1], flush=True)
    RESULTS.write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
