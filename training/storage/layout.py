"""Where runs lie, and what their files are called.

runs/<env>/<agent>-<network>/<time>-s<seed>/      unless `run_dir` says otherwise
  config.yaml  meta.json  metrics.jsonl  summary.json
  checkpoints/step_000500000/                     the files last and best name two of them
  videos/step_000500000.mp4
  histograms/step_000500000.json
  wandb/  tensorboard/
  logs/worker_0.log                               what Ray workers print
  run.lock                                        see `metrics.MetricsFile`
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.errors import RunError, did_you_mean, similar
from ...core.files import expanded
from .atomic_files import disk, temporary_of

if TYPE_CHECKING:  # it imports PyTorch, which is not needed to look at runs
    from ...configs.config import Config

CONFIG, META, METRICS, SUMMARY = "config.yaml", "meta.json", "metrics.jsonl", "summary.json"
LOCK = "run.lock"
"""Locked by the process that trains. It is empty: on Windows nobody else may read a locked file."""
CHECKPOINTS, LAST, BEST = "checkpoints", "last", "best"
WANDB, TENSORBOARD, LOGS = "wandb", "tensorboard", "logs"
STEPS_PATTERN = "step_*"
HINT_FOLDERS = 300
"""How many folders a message searches for runs that may have been meant."""


def step_name(steps: int) -> str:
    """The name of what belongs to the moment after so many steps."""
    return f"step_{steps:09d}"


def histogram_file(folder: Path, steps: int) -> Path:
    """Where a run keeps the histograms of a step: {name: [counts, edges]} as JSON."""
    return folder / "histograms" / f"{step_name(steps)}.json"


def film_file(folder: Path, steps: int) -> Path:
    """Where a run keeps the film of a step's evaluation."""
    return folder / "videos" / f"{step_name(steps)}.mp4"


def label(cfg: Config) -> tuple[str, str]:
    """Returns the names of the environment and of agent and network, fit for folders."""
    words = cfg.env.id, "-".join((cfg.agent.name, *cfg.block_names()))
    environment, learner = (re.sub(r"[^\w.-]+", "-", word) for word in words)
    return environment, learner


def create(cfg: Config) -> Path:
    """Makes the folder of a new run.

    Raises:
        ValueError: `run_dir` is taken.
        RunError: the disk refuses.
    """
    if cfg.run_dir is not None:
        return take(expanded(cfg.run_dir))
    return fresh(Path("runs", *label(cfg), f"{datetime.now():%Y%m%d-%H%M%S}-s{cfg.seed}"))


def take(folder: Path) -> Path:
    """Makes the folder of `run_dir`, or takes one in which no run began. Raises as `create`."""
    refuse_taken(folder)
    with disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def refuse_taken(folder: Path) -> None:
    """Raises ValueError for a `run_dir` with files of another run, or RunError."""
    with disk(folder):
        if folder.exists() and not (folder.is_dir() and set(folder.iterdir()) <= {_begun(folder)}):
            resume = f"`neuraxis resume {shlex.quote(str(folder))}` continues it"
            way_out = resume if is_run(folder) else "give another one"
            raise ValueError(f"run_dir={folder}: exists and is not an empty folder; {way_out}")


def fresh(stem: Path) -> Path:
    """Makes the folder `stem`, or `stem-2`, ... if that is taken. Raises RunError."""
    folder, number = stem, 1
    with disk(stem):
        stem.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                folder.mkdir()
                return folder
            except FileExistsError:  # another one of this second
                number += 1
                folder = stem.with_name(f"{stem.name}-{number}")


def refuse_links(folder: Path) -> None:
    """Raises RunError if a part of a run is a link out of its folder: it would be written there."""
    with disk(folder):
        below = (
            path for name in (CHECKPOINTS, TENSORBOARD, LOGS) for path in folder.glob(f"{name}/*")
        )
        for path in (*folder.iterdir(), *below):
            if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
                raise RunError(
                    f"{path}: is a link out of the run's folder, to {path.resolve()}; put there "
                    "what it leads to"
                )


def is_run(folder: Path) -> bool:
    """Whether the folder is a run's."""
    return (folder / CONFIG).is_file()


def _begun(folder: Path) -> Path:
    """The only file of a run that was killed before its config.yaml was complete."""
    return temporary_of(folder / CONFIG)


def below(path: str | Path) -> Iterator[Path]:
    """Gives the folder itself if it is a run's, else the runs below it at any depth, by name.

    Raises:
        ValueError: no run there (names those nearby).
    """
    found = False
    for place, names, _ in os.walk(expanded(path)):
        names.sort()
        if is_run(Path(place)):
            names.clear()  # a run's own folders hold files of the same name (W&B's)
            found = True
            yield Path(place)
    if not found:
        yield find(path)


def find(path: str | Path) -> Path:
    """Returns the folder of a run. Raises ValueError with the runs that may have been meant."""
    folder = expanded(path)
    if is_run(folder):
        return folder
    if not folder.is_dir():
        parent = next(parent for parent in folder.parents if parent.is_dir())
        wrong = folder.relative_to(parent).parts[0]
        names = [name for name in _names(parent) if os.path.isdir(parent / name)]
        near = [str(parent / name) for name in similar(wrong, names)]
        hint = did_you_mean(near) or (_newest(parent) if parent == folder.parent else "")
        raise ValueError(f"{folder}: no such run{hint}")
    if _begun(folder).exists():
        raise ValueError(
            f"{folder}: killed before it had its {CONFIG}; give its `train` command again"
        )
    raise ValueError(f"{folder}: not a run, it has no {CONFIG}{_newest(folder)}")


def _newest(parent: Path) -> str:
    """A hint at the newest runs below `parent`, no deeper than runs/<env>/<network>/<time>.

    It looks into HINT_FOLDERS folders at most, the nearest first.
    """
    runs: list[tuple[float, str]] = []
    level, left = [parent], HINT_FOLDERS
    for _ in range(5):
        below: list[Path] = []
        for folder in level[:left]:
            names = _names(folder)
            if CONFIG in names:
                with suppress(OSError):
                    runs.append(((folder / CONFIG).stat().st_mtime, str(folder)))
            else:
                below += [folder / name for name in names if os.path.isdir(folder / name)]
        left -= len(level[:left])
        level = below
    newest = [folder for _, folder in sorted(runs, reverse=True)[:3]]
    return f"; runs: {', '.join(newest)}" if newest else ""


def _names(folder: Path) -> list[str]:
    """The names in a folder, none if it cannot be read: a hint must not fail."""
    with suppress(OSError):
        return os.listdir(folder)
    return []
