"""Live progress on stderr: of a run, and of an evaluation."""

import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from .analysis.terminal import clock
from .callbacks import Callback
from .storage.run import Run
from .storage.run_folder import Status

PLAIN_SECONDS = 10
"""Without a terminal: seconds between lines; a tenth of the run prints one, too."""


def _is_live(console: Console) -> bool:
    """Whether it can change what it has shown; in a notebook rich needs ipywidgets for that."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


def _bar(console: Console) -> Progress:
    """A bar that is gone when it has stopped; nothing where the console is not live."""
    return Progress(
        SpinnerColumn(),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:3.0f}%  {task.description}"),
        console=console,
        disable=not _is_live(console),
        transient=True,
    )


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


class EvaluationDisplay:
    """Shows how many episodes of an evaluation were played; a `Watch`, inside of `with`."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.printed = time.monotonic()
        self.bar = _bar(self.console)
        self.task = self.bar.add_task("", total=None)

    def __enter__(self) -> "EvaluationDisplay":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def __call__(self, played: int, wanted: int) -> bool:
        """Shows it; never breaks the evaluation off."""
        line = f"{played:,}/{wanted:,} episodes"
        if not self.bar.disable:
            self.bar.update(self.task, completed=played, total=wanted, description=line)
        elif time.monotonic() - self.printed >= PLAIN_SECONDS:
            self.printed = time.monotonic()
            _say(self.console, line)
        return False


class ProgressDisplay(Callback):
    """Shows where a run stands.

    On a terminal or in a notebook a bar; elsewhere, and in a notebook without ipywidgets, a line
    about every ten seconds or tenth of the run. A terminal that is gone ends no run.

    Args:
        total_steps: Environment steps of the whole run.
        console: Where to.
    """

    def __init__(self, total_steps: int, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.total_steps = total_steps
        self.start: tuple[float, int] | None = None
        self.printed = (time.monotonic(), 0)
        self.bar = _bar(self.console)
        self.task = self.bar.add_task("the first rollout", total=total_steps)

    def on_start(self, run: Run) -> None:
        """Shows the bar."""
        self.bar.start()

    def on_update(self, run: Run, metrics: Mapping[str, Any]) -> None:
        """Shows where the run stands."""
        now = time.monotonic()
        if self.start is None:
            self.start = (now, run.steps)
        self._show(run, now, self._tenth(run), self._line(run, now))

    def on_play(self, run: Run, played: int, wanted: int) -> None:
        """Shows where its evaluation stands."""
        steps = f"{min(run.steps, self.total_steps):,}/{self.total_steps:,} steps"
        line = f"{steps}  evaluation: {played:,}/{wanted:,} episodes"
        self._show(run, time.monotonic(), False, line)

    def on_end(self, run: Run, status: Status) -> None:
        """Takes the bar away."""
        with suppress(OSError):
            self.bar.stop()

    def _show(self, run: Run, now: float, due: bool, line: str) -> None:
        """Shows the line on the bar, else prints it where one is `due` or the last one is old."""
        if not self.bar.disable:
            self.bar.update(self.task, completed=run.steps, description=line)
        elif due or now - self.printed[0] >= PLAIN_SECONDS:
            self.printed = (now, run.steps)
            with suppress(OSError):
                _say(self.console, line)

    def _tenth(self, run: Run) -> bool:
        """Whether the run has come a tenth further, or to its end."""
        tenth = (run.steps - self.printed[1]) * 10 >= self.total_steps
        return tenth or run.steps >= self.total_steps

    def _line(self, run: Run, now: float) -> str:
        parts = [f"{min(run.steps, self.total_steps):,}/{self.total_steps:,} steps"]
        begin, steps = self.start or (now, run.steps)
        rate = (run.steps - steps) / max(now - begin, 1e-9)
        if rate:
            parts.append(f"{rate:,.0f} steps/s")
        if (value := run.latest.get("episode/return")) is not None:
            parts.append(f"return {value:.4g}")
        if run.steps >= self.total_steps:
            parts.append("final evaluation")
        elif rate:
            left = (self.total_steps - run.steps) / rate
            parts.append(f"ETA {clock(left)}")
        return "  ".join(parts)
