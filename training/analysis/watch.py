"""Runs in a terminal while they train: where each stands, and its curve.

    watch(["runs"])         # until all have ended

It reads what the runs have written, so it works from another terminal, after a crash, on copies.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ...core.errors import RunError, require
from ...core.printable import printable
from ..storage import layout, stored_run
from ..storage.atomic_files import disk
from ..storage.stored_run import StoredRun
from .terminal import cell, clock, wide_console

INTERVAL_SECONDS = 1.0
SILENT_SECONDS = 60
"""A run that has written nothing for so long is called silent: it is slow, or it was killed."""
DAMAGED = "damaged"
COLOURS = (12, 10, 9, 11, 13, 14)
"""Of the curves, as numbers of the terminal's palette; as many runs are drawn."""
_FILES = (layout.CONFIG, layout.SUMMARY, layout.METRICS)
_CHART_LINES, _WIDE = 14, 100  # the second where there is no terminal to ask


class Look(NamedTuple):
    """A run at a moment.

    Attributes:
        run: what it has written.
        stamp: time (ns) and size of each of its files; the run is read again when these change.
    """

    run: StoredRun
    stamp: tuple[tuple[int, int], ...]

    @property
    def ended(self) -> bool:
        """Whether it will write no more."""
        return self.run.status != "unfinished"

    @property
    def damage(self) -> str:
        """Why the run cannot be read; empty if it can."""
        return str(self.run.summary["reason"]) if self.run.status == DAMAGED else ""

    @property
    def status(self) -> str:
        """finished, interrupted, failed, damaged, running, or silent and for how long."""
        if self.ended:
            return self.run.status
        quiet = time.time() - max(written for written, _ in self.stamp) / 1e9
        return "running" if quiet < SILENT_SECONDS else f"silent {clock(quiet)}"


def watch(
    selections: Sequence[str | Path],
    metric: str = "evaluate/return",
    once: bool = False,
    console: Console | None = None,
) -> None:
    """Shows runs, and those that join them, until all have ended.

    Args:
        selections: runs' folders, and folders with runs at any depth.
        metric: what the curves show.
        once: show them as they are now and return.
        console: where to.

    Raises:
        ValueError: no run there, or the curves' package is not installed.
        RunError: all runs are damaged.
    """
    require("neuraxis watch", "plotext")
    console = console or wide_console(_WIDE)
    looks = look(selections, {})
    if once:
        console.print(view(looks, metric, console.width))
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            room = console.height - _CHART_LINES - 6 if console.is_terminal else None
            live.update(view(looks, metric, console.width, room), refresh=True)
            if all(each.ended for each in looks.values()):
                return
            time.sleep(INTERVAL_SECONDS)
            looks = look(selections, looks)


def look(selections: Iterable[str | Path], before: dict[Path, Look]) -> dict[Path, Look]:
    """Reads the runs that have changed since `before`; a damaged one does not hide the others.

    Raises:
        ValueError: no run there.
        RunError: all of them are damaged.
    """
    looks = {}
    for selection in selections:
        for folder in layout.below(selection):
            stamp = _stamp(folder)
            known = before.get(folder)
            changed = known is None or known.stamp != stamp
            looks[folder] = Look(_read(folder), stamp) if changed else known
    if reasons := [each.damage for each in looks.values() if each.damage]:
        if len(reasons) == len(looks):
            raise RunError(reasons[0])
    return looks


def _read(folder: Path) -> StoredRun:
    """The run; of one that is damaged only the reason."""
    try:
        return stored_run.read(folder)
    except (ValueError, RunError) as error:
        damage = {"status": DAMAGED, "reason": str(error), "steps": 0}
        return StoredRun(str(folder), {}, damage, ())


def _stamp(folder: Path) -> tuple[tuple[int, int], ...]:
    with disk(folder):
        found = [(folder / name).stat() for name in _FILES if (folder / name).exists()]
    return tuple((stat.st_mtime_ns, stat.st_size) for stat in found)


def view(looks: dict[Path, Look], metric: str, width: int, room: int | None = None) -> Group:
    """The table, and the curves of its first runs.

    Args:
        looks: the runs by folder.
        metric: what the curves show.
        width: of the terminal, in columns.
        room: lines for runs; those that have ended give way to others. None: no limit.
    """
    order = sorted(looks, key=lambda folder: looks[folder].ended)  # else by name, as they come
    shown = order if room is None else order[: max(room, len(COLOURS))]
    common = os.path.commonpath([folder.absolute().parent for folder in looks])
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("run", overflow="fold")
    table.add_column("status")
    for name in ("steps", "", "steps/s", "return", metric, "best", "time", "left"):
        least = min(len(name), 8)
        table.add_column(cell(name), justify="right", overflow="fold", min_width=least)
    for place, folder in enumerate(shown):
        colour = f"color({COLOURS[place]})" if place < len(COLOURS) else "default"
        name = os.path.relpath(folder.absolute(), common)
        table.add_row(Text(printable(name), colour), *map(cell, _cells(looks[folder], metric)))
    if len(shown) < len(order):
        table.caption = f"and {len(order) - len(shown)} more"
    drawn = [looks[folder] for folder in shown[: len(COLOURS)]]
    damage = [cell(looks[folder].damage) for folder in shown if looks[folder].damage]
    return Group(table, *damage, _chart(drawn, metric, width))


def _cells(look: Look, metric: str) -> list[str]:
    run = look.run
    curve = run.curve(metric)
    seconds = run.score("time/seconds") or 0.0
    rate = run.score("time/steps_per_second") or 0.0
    if look.ended and seconds:
        rate = run.steps / seconds  # of the whole run, not of its last moment
    left = (run.total_steps - run.steps) / rate if rate and not look.ended else 0.0
    episode, score = run.score("episode/return"), run.score(metric)
    return [
        look.status,
        f"{run.steps:,}",
        f"{min(run.steps / max(run.total_steps, 1), 1):.0%}",
        f"{rate:,.0f}" if rate else "",
        "" if episode is None else f"{episode:.4g}",
        "" if score is None else f"{score:.4g}",
        f"{curve[:, 1].max():.4g}" if len(curve) else "",
        clock(seconds),
        clock(left) if left > 0 else "",
    ]


def _chart(looks: Sequence[Look], metric: str, width: int) -> Text:
    """Curves over steps, each in the colour of its line in the table."""
    import plotext

    curves = [look.run.curve(metric) for look in looks]
    if not any(map(len, curves)):
        ended = all(look.ended for look in looks)
        return cell(f"no curve of {metric}" if ended else f"no {metric} yet")
    plotext.terminal.limit(False, False)
    figure = plotext.figure
    figure.clear()
    figure.theme("colorless")
    figure.plot_size(width, _CHART_LINES)
    for curve, colour in zip(curves, COLOURS, strict=False):
        if len(curve):
            line = figure.signal(*curve.T.tolist(), marker=plotext.marker("braille", colour))
            figure.draw(line.lines())
    end = max(max(look.run.total_steps, look.run.steps) for look in looks)
    ticks = [end * quarter // 4 for quarter in range(5)]
    figure.ruler("x").lim(0, end)
    figure.ruler("x").ticks(ticks, [f"{tick:,}" for tick in ticks])
    return Text.from_ansi(str(figure.build()))
