"""Pictures of a comparison for Plotly in a browser: `data` and `layout` of each panel, as JSON."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...core.printable import printable
from .pictures import Picture, Shape, Style, wrapped

DETAIL = "detail"
"""The `meta` of traces that the page hides among many groups: single runs, and profiles' bands."""
_MOST = 400  # points of a run: a screen shows no more
_DIGITS = 6
_HEIGHT, _LINE, _SPACE = 360, 16, 10  # pixels: a panel, a line of a name, between two names
_AXIS = {"gridcolor": "#e4e4e4", "zeroline": False, "linecolor": "#888", "automargin": True}


def panels(picture: Picture, looks: Mapping[str, Style]) -> list[dict[str, Any]]:
    """Returns a Plotly figure for each environment, with its name.

    A trace has the number of its group as `legendgroup`, for the page's own legend.

    Args:
        picture: what is drawn.
        looks: the styles of all groups, in the order of that legend.
    """
    numbers = {group: str(number) for number, group in enumerate(looks)}
    traces = _lines if picture.y else _rows
    return [
        {
            "environment": environment,
            "data": [
                trace | {"legendgroup": numbers[group], "showlegend": False}
                for place, (group, shape) in enumerate(shapes.items())
                for trace in traces(picture, place, group, shape, looks[group])
            ],
            "layout": _layout(picture, list(shapes)),
        }
        for environment, shapes in picture.panels.items()
    ]


def _layout(picture: Picture, groups: Sequence[str]) -> dict[str, Any]:
    x: dict[str, Any] = _AXIS | {"title": {"text": _text(picture.x)}}
    y: dict[str, Any] = _AXIS | {"title": {"text": _text(picture.y)}}
    for name, axis in (("x", x), ("y", y)):
        if picture.counted == name:
            axis |= {"rangemode": "tozero", "tickformat": "~s"}
    height = _HEIGHT
    if not picture.y:
        names = ["<br>".join(map(html.escape, wrapped(group))) for group in groups]
        lines = max(name.count("<br>") + 1 for name in names)
        places = list(range(len(groups)))
        y |= {"tickvals": places, "ticktext": names, "range": [len(groups) - 0.5, -0.5]}
        height = 120 + (_LINE * lines + _SPACE) * len(groups)
    return {
        "height": height,
        "xaxis": x,
        "yaxis": y,
        "hovermode": "closest",
        "hoverlabel": {"namelength": -1, "align": "left"},
        "plot_bgcolor": "#fff",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#222"},
        "margin": {"l": 60, "r": 20, "t": 34, "b": 50},
    }


def _lines(
    picture: Picture, place: int, group: str, shape: Shape, look: Style
) -> Iterator[dict[str, Any]]:
    """The band, the runs and the group's own curve."""
    bent = {"": "linear", "pre": "vh", "post": "hv"}[picture.step]
    line = {"color": look.colour, "shape": bent}
    x = shape.middle[:, 0]
    if np.isfinite(shape.low).any():
        sides = {"mode": "lines", "hoverinfo": "skip", "line": line | {"width": 0}}
        sides |= {"meta": DETAIL if picture.step else ""}
        yield sides | {"x": _numbers(x), "y": _numbers(shape.low)}
        filled = {"fill": "tonexty", "fillcolor": f"{look.colour}26"}
        yield sides | filled | {"x": _numbers(x), "y": _numbers(shape.high)}
    for name, curve in shape.runs.items():
        kept = curve[:: math.ceil(len(curve) / _MOST)]
        yield {
            **_points(kept, mode="lines" if len(kept) > 1 else "markers"),
            "line": line | {"width": 0.8},
            "marker": {"color": look.colour, "size": 6},
            "opacity": 0.4,
            "meta": DETAIL if len(x) else "",
            "hovertemplate": f"<b>{_text(group)}</b><br>{_text(name)}<br>{_values(picture)}"
            "<extra></extra>",
        }
    if not len(x):
        return
    ends = "" if math.isnan(shape.low[0]) else " [%{customdata[0]:.4g}, %{customdata[1]:.4g}]"
    yield {
        **_points(shape.middle, mode="lines" if len(x) > 1 else "markers"),
        "customdata": [_numbers(pair) for pair in zip(shape.low, shape.high, strict=True)],
        "line": line | {"width": 2.5, "dash": look.dash},
        "marker": {"color": look.colour, "size": 9, "symbol": "diamond"},
        "hovertemplate": f"<b>{_text(group)}</b><br>{_values(picture)}{ends}<extra></extra>",
    }


def _rows(
    picture: Picture, place: int, group: str, shape: Shape, look: Style
) -> Iterator[dict[str, Any]]:
    """The interval, the runs and the group's own score, in the row of the group."""
    value, low, high = (float(part) for part in (shape.middle[0, 0], shape.low[0], shape.high[0]))
    ends = "" if math.isnan(low) else f" [{low:.4g}, {high:.4g}]"
    if ends:
        yield {
            "x": _numbers([low, high]),
            "y": [place, place],
            "mode": "lines",
            "line": {"color": look.colour, "width": 5},
            "opacity": 0.5,
            "hoverinfo": "skip",
        }
    yield {
        "x": _numbers([curve[0, 0] for curve in shape.runs.values()]),
        "y": [place] * len(shape.runs),
        "text": [_text(name) for name in shape.runs],
        "mode": "markers",
        "marker": {"color": look.colour, "size": 8, "opacity": 0.4},
        "hovertemplate": f"<b>{_text(group)}</b><br>%{{text}}<br>%{{x:.4g}}<extra></extra>",
    }
    yield {
        "x": _numbers([value]),
        "y": [place],
        "mode": "markers",
        "marker": {"color": look.colour, "size": 11, "symbol": "diamond"},
        "hovertemplate": f"<b>{_text(group)}</b><br>IQM {value:.4g}{ends}<extra></extra>",
    }


def _values(picture: Picture) -> str:
    x, y = (",.0f" if picture.counted == axis else ".4g" for axis in ("x", "y"))
    return f"{_text(picture.x)} %{{x:{x}}}<br>{_text(picture.y)} %{{y:{y}}}"


def _points(curve: np.ndarray, mode: str) -> dict[str, Any]:
    return {"x": _numbers(curve[:, 0]), "y": _numbers(curve[:, 1]), "mode": mode}


def _numbers(values: Any) -> list[float | None]:
    """With few digits; null is a gap."""
    return [float(f"{v:.{_DIGITS}g}") if math.isfinite(v) else None for v in values]


def _text(label: str) -> str:
    """A label for Plotly, which would read markup."""
    return html.escape(printable(label))
