"""What the pictures of a comparison show, whoever draws them: sentences and numbers.

    for picture in pictures(comparison):
        for environment, groups in picture.panels.items(): ...

`figures` draws them for a browser, `charts` as PNG.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from ...core.printable import printable
from . import statistics
from .compare import Comparison
from .table import Row, strata_of

DRAWN = 12
"""Groups of an environment, the best ones, whose lines are drawn at first: more hide each other."""
FEW = 5
"""Groups with which single runs are drawn, too."""
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd")
COLOURS += ("#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")
DASHES = ("solid", "dash", "dot", "dashdot")
SENTENCES = {
    "scores": "Each dot is the score of a run, the diamond is the interquartile mean (IQM) of its "
    "group, and the bar is the 95 % interval of that mean.",
    "learning_curves": "Scores after so many environment steps: the thick line is the IQM of a "
    "group's runs, the band is its 95 % interval, and each thin line is a run.",
    "wall_clock": "The same scores after so many seconds of training.",
    "sample_efficiency": "Steps until a score was reached for the first time: the thick line is "
    "the median run of a group, and it ends where half of the runs never came.",
    "performance_profiles": "The share of a group's runs that scored above a value, with its 95 % "
    "interval: a line further right is better.",
}
"""What each picture shows, by its name."""
_NAME = 40  # characters on a line of an axis
_POINTS = 60  # of a curve
_RESAMPLES = 2_000  # at each of them

Curves = Mapping[str, np.ndarray]  # [N, 2] by the name of the run


class Style(NamedTuple):
    """How a group looks."""

    colour: str
    dash: str


class Shape(NamedTuple):
    """What is drawn of a group.

    Attributes:
        runs: the curve [N, 2] of each run by its name; of a score, one point (score, 0).
        middle: the curve of the group [G, 2]; nan where it has none.
        low, high: ends of its interval [G]; nan where it has none.
    """

    runs: Curves
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


Panels = Mapping[str, Mapping[str, Shape]]


@dataclass(frozen=True)
class Picture:
    """A picture with a panel for each environment.

    Attributes:
        name: one of `SENTENCES`.
        x, y: names of the axes; with y "" each group has a row there, with its name.
        panels: shapes by environment and group, the best group first.
        step: how a line goes from a point to the next one: straight (""), or flat with a step at
            the first ("pre") or at the second ("post").
        counted: the axis of steps or seconds, which begins at 0: "x", "y" or none ("").
    """

    name: str
    x: str
    y: str
    panels: Panels
    step: Literal["", "pre", "post"] = ""
    counted: Literal["", "x", "y"] = ""


def styles(rows: Sequence[Row]) -> dict[str, Style]:
    """A style for each group, the best ones first; those of forty groups differ."""
    groups = dict.fromkeys(row.group for row in rows)
    return {
        group: Style(COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)])
        for number, group in enumerate(groups)
    }


def wrapped(group: str) -> list[str]:
    """The lines of a group's name where it stands on an axis."""
    return textwrap.wrap(printable(group), _NAME) or [""]


def drawn(rows: Sequence[Row]) -> list[str]:
    """The groups that are among the best `DRAWN` of an environment."""
    found: dict[str, None] = {}
    for environment in dict.fromkeys(row.environment for row in rows):
        own = [row.group for row in rows if row.environment == environment]
        found |= dict.fromkeys(own[:DRAWN])
    return list(found)


def pictures(comparison: Comparison) -> list[Picture]:
    """Returns the pictures; of all environments together there are scores and profiles, scaled."""
    metric = comparison.metric
    strata = strata_of(comparison.cells, metric)
    steps, seconds = (_curves(comparison, over) for over in ("steps", "time/seconds"))

    def panels(shape: Callable[[Row], Shape | None]) -> Panels:
        found: dict[str, dict[str, Shape]] = {}
        for row in comparison.rows:
            if (own := shape(row)) is not None:
                found.setdefault(row.environment, {})[row.group] = own
        return found

    def score(row: Row) -> Shape:
        runs = comparison.cells.get((row.group, row.environment), ())
        values = np.concatenate(strata[row.environment][row.group])
        names = [run.name for run in runs] or [f"run {number}" for number in range(len(values))]
        points = {name: np.array([[value, 0.0]]) for name, value in zip(names, values, strict=True)}
        value, low, high = row.iqm
        return Shape(points, np.array([[value, 0.0]]), np.array([low]), np.array([high]))

    def over(curves: Mapping[tuple[str, str], Curves]) -> Panels:
        return panels(lambda row: mean_curve(curves.get((row.group, row.environment), {})))

    def profile(row: Row) -> Shape:
        return _profile(strata[row.environment], row.group)

    def efficiency(row: Row) -> Shape | None:
        own = {group: found for (group, name), found in steps.items() if name == row.environment}
        return _efficiency(own, row.group) if own.get(row.group) else None

    return [
        Picture("scores", metric, "", panels(score)),
        Picture("learning_curves", "environment steps", metric, over(steps), counted="x"),
        Picture("wall_clock", "wall seconds", metric, over(seconds), counted="x"),
        Picture(
            *("sample_efficiency", metric, "steps to reach it", panels(efficiency)),
            step="pre",
            counted="y",
        ),
        Picture("performance_profiles", metric, "share of runs above", panels(profile), "post"),
    ]


def _curves(comparison: Comparison, over: str) -> dict[tuple[str, str], Curves]:
    """The runs' curves by group and environment; runs without a point are not there."""
    found = {}
    for place, runs in comparison.cells.items():
        curves = {run.name: run.curve(comparison.metric, over) for run in runs}
        found[place] = {name: curve for name, curve in curves.items() if len(curve)}
    return found


def resample(curves: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns x [G] and the values [G, N] of N curves there, where all of them have been.

    Between two points of a curve [*, 2] its values lie on a line. G is 1 where the curves share one
    x only, and 0 where they share none.
    """
    low, high = max(curve[0, 0] for curve in curves), min(curve[-1, 0] for curve in curves)
    grid = np.linspace(low, high, _POINTS) if low < high else np.full(int(low == high), low)
    return grid, np.stack([np.interp(grid, *curve.T) for curve in curves], axis=1)


def mean_curve(curves: Curves) -> Shape | None:
    """The IQM of curves with its interval, where all have been; None if there are no curves."""
    if not curves:
        return None
    grid, values = resample(list(curves.values()))
    if not len(grid):
        return Shape(curves, np.empty((0, 2)), np.empty(0), np.empty(0))
    ends = statistics.interval(statistics.iqm, [values], _RESAMPLES)
    return Shape(curves, np.stack([grid, statistics.iqm(values)], axis=1), *ends)


def first_reached(curve: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Returns the x at which a curve [N, 2] is first at each level [L] or above; nan: never."""
    best = np.maximum.accumulate(curve[:, 1])
    return np.append(curve[:, 0], np.nan)[np.searchsorted(best, levels)]


def _efficiency(groups: Mapping[str, Curves], group: str) -> Shape:
    every = [curve for curves in groups.values() for curve in curves.values()]
    lowest = min(curve[0, 1] for curve in every)
    levels = np.linspace(lowest, max(curve[:, 1].max() for curve in every), _POINTS)
    steps = {name: first_reached(curve, levels) for name, curve in groups[group].items()}
    median = np.median(np.nan_to_num(np.array([*steps.values()]), nan=np.inf), axis=0)
    median[np.isinf(median)] = np.nan
    runs = {name: np.stack([levels, own], axis=1) for name, own in steps.items()}
    unknown = np.full(len(levels), np.nan)
    return Shape(runs, np.stack([levels, median], axis=1), unknown, unknown)


def _profile(groups: Mapping[str, Sequence[np.ndarray]], group: str) -> Shape:
    every = np.concatenate([scores for strata in groups.values() for scores in strata])
    margin = 0.05 * np.ptp(every) or 1.0
    levels = np.array([every.min() - margin, *np.unique(every), every.max() + margin])
    above = [(scores > levels[:, None]).astype(float) for scores in groups[group]]
    ends = statistics.interval(statistics.mean, above, _RESAMPLES)
    return Shape({}, np.stack([levels, statistics.mean(*above)], axis=1), *ends)
