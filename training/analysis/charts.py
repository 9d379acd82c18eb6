"""Pictures of a comparison as PNG: one panel an environment.

{name: png} = draw(comparison, pictures(comparison))
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from ...core.printable import printable
from .compare import Comparison
from .pictures import FEW, Picture, Shape, Style, drawn, styles, wrapped

_COLUMNS = 3
_WIDTH, _HEIGHT, _DPI = 4.4, 2.9, 110  # of a panel, in inches
_LINE, _CHARACTER = 0.2, 0.085  # height of a name's line and width of a character, in inches
_DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}

Styles = Mapping[str, Style]  # by group


@matplotlib.rc_context({"text.parse_math": False})  # a label is no formula
def draw(comparison: Comparison, pictures: Sequence[Picture]) -> dict[str, bytes]:
    """Returns the pictures by name, each a PNG; their lines are those of the best groups."""
    return {picture.name: _draw(comparison, picture) for picture in pictures}


def _draw(comparison: Comparison, picture: Picture) -> bytes:
    """Draws a panel for each environment; names are on an axis, or in a legend below."""
    looks = styles(comparison.rows)
    groups = drawn(comparison.rows) if picture.y else list(looks)
    columns = min(_COLUMNS if picture.y else 1, max(len(picture.panels), 1))
    lines = math.ceil(len(picture.panels) / columns)
    names = [len(group) for group in groups]
    width = max(_WIDTH * columns, _CHARACTER * max(names) + 1)
    beside = int(width / (_CHARACTER * max(names) + 1))  # names in a line of the legend
    height = _HEIGHT * lines + _LINE * (math.ceil(len(groups) / beside) + 1)
    if not picture.y:
        width, height = 2 * _WIDTH, 0.4
        for shapes in picture.panels.values():
            height += 0.9 + _LINE * len(shapes) * max(len(wrapped(group)) for group in shapes)
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(hspace=0.06))
    for place, (environment, shapes) in enumerate(picture.panels.items(), start=1):
        axes = figure.add_subplot(lines, columns, place, title=printable(environment))
        axes.set(xlabel=printable(picture.x), ylabel=printable(picture.y))
        shown = {group: shape for group, shape in shapes.items() if group in groups}
        (draw_lines if picture.y else _draw_rows)(axes, picture, shown, looks)
        axes.spines[["top", "right"]].set_visible(False)
    if picture.y:
        _add_legend(figure, groups, looks, beside)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=_DPI)
    return png.getvalue()


def _add_legend(figure: Figure, groups: Sequence[str], looks: Styles, columns: int) -> None:
    handles = [
        Line2D([], [], color=colour, ls=_DASHES[dash], lw=2, label=printable(group))
        for group, (colour, dash) in looks.items()
        if group in groups
    ]
    if more := len(looks) - len(groups):
        handles.append(Line2D([], [], lw=0, label=f"and {more} more, which scored less"))
    where = {"loc": "outside lower center", "frameon": False}
    figure.legend(handles=handles, ncols=columns, fontsize="small", **where)


def draw_lines(axes: Axes, picture: Picture, shapes: Mapping[str, Shape], looks: Styles) -> None:
    """Draws each run's curve, and the groups' with their intervals."""
    how = f"steps-{picture.step}" if picture.step else "default"
    for group, shape in shapes.items():
        colour, dash = looks[group]
        few = len(shapes) <= FEW
        for curve in shape.runs.values() if few or not len(shape.middle) else ():
            axes.plot(*curve.T, *_dot(curve), color=colour, lw=0.6, alpha=0.35, drawstyle=how)
        x, middle = shape.middle.T
        axes.plot(
            x, middle, *_dot(shape.middle), color=colour, ls=_DASHES[dash], lw=2, drawstyle=how
        )
        if few or not picture.step:
            ends, step = (shape.low, shape.high), picture.step or None
            axes.fill_between(x, *ends, step=step, color=colour, alpha=0.15, lw=0)
    axes.locator_params(axis="x", nbins=6)
    if picture.counted == "x":
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlim(left=0)
    elif picture.counted == "y":
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_ylim(bottom=0)


def _dot(points: np.ndarray) -> Sequence[str]:
    """One point alone would be no line."""
    return ("o",) if len(points) == 1 else ()


def _draw_rows(axes: Axes, picture: Picture, shapes: Mapping[str, Shape], looks: Styles) -> None:
    """Draws a row for each group, with its name on the axis."""
    for place, (group, shape) in enumerate(shapes.items()):
        colour = looks[group].colour
        values = [float(curve[0, 0]) for curve in shape.runs.values()]
        axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.35)
        axes.plot([*shape.low, *shape.high], [place, place], color=colour, lw=3, alpha=0.6)
        axes.plot(shape.middle[0, 0], place, "D", color=colour)
    axes.set_yticks(
        range(len(shapes)), ["\n".join(wrapped(group)) for group in shapes], fontsize="small"
    )
    axes.set_ylim(len(shapes) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=6)
