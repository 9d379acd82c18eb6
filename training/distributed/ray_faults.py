"""What happened to a Ray worker, in one line."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayError, RayTaskError

from ...configs import Config, RayConfig
from ...core.errors import one_line

FETCHING_SECONDS = 60  # that a finished result may take from another machine


@dataclass(frozen=True)
class Call:
    """A question that a worker has not answered."""

    group: int
    method: str
    args: tuple[Any, ...]
    deadline: float = 0.0
    then: Call | None = None
    """The call that waits until a new worker has opened its columns."""


@dataclass(frozen=True)
class Fault:
    """Why a call to a worker has no result."""

    cause: str
    steps: int | None = None
    """Of its columns when an environment raised; None: the worker is lost."""
    trace: str = ""
    """The worker's traceback."""
    timed_out: bool = False
    """It is lost because it did not answer in time."""


def place(call: Call, fault: Fault) -> int | str:
    """Where it happened: the steps until then, or the call of which a lost worker says no more."""
    return call.method if fault.steps is None else fault.steps


def worker_name(cfg: Config, group: int, generation: int) -> str:
    """Which worker: its columns, and what their episodes depend on."""
    size = cfg.num_envs // cfg.ray.workers
    columns = f"columns {group * size} to {group * size + size - 1}"
    return f"worker {group} ({columns}, {cfg.env.id}, seed {cfg.seed}, generation {generation})"


def limit(config: RayConfig, method: str) -> tuple[str, float]:
    """The setting that limits a call to a worker, and its seconds."""
    if method == "open":
        return "ray.start_timeout_seconds", config.start_timeout_seconds
    return "ray.timeout_seconds", config.timeout_seconds


def shortage(config: RayConfig) -> str:
    """A hint if Ray has fewer processors than the workers reserve; else an empty text."""
    needed = config.workers * config.cpus_per_worker
    there = ray.cluster_resources().get("CPU", 0.0)
    if needed <= there:
        return ""
    return (
        f" (ray.workers={config.workers} reserve {needed:g} processors, there are "
        f"{there:g}: lower ray.workers or ray.cpus_per_worker)"
    )


def cause_of(error: RayError) -> str:
    """Why there is no reply."""
    if isinstance(error, RayTaskError):
        return one_line(error.cause) if isinstance(error.cause, Exception) else one_line(error)
    if isinstance(error, GetTimeoutError):
        return f"its result did not arrive in {FETCHING_SECONDS} seconds"
    what = "it ran out of memory" if isinstance(error, OutOfMemoryError) else "its process died"
    _, _, detail = str(error).partition("Worker exit detail: ")
    return f"{what} ({textwrap.shorten(detail or str(error), 120, placeholder=' ...')})"
