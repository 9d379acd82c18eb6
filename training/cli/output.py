"""What a command prints when a run has ended: results, tables of two columns, next steps."""

import textwrap
from collections.abc import Mapping, Sequence

import click

from ...core.printable import printable

_NARROW = 30  # columns that a text needs to stand beside its name


def say(line: str, err: bool = False) -> None:
    """Print a line, of names that somebody else may have given."""
    click.echo(printable(line), err=err)


def results(metrics: Mapping[str, float], checkpoint: str | None = None) -> None:
    """Print the final evaluation and the cost of a run, as far as the metrics tell them.

    Args:
        metrics: Of the evaluation or of the run.
        checkpoint: Whose policy played, where it is a stored one.
    """
    rows = [] if checkpoint is None else [("checkpoint", checkpoint)]
    rows += [(f"{policy}/return", _returns(metrics, policy)) for policy in _policies(metrics)]
    for name, label, form in (
        ("evaluate/length", "evaluate/length", ".4g"),
        ("steps", "steps", ",.0f"),
        ("seconds", "seconds", ",.1f"),
        ("steps_per_second", "steps/s", ",.0f"),
    ):
        if name in metrics:
            rows.append((label, format(metrics[name], form)))
    columns(rows)


def _policies(metrics: Mapping[str, float]) -> list[str]:
    """`evaluate`, the newest policy, and `best` if another checkpoint was the best."""
    found = [policy for policy in ("evaluate", "best") if f"{policy}/return" in metrics]
    return found[:1] if metrics.get("best/steps") == metrics.get("steps") else found


def _returns(metrics: Mapping[str, float], policy: str) -> str:
    mean, std = metrics[f"{policy}/return"], metrics[f"{policy}/return_std"]
    count = round(metrics[f"{policy}/episodes"])
    over = f"over {count} episode{'s' if count > 1 else ''}"
    if cut := round(metrics.get(f"{policy}/cut", 0)):
        over += f", {cut} of them cut"
    if policy == "best":
        over += f", checkpoint of step {metrics['best/steps']:,.0f}"
        over += ", not above the newest" if mean <= metrics["evaluate/return"] else ""
    return f"{mean:.4g} ± {std:.4g} {over}"


def columns(rows: Sequence[tuple[str, str]]) -> None:
    """Print rows of a name and what belongs to it; long ones go on below, broken between words."""
    from ..analysis.terminal import wide_console

    screen = wide_console().width
    width = max((len(name) for name, _ in rows), default=0)
    beside = width + 4 + _NARROW <= screen
    indent = width + 4 if beside else 6
    whole_words = textwrap.TextWrapper(
        screen - indent, break_long_words=False, break_on_hyphens=False
    )
    for name, value in rows:
        lines = whole_words.wrap(printable(value)) or [""]
        label = f"  {click.style(printable(name).ljust(width), fg='cyan')}"
        click.echo(f"{label}  {lines.pop(0)}" if beside else label)
        for line in lines:
            click.echo(" " * indent + line)


def next_steps(commands: Sequence[tuple[str, str]]) -> None:
    """Print commands to try, each with what it does: beside it, else above. They stay whole."""
    from ..analysis.terminal import wide_console

    width = max(len(command) for command, _ in commands)
    longest = max(len(purpose) for _, purpose in commands)
    beside = width + longest + 6 <= wide_console().width
    click.echo("next:")
    for command, purpose in commands:
        if beside:
            say(f"  {command:{width}}  # {purpose}")
        else:
            say(f"  # {purpose}")
            say(f"  {command}")
