"""Pictures of a comparison, as PNG: one panel an environment, one colour a group.

{name: png} = draw(comparison)
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from ...core.printable import printable
from . import statistics
from .compare import Comparison
from .table import strata_of

_POINTS = 60  # of a curve
_RESAMPLES = 2_000  # at each of them
_COLUMNS = 3
_WIDTH, _HEIGHT, _DPI = 4.4, 2.9, 110  # of a panel, in inches
_LEGEND_HEIGHT = 0.24  # of a line of the legend

Panels = Mapping[str, Mapping[str, Any]]  # what to draw, by environment and group
Colours = Mapping[str, Any]  # by group
Panel = Callable[[Axes, Mapping[str, Any], Colours], None]


@matplotlib.rc_context({"text.parse_math": False})  # a label is no formula
def draw(comparison: Comparison) -> dict[str, bytes]:
    """Returns the pictures by name, each a PNG.

    scores: each run, and the group's IQM with its interval.
    learning_curves, wall_clock: each run, and the IQM with its interval, over steps and seconds.
    sample_efficiency: steps until a level was first reached, by each run and by the median one.
    performance_profiles: share of runs above a level, with its interval (Agarwal et al. 2021).

    Of all environments together there are scores and profiles, scaled as in the table.
    """
    metric = comparison.metric
    scores = strata_of(comparison.cells, metric)
    steps, seconds = (_curves(comparison, over) for over in ("steps", "time/seconds"))
    labels = {
        "scores": (scores, _scores, metric, ""),
        "learning_curves": (steps, over_time, "environment steps", metric),
        "wall_clock": (seconds, over_time, "wall seconds", metric),
        "sample_efficiency": (steps, _efficiency, metric, "steps to reach it"),
        "performance_profiles": (scores, _profiles, metric, "share of runs above"),
    }
    return {name: _picture(comparison, *what) for name, what in labels.items()}


def _picture(comparison: Comparison, panels: Panels, panel: Panel, x: str, y: str) -> bytes:
    """Draws a panel for each environment, with one legend below."""
    groups = comparison.groups
    palette = colormaps["tab10"] if len(groups) <= 10 else colormaps["turbo"].resampled(len(groups))
    colours = {group: palette(number) for number, group in enumerate(groups)}
    columns = min(_COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    layout = ConstrainedLayoutEngine(hspace=0.06)
    height = _HEIGHT * lines + _LEGEND_HEIGHT * math.ceil(len(groups) / columns)
    figure = Figure(figsize=(_WIDTH * columns, height), layout=layout)
    for place, (environment, own) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(lines, columns, place, title=printable(environment))
        axes.set(xlabel=printable(x), ylabel=printable(y))
        ranked = [row.group for row in comparison.rows if row.environment == environment]
        panel(axes, {group: own[group] for group in ranked}, colours)
        axes.locator_params(axis="x", nbins=6)
        axes.spines[["top", "right"]].set_visible(False)
    handles = [
        Line2D([], [], color=colours[group], lw=2, label=printable(group)) for group in groups
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=_DPI)
    return png.getvalue()


def _curves(comparison: Comparison, over: str) -> dict[str, dict[str, list[np.ndarray]]]:
    """The runs' curves [N, 2] by environment and group; a group may have none."""
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for (group, environment), runs in comparison.cells.items():
        curves = [run.curve(comparison.metric, over) for run in runs]
        found.setdefault(environment, {})[group] = [curve for curve in curves if len(curve)]
    return found


def resample(curves: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns x [G] and the values [G, N] of N curves there, where all of them have been.

    Between two points of a curve [*, 2] its values lie on a line. G is 1 where they have only one.
    """
    low, high = max(curve[0, 0] for curve in curves), min(curve[-1, 0] for curve in curves)
    grid = np.linspace(low, high, _POINTS) if low < high else np.array([low])
    return grid, np.stack([np.interp(grid, *curve.T) for curve in curves], axis=1)


def first_reached(curve: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Returns the x at which a curve [N, 2] is first at each level [L] or above; nan: never."""
    best = np.maximum.accumulate(curve[:, 1])
    return np.append(curve[:, 0], np.nan)[np.searchsorted(best, levels)]


def over_time(axes: Axes, groups: Mapping[str, list[np.ndarray]], colours: Colours) -> None:
    """Draws each run's curve [N, 2], and the groups' IQM with its interval."""
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    for group, curves in groups.items():
        if not curves:
            continue
        for curve in curves:
            axes.plot(*curve.T, _dot(curve), color=colours[group], lw=0.6, alpha=0.35)
        grid, values = resample(curves)
        axes.plot(grid, statistics.iqm(values), _dot(grid), color=colours[group], lw=2)
        ends = statistics.interval(statistics.iqm, [values], _RESAMPLES)
        axes.fill_between(grid, *ends, color=colours[group], alpha=0.2, lw=0)


def _dot(points: np.ndarray) -> str:
    """How to draw points [N, *]: one alone would be no line."""
    return "o-" if len(points) == 1 else "-"


def _efficiency(axes: Axes, groups: Mapping[str, list[np.ndarray]], colours: Colours) -> None:
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    every = [curve for curves in groups.values() for curve in curves]
    if not every:
        return
    lowest = min(curve[0, 1] for curve in every)
    levels = np.linspace(lowest, max(curve[:, 1].max() for curve in every), _POINTS)
    for group, curves in groups.items():
        if not curves:
            continue
        steps = np.array([first_reached(curve, levels) for curve in curves])
        axes.step(levels, steps.T, color=colours[group], lw=0.6, alpha=0.35)
        median = np.median(np.nan_to_num(steps, nan=np.inf), axis=0)
        axes.step(levels, np.where(np.isinf(median), np.nan, median), color=colours[group], lw=2)


def _profiles(axes: Axes, groups: Mapping[str, list[np.ndarray]], colours: Colours) -> None:
    every = np.concatenate([scores for strata in groups.values() for scores in strata])
    margin = 0.05 * np.ptp(every) or 1.0
    levels = np.array([every.min() - margin, *np.unique(every), every.max() + margin])
    for group, strata in groups.items():
        above = [(scores > levels[:, None]).astype(float) for scores in strata]
        axes.step(levels, statistics.mean(*above), where="post", color=colours[group], lw=2)
        ends = statistics.interval(statistics.mean, above, _RESAMPLES)
        axes.fill_between(levels, *ends, step="post", color=colours[group], alpha=0.2, lw=0)


def _scores(axes: Axes, groups: Mapping[str, list[np.ndarray]], colours: Colours) -> None:
    for place, (group, strata) in enumerate(groups.items()):
        values = np.concatenate(strata)
        iqm = statistics.estimate(statistics.iqm, strata)
        axes.plot(values, np.full(len(values), place), "o", color=colours[group], alpha=0.35)
        axes.plot(iqm[1:], [place, place], color=colours[group], lw=3, alpha=0.6)
        axes.plot(iqm.value, place, "D", color=colours[group])
    axes.set_yticks([])
    axes.set_ylim(len(groups) - 0.5, -0.5)
