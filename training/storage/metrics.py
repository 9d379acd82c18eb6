"""Metrics: their means between two lines, the clock, and metrics.jsonl."""

from __future__ import annotations

import json
import math
import os
import time
import weakref
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import torch
from filelock import lock_descriptor

from ...core.errors import RunError
from . import layout
from .atomic_files import disk

Number = torch.Tensor | float
HISTOGRAM_BINS = 64


class Means:
    """The mean of each metric, summed in float64.

    Tensors are added on their own device and read only by `means`: no CPU-GPU sync per update.
    """

    def __init__(self) -> None:
        self._totals: dict[str, Number] = {}
        self._counts: dict[str, int] = {}

    def add(self, key: str, total: Number, count: int = 1) -> None:
        """Adds one value, or `count` values by their total."""
        value = total.detach().double() if isinstance(total, torch.Tensor) else float(total)
        self._totals[key] = self._totals.get(key, 0.0) + value
        self._counts[key] = self._counts.get(key, 0) + count

    def count(self, key: str) -> int:
        """How many values of `key` there are."""
        return self._counts.get(key, 0)

    def means(self) -> dict[str, float]:
        """The mean of each key; waits for the device."""
        return {key: float(total) / self._counts[key] for key, total in self._totals.items()}

    def clear(self) -> None:
        """Forgets all values."""
        self.__init__()

    def state_dict(self) -> dict[str, list[float | int]]:
        """The totals and counts, as numbers."""
        return {key: [float(total), self._counts[key]] for key, total in self._totals.items()}

    def load_state_dict(self, state: Mapping[str, list[float | int]]) -> None:
        """Takes over the totals and counts of `state_dict`."""
        self._totals = {key: total for key, (total, _) in state.items()}
        self._counts = {key: int(count) for key, (_, count) in state.items()}


def histogram(tensor: torch.Tensor) -> list[list[float]]:
    """Returns counts [64] and edges [65] of a tensor's finite values, between their extremes."""
    values = tensor.detach().float().cpu().numpy()
    counts, edges = np.histogram(values[np.isfinite(values)], HISTOGRAM_BINS)
    return [counts.tolist(), edges.tolist()]


class Clock:
    """Seconds of a run, its earlier processes included."""

    def __init__(self, seconds: float = 0.0, cpu_seconds: float = 0.0) -> None:
        self._start = (time.perf_counter() - seconds, time.process_time() - cpu_seconds)

    def read(self) -> tuple[float, float]:
        """Returns seconds on the wall and of the CPU."""
        return time.perf_counter() - self._start[0], time.process_time() - self._start[1]


def lines(path: Path) -> int:
    """How many lines a metrics.jsonl has."""
    with disk(path), path.open("rb") as file:
        return sum(1 for _ in file)


class Busy(RunError):
    """Another process is training in this run."""


class MetricsFile:
    """metrics.jsonl: one JSON object a line, keys sorted, owned by one process at a time."""

    def __init__(self, path: Path) -> None:
        """Opens or creates the file. Raises Busy if another process trains in this run."""
        self.path = path
        files = ExitStack()
        self.close = weakref.finalize(self, files.close)
        with disk(path):
            self._file = files.enter_context(path.open("ab", buffering=0))
        lock = path.with_name(layout.LOCK)
        with disk(lock):
            locked = files.enter_context(lock.open("ab"))
        free = True
        with suppress(OSError):  # some network file systems have no locks: train without one
            # It ends with the process, in whatever way.
            free = lock_descriptor(locked.fileno(), blocking=False)
        if not free:
            self.close()
            raise Busy(f"{path.parent}: another process is training in this run")

    def write(self, row: Mapping[str, float]) -> None:
        """Appends a line; numbers that JSON does not have become null."""
        finite = {key: value if math.isfinite(value) else None for key, value in row.items()}
        line = f"{json.dumps(finite, sort_keys=True)}\n".encode()
        with disk(self.path):
            while line:
                line = line[self._file.write(line) :]

    def sync(self) -> int:
        """Waits until the lines are on the disk and returns their size in bytes."""
        with disk(self.path):
            os.fsync(self._file.fileno())
            return os.fstat(self._file.fileno()).st_size

    def check(self, size: int) -> None:
        """Raises RunError if the file is shorter than when the checkpoint was written."""
        if (there := self.sync()) < size:
            raise RunError(
                f"{self.path}: {there} bytes, the checkpoint needs {size}; restore the file"
            )

    def truncate(self, size: int) -> None:
        """Cuts off what was written after a checkpoint, half a line included."""
        with disk(self.path):
            self._file.truncate(size)
