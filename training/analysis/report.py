"""A comparison as a table: in a terminal, and as CSV. `page` makes the page and the pictures."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from ...core.files import expanded
from ..storage.atomic_files import disk, write_bytes
from .compare import Comparison
from .statistics import Estimate
from .table import Row
from .terminal import Column, cell, clock, fit, wide_console

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


def title(comparison: Comparison) -> str:
    """What the comparison is of."""
    runs = sum(map(len, comparison.cells.values()))
    return f"{comparison.metric} of {runs} run{'s' if runs > 1 else ''}"


def _with_interval(estimate: Estimate, form: str = ".4g") -> str:
    value, low, high = (format(number, form) for number in estimate)
    return value if math.isnan(estimate.low) else f"{value} [{low}, {high}]"
