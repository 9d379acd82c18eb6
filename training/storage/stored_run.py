"""Stored runs, on disk or at W&B: settings, summary and metrics.

    run = read(Path("runs/CartPole-v1/ppo-mlp/20260101-120000-s0"))

Nothing is written, and PyTorch is not imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...configs.groups import read_file
from ...core.errors import RunError, shorten
from ...core.secret_values import masked
from . import layout
from .atomic_files import disk, json_object, read_json, strange

BEST_STEPS = "best/steps"
"""In the summary of each run whose final evaluation is of the newest policy."""
LARGEST = 1e100
"""No measurement is as large, and its square is still finite."""
MOST_METRICS = 2**30
"""Bytes of a metrics.jsonl."""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class StoredRun:
    """A run that was read.

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
        """How it ended: finished, stopped, interrupted or failed; else `unfinished`.

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

        `evaluate/return` is therefore the final evaluation of the newest policy, and `best/return`
        that of checkpoint `best`. Older runs evaluated the best alone at the end: of the newest
        policy they have the last evaluation while it was trained.
        """
        newest = (row[metric] for row in reversed(self.rows) if is_number(row.get(metric)))
        value = self.summary.get(metric)
        if BEST_STEPS not in self.summary:
            if metric.startswith("best/"):
                value = self.summary.get(metric.replace("best/", "evaluate/"))
            elif metric.startswith("evaluate/"):
                value = next(newest, value)
        return value if is_number(value) else next(newest, None)

    def curve(self, metric: str, over: str = "steps") -> np.ndarray:
        """The (x, value) pairs [N, 2] of the rows that have both, x being the metric `over`."""
        pairs = [(row.get(over), row.get(metric)) for row in self.rows]
        kept = [pair for pair in pairs if all(map(is_number, pair))]
        return np.array(kept, np.float64).reshape(-1, 2)


def is_number(value: Any) -> bool:
    """Whether it was measured; metrics.jsonl has null for what is not finite, W&B has NaN."""
    return isinstance(value, int | float) and abs(value) < LARGEST


_BLOCKS = "network.blocks", "network.critic"  # keys with lists of blocks


def read(folder: Path) -> StoredRun:
    """Reads the run in a folder. Raises ValueError (config.yaml) or RunError."""
    file = folder / layout.CONFIG
    config = masked(read_file(file, str(file)))
    with strange(f"{file}: damaged"):
        settings = flatten(config)
    summary, rows = read_json(folder / layout.SUMMARY), read_rows(folder)
    return checked(StoredRun(str(folder), settings, summary, rows))


def checked(run: StoredRun) -> StoredRun:
    """The run. Raises RunError if its steps or its status cannot be those of a run."""
    total, steps = run.config.get("total_steps", 0), run.summary.get("steps", 0)
    if not is_number(total):
        raise RunError(f"{run.name}: damaged, its settings have total_steps={shorten(total)}")
    if not is_number(steps) or not isinstance(run.summary.get("status", ""), str):
        raise RunError(f"{run.name}: damaged, its summary has no steps or status of a run")
    for number, row in enumerate(run.rows, start=1):
        if not is_number(row.get("steps")):
            raise RunError(f"{run.name}: damaged, row {number} of its metrics has no steps")
    return run


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Reads metrics.jsonl, [] if it is not there; an incomplete last line is left out.

    The rows are in the order of their steps: `eval.mode=worker` logs evaluations later.

    Raises:
        RunError: the disk refuses, or a line is not a JSON object.
    """
    path = folder / layout.METRICS
    with disk(path):
        if path.exists() and (not path.is_file() or path.stat().st_size > MOST_METRICS):
            raise RunError(f"{path}: no file of at most {MOST_METRICS:,} bytes")
        content = path.read_bytes() if path.exists() else b""
    whole, _, _ = content.rpartition(b"\n")
    rows = [json_object(line, path) for line in whole.decode(errors="replace").splitlines()]
    return sorted(rows, key=lambda row: row["steps"] if is_number(row.get("steps")) else -1)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the settings by dotted key; two runs are the same experiment if these are equal.

    A block's settings are `network.blocks.N.KEY`, and `network` joins the blocks' names, so that
    chains of different lengths differ; `network.critic` is alike. Whole floats become integers, as
    W&B stores them.
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif f"{prefix}{key}" in _BLOCKS and isinstance(value, Sequence):
            whole = prefix.removesuffix(".") if key == "blocks" else f"{prefix}{key}"
            flat[whole] = "-".join(str(block["name"]) for block in value)
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
