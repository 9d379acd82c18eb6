"""A sweep's trials as a table: live while it runs, and printed at its end.

Both are made of what lies in the sweep's folder, so they show a sweep that was resumed as well.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ...core.errors import RunError
from ..analysis.terminal import Column, cell, clock, fit, wide_console
from ..analysis.watch import Look, look
from ..sweeps.ranges import Parameters, show
from ..sweeps.sweep import BEST
from ..sweeps.trials import Sweep, Trial, ranked
from .output import next_steps, say


class SweepDisplay:
    """Shows how a sweep goes; the `say` of `sweeps.sweep.run`, inside of `with`.

    On a terminal the table of its trials, renewed every second, and the newest line; elsewhere
    every line.
    """

    def __init__(self, sweep: Sweep, console: Console | None = None) -> None:
        self.sweep = sweep
        self.console = console or wide_console(stderr=True)
        self.line = ""
        self.looks: dict[Path, Look] = {}
        self.shown: RenderableType = ""
        self.live = Live(
            console=self.console, get_renderable=self._view, refresh_per_second=1, transient=True
        )

    def __enter__(self) -> SweepDisplay:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def __call__(self, line: str) -> None:
        """Shows the line."""
        self.line = line
        if not self.console.is_terminal:
            say(line, err=True)

    def _view(self) -> RenderableType:
        """The table; the one of before while the disk refuses, which ends the sweep by itself."""
        try:
            trials = self.sweep.trials()
            self.looks = newest(self.sweep, self.looks)
        except RunError:
            return self.shown
        order = ranked(trials, self.sweep.config.mode)
        rows = _rows(self.sweep, order, self.looks)
        order.sort(key=lambda trial: bool(trial.ended or not _looks(trial, self.looks)))
        room = min(len(order), self.console.height)
        while True:  # leave out what has ended or has not begun, until the rest fits
            shown = sorted(order[:room], key=lambda trial: trial.name)
            more = [cell(f"and {len(order) - room} more")] if room < len(order) else []
            trials_table = table(self.sweep, shown, rows, self.console.width)
            self.shown = Group(trials_table, *more, cell(self.line))
            if room < 2 or len(self.console.render_lines(self.shown)) < self.console.height:
                return self.shown
            room -= 1


def newest(sweep: Sweep, before: dict[Path, Look]) -> dict[Path, Look]:
    """The runs of all trials by folder, {} while there is none. Raises RunError."""
    try:
        return look([sweep.folder], before)
    except ValueError:  # no trial has begun
        return {}


def table(
    sweep: Sweep, trials: Sequence[Trial], rows: Mapping[str, Sequence[Text]], width: int
) -> Group:
    """Returns the rows of the trials, by name, as a table, and below it why some have failed."""
    columns = [
        Column("trial"),
        Column("state"),
        Column(sweep.config.metric, number=True),
        Column("seeds", number=True, drop=1),
        Column("steps", number=True),
        Column("left", number=True, drop=2),
        Column("values"),
    ]
    reasons = [cell(f"{trial.name}: {trial.reason}") for trial in trials if trial.reason]
    return Group(fit(columns, [rows[trial.name] for trial in trials], width), *reasons)


def _rows(sweep: Sweep, order: Sequence[Trial], looks: dict[Path, Look]) -> dict[str, list[Text]]:
    """The row of each trial by its name; of trials in this order, the first one is marked."""
    total = sweep.base().total_steps * sweep.config.seeds
    rows = {}
    for trial in order:
        row = [cell(text) for text in _cells(trial, sweep.config.metric, total, looks)]
        if trial is order[0] and trial.score is not None:
            row[1] += Text(" (best)")
            for text in row:
                text.stylize("bold green")
        rows[trial.name] = row
    return rows


def _looks(trial: Trial, looks: dict[Path, Look]) -> list[Look]:
    """The trial's runs, by seed."""
    own = [each for folder, each in looks.items() if folder.parent == trial.place]
    return sorted(own, key=lambda each: int(each.run.config.get("seed", 0)))


def _cells(trial: Trial, metric: str, total: int, looks: dict[Path, Look]) -> list[str]:
    own = _looks(trial, looks)
    scores = [each.run.score(metric) for each in own]
    known = [score for score in scores if score is not None]
    score = trial.score if trial.ended or not known else sum(known) / len(known)
    going = next((each for each in own if not each.ended), None)
    steps = sum(each.run.steps for each in own)
    rate = (going and not trial.ended and going.run.score("time/steps_per_second")) or 0.0
    state = trial.ended or (going.status if going else "paused" if own else "waiting")
    return [
        trial.name,
        f"{state}, from {trial.origin}" if trial.origin else state,
        _number(score),
        " ".join(map(_number, scores)),
        f"{steps:,}/{total:,}",
        clock(max(total - steps, 0) / rate) if rate else "",
        " ".join(f"{name}={show(value)}" for name, value in _named(trial.parameters)),
    ]


def _named(parameters: Parameters) -> list[tuple[str, Any]]:
    """The values, by the last word of their keys where that tells them apart."""
    short = [key.rpartition(".")[2] for key in parameters]
    names = short if len({*short}) == len(short) else parameters
    return list(zip(names, parameters.values(), strict=True))


def _number(score: float | None) -> str:
    return "" if score is None else f"{score:.4g}"


def show_end(sweep: Sweep, trials: Sequence[Trial], place: str) -> None:
    """Prints the trials, the best first, and which commands come next. Raises RunError."""
    console = wide_console()
    rows = _rows(sweep, trials, newest(sweep, {}))
    console.print(table(sweep, trials, rows, console.width))
    say(f"sweep: {place}")
    steps = [(f"neuraxis compare {place}", "groups of seeds, with intervals")]
    if (sweep.folder / BEST).exists():
        best = shlex.quote(f"{place}/{BEST}")
        fresh = sweep.base().seed + sweep.config.seeds
        command = f"neuraxis train experiment={best} seed={fresh}"
        steps.insert(0, (command, f"the best values with fresh seeds: {fresh}, {fresh + 1}, ..."))
    next_steps(steps)
