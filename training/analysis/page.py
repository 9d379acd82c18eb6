"""A comparison as files: a page for a browser, its table, and its pictures as PNG.

The page is one file that loads nothing, for Plotly is in it: about 5 MB. Import this where files
are wanted; matplotlib, Plotly and Jinja come with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2
from plotly.offline import get_plotlyjs

from ..storage.stored_run import StoredRun
from .charts import draw
from .compare import Comparison, of_best
from .figures import DETAIL, panels
from .pictures import DRAWN, FEW, SENTENCES, Picture, drawn, pictures, styles
from .report import HEADINGS, cells, table_csv, title

PAGE, TEMPLATE = "report.html", "report.html.jinja"
STROKES = {"solid": "", "dash": "8 4", "dot": "3 3", "dashdot": "8 3 2 3"}
"""Of the legend: lengths of strokes and gaps, as SVG has them."""


def render(comparison: Comparison) -> dict[str, bytes]:
    """Returns files by name: report.html, which needs no other one, table.csv and the pictures."""
    shown = pictures(comparison)
    return {
        PAGE: html(comparison, shown).encode(),
        "table.csv": table_csv(comparison.rows).encode(),
        **{f"{name}.png": png for name, png in draw(comparison, shown).items()},
    }


def html(comparison: Comparison, shown: Sequence[Picture]) -> str:
    """The page, one file of about 5 MB: Plotly is in it."""
    looks = styles(comparison.rows)
    first = drawn(comparison.rows)
    runs = [
        (*cell, run.config.get("seed", ""), *_both(run, comparison.metric), run.name)
        for cell, own in comparison.cells.items()
        for run in own
    ]
    pictures = [
        {
            "name": picture.name,
            "title": picture.name.replace("_", " ").capitalize(),
            "sentence": SENTENCES[picture.name],
            "switched": bool(picture.y),
            "panels": panels(picture, looks),
        }
        for picture in shown
    ]
    page = Path(__file__).with_name(TEMPLATE).read_text(encoding="utf-8")
    return (
        jinja2.Environment(autoescape=True, trim_blocks=True)
        .from_string(page)
        .render(
            title=title(comparison),
            comparison=comparison,
            headings=HEADINGS,
            rows=list(map(cells, comparison.rows)),
            looks=looks,
            strokes=STROKES,
            limit=DRAWN,
            few=FEW,
            detail=DETAIL,
            hidden=[str(n) for n, group in enumerate(looks) if group not in first],
            pictures=pictures,
            runs=runs,
            plotly=get_plotlyjs(),
        )
    )


def _both(run: StoredRun, metric: str) -> tuple[str, str]:
    """The metric of a run, and the same of its checkpoint `best` if there is such a metric."""
    best = run.score(of_best(metric)) if metric.startswith("evaluate/") else None
    return f"{run.score(metric):.6g}", "" if best is None else f"{best:.6g}"
