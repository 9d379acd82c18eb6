"""The lines of a comparison and what they allow to conclude."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..storage.stored_run import StoredRun
from . import statistics
from .statistics import FEW, Estimate

Cells = Mapping[tuple[str, str], Sequence[StoredRun]]


@dataclass(frozen=True)
class Row:
    """A line: a group in an environment, or in all of them.

    Attributes:
        group, environment: their labels.
        seeds: number of runs, of the environment with the fewest.
        iqm, mean, median: of the runs' scores; over all environments they are scaled.
        improvement: probability that a run of the leader scores higher; None for the leader.
        p: p-value of "the leader is not above it", see `statistics.p_above`; None for the leader,
            and with fewer than `FEW` seeds.
        steps, seconds, cpu_seconds: means over the runs; nan where a run lacks the number.
    """

    group: str
    environment: str
    seeds: int
    iqm: Estimate
    mean: Estimate
    median: Estimate
    improvement: Estimate | None
    p: float | None
    steps: float
    seconds: float
    cpu_seconds: float


def strata_of(cells: Cells, metric: str) -> dict[str, dict[str, list[np.ndarray]]]:
    """Returns the scores by environment and group, an array [N] for each stratum.

    After several environments come all of them together: the groups that ran in every one, if these
    are several, with scores scaled so that the lowest run of an environment is 0, the highest 1.
    """
    groups, environments = (list(dict.fromkeys(names)) for names in zip(*cells, strict=True))
    strata: dict[str, dict[str, list[np.ndarray]]] = {name: {} for name in environments}
    for (group, environment), runs in cells.items():
        strata[environment][group] = [scores_of(runs, metric)]
    everywhere = [group for group in groups if all(group in own for own in strata.values())]
    if len(environments) > 1 and len(everywhere) > 1:
        scaled = [_scaled(own) for own in strata.values()]
        together = {group: [scores[group] for scores in scaled] for group in everywhere}
        strata[f"all {len(environments)}, scaled"] = together
    return strata


def scores_of(runs: Sequence[StoredRun], metric: str) -> np.ndarray:
    """The runs' scores [N]."""
    return np.array([run.score(metric) for run in runs], np.float64)


def _scaled(groups: Mapping[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    every = np.concatenate([scores for (scores,) in groups.values()])
    span = np.ptp(every) or 1.0  # all equal: all 0
    return {group: (scores - every.min()) / span for group, (scores,) in groups.items()}


def tabulate(cells: Cells, metric: str) -> list[Row]:
    """Returns the lines of each environment, then of all together, the highest IQM first.

    Args:
        cells: runs with the metric, by (group, environment).
        metric: what is compared.
    """
    rows = []
    for environment, groups in strata_of(cells, metric).items():
        order = sorted(groups, key=lambda group: _rank(groups[group]))
        for group in order:
            every = [run for (own, _), runs in cells.items() if own == group for run in runs]
            runs = cells.get((group, environment), every)
            leader = None if group == order[0] else groups[order[0]]
            rows.append(_row(group, environment, groups[group], leader, runs, len(groups)))
    return rows


def _rank(strata: list[np.ndarray]) -> tuple[float, float]:
    return -float(statistics.iqm(*strata)), -float(statistics.mean(*strata))


def _row(
    group: str,
    environment: str,
    strata: list[np.ndarray],
    leader: list[np.ndarray] | None,
    runs: Sequence[StoredRun],
    groups: int,
) -> Row:
    ahead = p = None
    if leader is not None:
        ahead = statistics.estimate_improvement(leader, strata)
        if min(map(len, (*leader, *strata))) >= FEW:
            p = statistics.p_above(leader, strata, groups)
    return Row(
        group,
        environment,
        seeds=min(map(len, strata)),
        iqm=statistics.estimate(statistics.iqm, strata),
        mean=statistics.estimate(statistics.mean, strata),
        median=statistics.estimate(statistics.median, strata),
        improvement=ahead,
        p=p,
        steps=float(scores_of(runs, "steps").mean()),
        seconds=float(scores_of(runs, "seconds").mean()),
        cpu_seconds=float(scores_of(runs, "cpu_seconds").mean()),
    )


def conclude(rows: Sequence[Row]) -> Iterator[str]:
    """Says for each environment which groups its leader is above, and where that is undecided."""
    for environment in dict.fromkeys(row.environment for row in rows):
        leader, *others = (row for row in rows if row.environment == environment)
        above = [row for row in others if row.p is not None and row.p < 1 - statistics.CONFIDENCE]
        rest = [row for row in others if row not in above]
        if above:
            beaten = some([f"{row.group} (p = {row.p:.2g})" for row in above])
            among = f", among {len(others) + 1} groups" if len(others) > 1 else ""
            yield f"{environment}: {leader.group} is above {beaten}{among}."
        if rest:
            equal = some([f"{row.group} ({undecided(leader, row)})" for row in rest])
            yield f"{environment}: cannot tell {leader.group} from {equal}."


def some(names: Sequence[str], most: int = 4) -> str:
    """The names, of many only the first ones."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def undecided(leader: Row, other: Row) -> str:
    """Why the leader cannot be said to be above the other one."""
    if other.p is not None:
        return f"p = {other.p:.2g}"
    seeds = min(leader.seeds, other.seeds)
    return f"{seeds} seed{'s' if seeds > 1 else ''}, {FEW} are needed"
