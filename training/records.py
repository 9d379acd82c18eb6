"""Runs as they are read: settings, summary and metrics, whether they lie here or at W&B.

    records = select(["runs/CartPole-v1", "wandb:team/project/group"], "evaluate/return")

Nothing is written, and nothing here waits for PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..configs.groups import read_file
from . import folders
from .files import disk, json_object, read_json

Row = Mapping[str, Any]
REMOTE = "wandb:"


@dataclass(frozen=True)
class Record:
    """A run that was made.

    Attributes:
        name: its folder, or `wandb:ENTITY/PROJECT/ID`.
        config: its settings by dotted key, see `flatten`.
        summary: the content of summary.json; {} while there is none.
        rows: the lines of metrics.jsonl, at W&B those with the metric that was asked for.
    """

    name: str
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    rows: Sequence[Row]

    @property
    def steps(self) -> int:
        """The last step that was logged."""
        return int(self.rows[-1]["steps"]) if self.rows else 0

    @property
    def total_steps(self) -> int:
        """The step where it ends."""
        return int(self.config.get("total_steps", 0))

    @property
    def status(self) -> str:
        """How it ended: finished, interrupted or failed; else `unfinished`.

        After a resume the summary is that of the time before, until the run ends again.
        """
        status, steps = self.summary.get("status"), self.summary.get("steps", -1)
        goes_on = steps < self.steps or (status == "finished" and steps < self.total_steps)
        return "unfinished" if status is None or goes_on else str(status)

    @property
    def metrics(self) -> set[str]:
        """Names of what was measured."""
        return {key for row in (self.summary, *self.rows) for key in row if is_number(row[key])}

    def score(self, metric: str) -> float | None:
        """The value in the summary, else the newest one in the rows, else None.

        `evaluate/return` is therefore the final evaluation, of the best checkpoint.
        """
        newest = (row[metric] for row in reversed(self.rows) if is_number(row.get(metric)))
        value = self.summary.get(metric)
        return value if is_number(value) else next(newest, None)

    def curve(self, metric: str, over: str = "steps") -> np.ndarray:
        """The (x, value) pairs [N, 2] of the rows that have both, x being the metric `over`."""
        pairs = [(row.get(over), row.get(metric)) for row in self.rows]
        kept = [pair for pair in pairs if all(map(is_number, pair))]
        return np.array(kept, np.float64).reshape(-1, 2)


def is_number(value: Any) -> bool:
    """Whether it is a finite number; metrics.jsonl has null for others, W&B has NaN."""
    return isinstance(value, int | float) and math.isfinite(value)


def select(selections: Iterable[str | Path], metric: str) -> list[Record]:
    """Reads runs.

    Args:
        selections: a run's folder, a folder with runs at any depth, or
            `wandb:ENTITY/PROJECT[/GROUP]`, in any mixture.
        metric: what will be asked of the runs at W&B, which are not read whole.

    Raises:
        ValueError: a selection has no run (names those nearby).
        RunError: a file is damaged, or W&B does not answer.
    """
    found: dict[str | Path, Record] = {}
    for selection in selections:
        if str(selection).startswith(REMOTE):
            from .remote import read_project

            found |= {record.name: record for record in read_project(str(selection), metric)}
        else:
            for folder in folders.below(selection):
                found.setdefault(folder.resolve(), read(folder))
    return list(found.values())


def read(folder: Path) -> Record:
    """Reads the run in a folder. Raises ValueError (config.yaml) or RunError."""
    config = folder / "config.yaml"
    settings = flatten(read_file(config, str(config)))
    return Record(str(folder), settings, read_json(folder / "summary.json"), read_rows(folder))


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Reads metrics.jsonl, [] if it is not there, without a last line that is not whole yet.

    Raises:
        RunError: the disk refuses, or a line is not a JSON object.
    """
    path = folder / "metrics.jsonl"
    with disk(path):
        content = path.read_bytes() if path.exists() else b""
    whole, _, _ = content.rpartition(b"\n")
    return [json_object(line, path) for line in whole.decode(errors="replace").splitlines()]


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the settings by dotted key; two runs are the same experiment if these are equal.

    A block's settings are `network.blocks.N.KEY`, and `network` joins the blocks' names, so that
    chains of different lengths differ. Whole floats become integers, as they do on the way through
    W&B.
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif key == "blocks" and isinstance(value, Sequence):
            flat[prefix.removesuffix(".")] = "-".join(str(block["name"]) for block in value)
            for number, block in enumerate(value):
                own = {name: setting for name, setting in block.items() if name != "name"}
                flat |= flatten(own, f"{prefix}{key}.{number}.")
        else:
            flat[f"{prefix}{key}"] = _plain(value)
    return flat


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return tuple((key, _plain(below)) for key, below in sorted(value.items()))
    if isinstance(value, list):
        return tuple(map(_plain, value))
    return int(value) if isinstance(value, float) and value.is_integer() else value
