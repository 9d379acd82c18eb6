"""A comparison for people: the table in a terminal, and a folder with a page and its pictures.

Matplotlib and Jinja are imported where a page is made: the table alone answers at once.
"""

from __future__ import annotations

import base64
import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from ...core.files import expanded
from ..storage.atomic_files import disk, write_bytes
from ..storage.stored_run import StoredRun
from .compare import Comparison, of_best
from .statistics import Estimate
from .table import Row
from .terminal import Column, cell, clock, fit, wide_console

PAGE = "report.html"
COLUMNS = (
    Column("group"),
    Column("environment"),
    Column("seeds", number=True),
    Column("IQM [95 %]", number=True),
    Column("mean", number=True, drop=5),
    Column("median", number=True, drop=4),
    Column("P(first higher) [95 %]", number=True),
    Column("steps", number=True, drop=3),
    Column("wall", number=True, drop=2),
    Column("CPU", number=True, drop=1),
)
HEADINGS = [column.name for column in COLUMNS]


def show(comparison: Comparison, console: Console | None = None) -> None:
    """Prints the table, what it allows to conclude, and what to know about it."""
    console = console or wide_console()
    rows: list[list[str] | None] = []
    for environment in dict.fromkeys(row.environment for row in comparison.rows):
        own = [cells(row) for row in comparison.rows if row.environment == environment]
        rows += [None, *own] if rows else own
    lines = [*comparison.verdicts, *(f"note: {note}" for note in comparison.notes)]
    console.print(cell(title(comparison)))
    console.print(fit(COLUMNS, rows, console.width))
    for line in lines:
        console.print(cell(line), soft_wrap=True)


def render(comparison: Comparison) -> dict[str, bytes]:
    """Returns files by name: report.html, which needs no other one, table.csv and the pictures."""
    from .charts import draw

    pictures = draw(comparison)
    return {
        PAGE: html(comparison, pictures).encode(),
        "table.csv": table_csv(comparison.rows).encode(),
        **{f"{name}.png": png for name, png in pictures.items()},
    }


def write(files: Mapping[str, bytes], folder: Path) -> None:
    """Writes the files, each whole or not at all. Raises RunError."""
    folder = expanded(folder)
    with disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_bytes(folder / name, content)


def cells(row: Row) -> list[str]:
    """A line of the table as texts, in the order of `HEADINGS`."""
    return [
        row.group,
        row.environment,
        str(row.seeds),
        _with_interval(row.iqm),
        f"{row.mean.value:.4g}",
        f"{row.median.value:.4g}",
        "first" if row.improvement is None else _with_interval(row.improvement, ".2f"),
        "" if math.isnan(row.steps) else f"{row.steps:,.0f}",
        "" if math.isnan(row.seconds) else clock(row.seconds),
        "" if math.isnan(row.cpu_seconds) else clock(row.cpu_seconds),
    ]


def table_csv(rows: Sequence[Row]) -> str:
    """The table with all its digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    estimates = ("iqm", "mean", "median", "improvement")
    ends = [f"{name}{end}" for name in estimates for end in ("", "_low", "_high")]
    names = ("steps", "seconds", "cpu_seconds")
    writer.writerow(["group", "environment", "seeds", *ends, "p", *names])
    for row in rows:
        numbers = [number for name in estimates for number in getattr(row, name) or ("",) * 3]
        last = ["" if row.p is None else row.p, *(getattr(row, name) for name in names)]
        writer.writerow([row.group, row.environment, row.seeds, *numbers, *last])
    return text.getvalue()


def html(comparison: Comparison, pictures: Mapping[str, bytes]) -> str:
    """The page; the pictures are inside it."""
    import jinja2

    runs = [
        (*cell, run.config.get("seed", ""), *_both(run, comparison.metric), run.name)
        for cell, own in comparison.cells.items()
        for run in own
    ]
    return (
        jinja2.Environment(autoescape=True, trim_blocks=True)
        .from_string(_PAGE)
        .render(
            title=title(comparison),
            comparison=comparison,
            headings=HEADINGS,
            rows=list(map(cells, comparison.rows)),
            pictures={
                name.replace("_", " "): base64.b64encode(png).decode()
                for name, png in pictures.items()
            },
            runs=runs,
        )
    )


def _both(run: StoredRun, metric: str) -> tuple[str, str]:
    """The metric of a run, and the same of its checkpoint `best` if there is such a metric."""
    best = run.score(of_best(metric)) if metric.startswith("evaluate/") else None
    return f"{run.score(metric):.6g}", "" if best is None else f"{best:.6g}"


def title(comparison: Comparison) -> str:
    """What the comparison is of."""
    runs = sum(map(len, comparison.cells.values()))
    return f"{comparison.metric} of {runs} run{'s' if runs > 1 else ''}"


def _with_interval(estimate: Estimate, form: str = ".4g") -> str:
    value, low, high = (format(number, form) for number in estimate)
    return value if math.isnan(estimate.low) else f"{value} [{low}, {high}]"


_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{ title }}</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; max-width: 84rem; margin: 2rem auto; padding: 0 1rem }
div { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px }
th, td { padding: .25rem .7rem; text-align: right; white-space: nowrap }
th { border-bottom: 2px solid #888 }
td { border-bottom: 1px solid #ddd }
.text { text-align: left }
figure { display: inline-block; margin: 0 2rem 0 0; max-width: 100% }
img { max-width: 100% }
</style>
<h1>{{ title }}</h1>
{% for verdict in comparison.verdicts %}
<p><strong>{{ verdict }}</strong></p>
{% endfor %}
{% for note in comparison.notes %}
<p>{{ note }}</p>
{% endfor %}
<div><table>
<tr>{% for name in headings %}<th{% if loop.index < 3 %} class="text"{% endif %}>{{ name }}</th>
{% endfor %}</tr>
{% for row in rows %}
<tr>{% for cell in row %}<td{% if loop.index < 3 %} class="text"{% endif %}>{{ cell }}</td>
{% endfor %}</tr>
{% endfor %}
</table></div>
<p>IQM: mean of the middle half of the scores. Intervals: 95 %, bootstrap over the seeds of
each environment, of P that of Newcombe (2006); none with fewer than 5 seeds. P: probability that a
run of the first group scores higher than one of this group, ties counting half. p: of equal means,
by the test of Games and Howell (1976) for all groups of an environment. Agarwal et al. (2021), Deep
Reinforcement Learning at the Edge of the Statistical Precipice.</p>
{% for name, data in pictures.items() %}
<figure><h2>{{ name }}</h2>
<img alt="{{ name }}" src="data:image/png;base64,{{ data }}"></figure>
{% endfor %}
{% if comparison.differences %}
<h2>settings</h2>
<div><table>
<tr><th class="text">key</th>
{% for group in comparison.groups %}<th class="text">{{ group }}</th>{% endfor %}</tr>
{% for key, values in comparison.differences.items() %}
<tr><td class="text">{{ key }}</td>
{% for group in comparison.groups %}<td class="text">{{ values[group] }}</td>{% endfor %}</tr>
{% endfor %}
</table></div>
{% endif %}
<h2>runs</h2>
<div><table>
<tr><th class="text">group</th><th class="text">environment</th><th>seed</th><th>score</th>
<th>of checkpoint best</th><th class="text">run</th></tr>
{% for group, environment, seed, score, best, name in runs %}
<tr><td class="text">{{ group }}</td><td class="text">{{ environment }}</td><td>{{ seed }}</td>
<td>{{ score }}</td><td>{{ best }}</td><td class="text">{{ name }}</td></tr>
{% endfor %}
</table></div>
</html>
"""
