"""How tables, names and times look in a terminal, and where there is none.

    console.print(fit([Column("run"), Column("steps", number=True)], [("a", "1,000")], width))

A table that is too wide leaves out columns and shortens names, or it is stacked: the texts of a row
on a line of their own, its numbers below. What was left out is named; no number is ever cut.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ...core.printable import printable

WIDE = 10_000
"""Columns where there is no terminal: so many that no line is broken."""
_GAP, _INDENT = 2, 2
_HEADING = 8  # of a longer word in a heading, the rest is on the next line


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        number: whether it is a number, or as short: never broken, and right-justified.
        drop: of a number, its place among those left out where not all fit, from 1; 0: it stays.
        least: of a text, to how many characters it may be shortened in its middle; 0: never.
    """

    name: str
    number: bool = False
    drop: int = 0
    least: int = 0


Row = Sequence[str | Text]
_Texts = list[Text] | None


def wide_console(stderr: bool = False) -> Console:
    """A console on stdout; without a terminal it has as many columns as COLUMNS says, or `WIDE`."""
    console = Console(stderr=stderr)
    if not console.is_terminal and not os.environ.get("COLUMNS", "").isdecimal():
        console.width = WIDE
    return console


def cell(text: str | Text) -> Text:
    """Text for a table: no markup to rich, and nothing that steers the terminal."""
    return text if isinstance(text, Text) else Text(printable(text))


def fit(columns: Sequence[Column], rows: Sequence[Row | None], width: int) -> RenderableType:
    """Returns a table that is no wider than the terminal.

    Args:
        columns: what it shows.
        rows: their cells; None is a line between sections.
        width: of the terminal.
    """
    texts = [None if row is None else list(map(cell, row)) for row in rows]
    every = list(range(len(columns)))
    for heading in (width, _HEADING):
        widths = _widths(columns, texts, heading)
        if _total(every, widths) <= width:
            return _flat(columns, texts, widths, every)
    for place in (place for place in every if columns[place].least):
        short = [*widths]
        short[place] = min(columns[place].least, widths[place])
        kept = _kept(columns, every, short, width)
        short[place] = min(short[place] + width - _total(kept, short), widths[place])
        if _total(kept, short) <= width and _shorten(texts, place, short[place]):
            return Group(_flat(columns, texts, short, kept), *_left_out(columns, kept))
    return _stacked(columns, texts, widths, width)


def _widths(columns: Sequence[Column], rows: Sequence[_Texts], heading: int) -> list[int]:
    """What each column needs: its widest cell, and as much of each word of its heading."""
    headings = [printable(column.name).split() for column in columns]
    words = [max(map(cell_len, heading), default=0) for heading in headings]
    cells = zip(*(row for row in rows if row), strict=True)
    widest = [max(text.cell_len for text in own) for own in cells]
    least = [min(longest, heading) for longest in words]
    return [max(pair) for pair in zip_longest(least, widest, fillvalue=0)]


def _total(places: Sequence[int], widths: Sequence[int]) -> int:
    return sum(widths[place] + _GAP for place in places)


def _kept(
    columns: Sequence[Column], places: Sequence[int], widths: Sequence[int], width: int
) -> list[int]:
    """Those of the places that fit side by side."""
    kept = [*places]
    while _total(kept, widths) > width:
        droppable = [place for place in kept if columns[place].drop]
        if not droppable:
            break
        kept.remove(min(droppable, key=lambda place: columns[place].drop))
    return kept


def _left_out(columns: Sequence[Column], kept: Sequence[int]) -> list[Text]:
    """A line that names the columns of numbers that are not shown, if there are any."""
    names = [c.name for place, c in enumerate(columns) if c.number and place not in kept]
    return [Text(printable(f"no room for: {', '.join(names)}"), "dim")] if names else []


def _shorten(rows: Sequence[_Texts], place: int, width: int) -> bool:
    """Shortens a column's texts; False, and nothing is changed, if two would look the same."""
    whole = [row[place] for row in rows if row]
    short = [Text(shortened(text.plain, width), text.style) for text in whole]
    if len({text.plain for text in short}) < len({text.plain for text in whole}):
        return False
    for row, text in zip(filter(None, rows), short, strict=True):
        row[place] = text
    return True


def shortened(text: str, width: int) -> str:
    """A text with `…` in place of its middle where it is longer."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def _flat(
    columns: Sequence[Column],
    rows: Sequence[_Texts],
    widths: Sequence[int],
    kept: Sequence[int],
) -> Table:
    """Each row on one line."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, _GAP - 1, 0, 0), pad_edge=False)
    for place in kept:
        justify = "right" if columns[place].number else "left"
        name = cell(columns[place].name)
        table.add_column(name, justify=justify, overflow="fold", width=widths[place])
    for row in rows:
        if row is None:
            table.add_section()
        else:
            table.add_row(*(row[place] for place in kept))
    return table


def _stacked(
    columns: Sequence[Column], rows: Sequence[_Texts], widths: Sequence[int], width: int
) -> Group:
    """The texts of each row on a line of their own, and the numbers that fit below."""
    texts = [place for place, column in enumerate(columns) if not column.number]
    numbers = [place for place, column in enumerate(columns) if column.number]
    kept = _kept(columns, numbers, widths, width - _INDENT + _GAP)

    def lines(row: Sequence[Text]) -> list[RenderableType]:
        grid = Table(box=None, show_header=False, padding=(0, _GAP, 0, 0), pad_edge=False)
        for place in kept:
            grid.add_column(justify="right", overflow="fold", width=widths[place])
        grid.add_row(*(row[place] for place in kept))
        above = _side_by_side([row[place] for place in texts if row[place]], width)
        return [*above, Padding(grid, (0, 0, 0, _INDENT), expand=False)]

    rule = Text("─" * width, "dim")
    parts = [*lines([Text(printable(column.name), "bold") for column in columns]), rule]
    for row in rows:
        parts += [rule] if row is None else lines(row)
    return Group(*parts, *_left_out(columns, kept))


def _side_by_side(texts: Sequence[Text], width: int) -> list[Text]:
    """Lines of texts, as many on each as fit."""
    found: list[Text] = []
    for text in texts:
        if found and found[-1].cell_len + _GAP + text.cell_len <= width:
            found[-1] = Text(" " * _GAP).join([found[-1], text])
        else:
            found.append(text)
    return found


def clock(seconds: float) -> str:
    """Seconds as `M:SS` or `H:MM:SS`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{second:02}" if hours else f"{minutes}:{second:02}"
