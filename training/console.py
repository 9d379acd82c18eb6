"""What a person sees of a run: live progress on stderr, tables and next steps on stdout."""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

if TYPE_CHECKING:
    from .run import Run

PLAIN_SECONDS = 10
"""Without a terminal: seconds between lines; a tenth of the run prints one, too."""
WIDE = 200
"""Columns of a table where there is no terminal to ask: each of its lines stays one."""


class Live:
    """Progress of a run, as a context manager; calling it with the run reports where that stands.

    On a terminal a bar; elsewhere a line about every ten seconds or tenth of the run.

    Args:
        total_steps: Environment steps of the whole run.
        quiet: Show nothing.
        console: Where to.
    """

    def __init__(self, total_steps: int, quiet: bool, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.total_steps = total_steps
        self.quiet = quiet
        self.start: tuple[float, int] | None = None
        self.printed = (time.monotonic(), 0)
        self.bar = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:3.0f}%  {task.description}"),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
            transient=True,
        )
        self.task = self.bar.add_task("the first rollout", total=total_steps)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def __call__(self, run: "Run") -> None:
        """Show where the run stands."""
        now = time.monotonic()
        if self.start is None:
            self.start = (now, run.steps)
        line = self._line(run, now)
        if not self.bar.disable:
            self.bar.update(self.task, completed=run.steps, description=line)
        elif not self.quiet and self._due(run, now):
            self.printed = (now, run.steps)
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _due(self, run: "Run", now: float) -> bool:
        then, steps = self.printed
        tenth = (run.steps - steps) * 10 >= self.total_steps
        return now - then >= PLAIN_SECONDS or tenth or run.steps >= self.total_steps

    def _line(self, run: "Run", now: float) -> str:
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


def clock(seconds: float) -> str:
    """Seconds as `M:SS` or `H:MM:SS`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{second:02}" if hours else f"{minutes}:{second:02}"


def results(metrics: Mapping[str, float]) -> None:
    """Print the final evaluation and the cost of a run, as far as the metrics tell them."""
    rows = []
    if "evaluate/return" in metrics:
        mean, std = metrics["evaluate/return"], metrics["evaluate/return_std"]
        count = round(metrics["evaluate/episodes"])
        over = f"over {count} episode{'s' if count > 1 else ''}"
        rows.append(("evaluate/return", f"{mean:.4g} ± {std:.4g} {over}"))
    for name, label, form in (
        ("evaluate/length", "evaluate/length", ".4g"),
        ("steps", "steps", ",.0f"),
        ("seconds", "seconds", ",.1f"),
        ("steps_per_second", "steps/s", ",.0f"),
    ):
        if name in metrics:
            rows.append((label, format(metrics[name], form)))
    columns(rows)


def columns(rows: Sequence[tuple[str, str]]) -> None:
    """Print rows of a name and what belongs to it, each on one line of its own."""
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        click.echo(f"  {click.style(name.ljust(width), fg='cyan')}  {value}")


def next_steps(commands: Sequence[tuple[str, str]]) -> None:
    """Print commands to try, each with what it does."""
    width = max(len(command) for command, _ in commands)
    click.echo("next:")
    for command, purpose in commands:
        click.echo(f"  {command:{width}}  # {purpose}")
