"""How tables and times look in a terminal, and where there is none."""

from rich.console import Console
from rich.text import Text

from ...core.printable import printable

WIDE = 200
"""Columns of a table without a terminal: so many that no line is broken."""


def wide_console(width: int = WIDE) -> Console:
    """A console on stdout; without a terminal it has so many columns."""
    console = Console()
    if not console.is_terminal:
        console.width = width
    return console


def cell(text: str) -> Text:
    """Text for a table: no markup to rich, and nothing that steers the terminal."""
    return Text(printable(text))


def clock(seconds: float) -> str:
    """Seconds as `M:SS` or `H:MM:SS`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{second:02}" if hours else f"{minutes}:{second:02}"
