"""A run as TensorBoard reads it: an event file made of the run's folder.

The file is not continued but written again from the first row whenever a run starts or goes on.
So it never has rows that a resume has cut off, and lacks none after a failure.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ...configs.groups import read_file
from ...configs.text import brief, dump, plain
from ...core.errors import Guard, RunError, require
from ...core.secret_values import masked
from ..film import write_gif
from ..storage import layout, stored_run
from ..storage.atomic_files import disk, read_json
from .new_rows import LoggedRow, NewRows

OURS = "events.out.tfevents.*.neuraxis"
"""Event files that may be emptied and deleted, because they are made of a run's folder."""
SHOWN = "evaluate/return", "final/return", "best/return"
"""Metrics in the table of hyperparameters."""


class TensorBoardMirror:
    """Copies a run's folder into an event file, in the thread that asks for it.

    PyTorch's SummaryWriter would write in a thread of its own, which prints a traceback when the
    disk is full.

    Args:
        folder: The run's.
        target: Where the event file is put; one of ours that is there is emptied.

    Raises:
        RunError: The run is damaged, or the disk refuses.
        ValueError: Its config.yaml cannot be read.
    """

    def __init__(self, folder: Path, target: Path) -> None:
        self._new = NewRows(folder)
        self._begin = _begin(folder)
        self._file = target / OURS.replace("*", str(time.time_ns()))
        with disk(target):
            target.mkdir(parents=True, exist_ok=True)
            for file in target.glob(OURS):
                _empty(file)
        self._write(_opening(folder, self._begin))

    def send(self) -> None:
        """Writes the rows that have come since the last call. Raises RunError."""
        self._write(map(self._event, self._new.read()))

    def _write(self, events: Iterator[Any]) -> None:
        from torch.utils.tensorboard import RecordWriter

        with disk(self._file), self._file.open("ab") as file:
            records: Any = RecordWriter(file)
            for event in events:
                records.write(event.SerializeToString())

    def _event(self, row: LoggedRow) -> Any:
        """One event with all that a row has."""
        from torch.utils.tensorboard import summary

        event = _records().Event(
            step=int(row.values["steps"]),
            wall_time=self._begin + row.values.get("time/seconds", 0.0),
        )
        for name, value in row.values.items():
            if name != "steps":
                event.summary.value.add(tag=name, simple_value=value)
        if row.histograms is not None:
            for name, (counts, edges) in json.loads(row.histograms.read_text()).items():
                event.summary.MergeFrom(summary.histogram_raw(name, *_moments(counts, edges)))
        if row.film is not None:
            event.summary.value.add(tag="videos/evaluate", image=_picture(row.film))
        return event


def export(path: str | Path, out: Path) -> Path:
    """Writes a run's event file into a new folder, `out`/NAME with the name of the run's folder.

    Args:
        path: The run's folder.
        out: Where its folder is put; TensorBoard shows all runs in it.

    Raises:
        ValueError: No such run, or there is a folder of its name.
        RunError: The run is damaged, or the disk refuses; nothing is left then.
    """
    require("--tensorboard", "tensorboard")
    folder = layout.find(path)
    stored_run.read(folder)  # whether its rows can be read
    target = out / folder.resolve().name
    if target.exists():
        raise ValueError(f"--tensorboard {out}: {target} exists; give another folder")
    with disk(out):
        out.mkdir(parents=True, exist_ok=True)
        holder = tempfile.TemporaryDirectory(prefix=".tensorboard-", dir=out)
    with holder, Guard(lambda: f"{folder}: TensorBoard", RunError):
        whole = Path(holder.name, target.name)
        TensorBoardMirror(folder, whole).send()
        with disk(target):
            whole.rename(target)
    return target


def _empty(file: Path) -> None:
    """Empties an event file; one that is empty is deleted, and so is a link to another file.

    A TensorBoard that is open goes on to the next file only if this one is still there.
    """
    if not file.is_symlink() and file.stat().st_size:
        os.truncate(file, 0)
    else:
        file.unlink()


def _records() -> Any:
    """The module of the records in an event file, which its compiler has given no types."""
    return import_module("tensorboard.compat.proto.event_pb2")


def _begin(folder: Path) -> float:
    """When the run began, in seconds since 1970; 0 if its folder does not say it."""
    with suppress(ValueError):
        return datetime.fromisoformat(str(read_json(folder / layout.META).get("time"))).timestamp()
    return 0.0


def _opening(folder: Path, begin: float) -> Iterator[Any]:
    """What stands before the rows: the format, a new start, and the settings in two forms."""
    from torch.utils.tensorboard import summary

    event, log = _records().Event, _records().SessionLog
    yield event(wall_time=begin, file_version="brain.Event:2")
    # A TensorBoard that is open forgets what it has read of the file that was there.
    yield event(wall_time=begin, session_log=log(status=log.START))
    file = folder / layout.CONFIG
    settings = masked(read_file(file, str(file)))
    yield event(wall_time=begin, summary=summary.text("config", f"```yaml\n{dump(settings)}```"))
    flat = {key: _cell(value) for key, value in stored_run.flatten(settings).items()}
    for one in summary.hparams(flat, dict.fromkeys(SHOWN))[:2]:  # the third says how it ended
        yield event(wall_time=begin, summary=one)


def _cell(value: Any) -> float | str:
    """A setting in the table of hyperparameters, which has numbers and text."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if number else brief(plain(value))


def _moments(counts: list[int], edges: list[float]) -> tuple[Any, ...]:
    """Least and largest value, number, sum, sum of squares, and upper edges and counts of the bins.

    The sums take each value for the middle of its bin.
    """
    middles = (np.array(edges[:-1]) + edges[1:]) / 2
    sums = (float(np.dot(counts, middles**power)) for power in (1, 2))
    return edges[0], edges[-1], sum(counts), *sums, edges[1:], counts


def _picture(film: Path) -> dict[str, Any]:
    """The film as a GIF: TensorBoard shows no other films."""
    with tempfile.TemporaryDirectory(prefix="film-") as folder:
        file = Path(folder, "film.gif")
        write_gif(film, file)
        gif = file.read_bytes()
    width, height = struct.unpack("<HH", gif[6:10])
    return {"width": width, "height": height, "colorspace": 3, "encoded_image_string": gif}
