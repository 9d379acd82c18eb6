"""The rows of metrics.jsonl as they come, with the files that belong to them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ..storage import layout
from ..storage.atomic_files import disk


class LoggedRow(NamedTuple):
    """A line of metrics.jsonl."""

    values: Mapping[str, float]
    """What it says, `steps` included; null values are left out."""
    histograms: Path | None
    """The file with the histograms of its step; only the first line of a step has them."""
    film: Path | None
    """The film of its evaluation."""


class NewRows:
    """Reads a run's metrics.jsonl from its beginning, and goes on where it stopped.

    Args:
        folder: The run's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read = 0  # bytes
        self._steps = -1  # the most of the lines before

    def read(self) -> Iterator[LoggedRow]:
        """Gives the rows that have come since the last call. Raises RunError."""
        for line in self._lines():
            values = {k: value for k, value in json.loads(line).items() if value is not None}
            steps = int(values["steps"])
            histograms = layout.histogram_file(self._folder, steps)
            film = layout.film_file(self._folder.resolve(), steps)
            yield LoggedRow(
                values,
                histograms if steps > self._steps and histograms.exists() else None,
                film if "evaluate/return" in values and film.exists() else None,
            )
            self._steps = max(self._steps, steps)  # an evaluation may come late

    def _lines(self) -> Iterator[bytes]:
        """The whole lines that were not read yet."""
        path = self._folder / layout.METRICS
        with disk(path), path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):  # still being written
                    return
                self._read += len(line)
                yield line
