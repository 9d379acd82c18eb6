"""Where runs lie: runs/<env>/<agent>-<network>/<time>-s<seed>, unless `run_dir` says otherwise."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from .files import disk

if TYPE_CHECKING:  # it brings PyTorch, and who only looks at runs must not wait for that
    from ..configs.config import Config


def label(cfg: Config) -> tuple[str, str]:
    """Returns the names of the environment and of agent and network, fit for folders."""
    network = "-".join(block.name for block in cfg.network.blocks)
    words = cfg.env.id, "-".join(filter(None, (cfg.agent.name, network)))
    environment, learner = (re.sub(r"[^\w.-]+", "-", word) for word in words)
    return environment, learner


def create(cfg: Config) -> Path:
    """Makes the folder of a new run.

    Raises:
        ValueError: `run_dir` is taken.
        RunError: the disk refuses.
    """
    if cfg.run_dir is not None:
        return take(Path(cfg.run_dir))
    return fresh(Path("runs", *label(cfg), f"{datetime.now():%Y%m%d-%H%M%S}-s{cfg.seed}"))


def take(folder: Path) -> Path:
    """Makes the folder that `run_dir` asks for; an empty one may be there. Raises as `create`."""
    with disk(folder):
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            verb = (
                f"`neuraxis resume {folder}` continues it" if is_run(folder) else "give another one"
            )
            raise ValueError(f"run_dir={folder}: exists and is not an empty folder; {verb}")
        folder.mkdir(parents=True, exist_ok=True)
    return folder


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


def is_run(folder: Path) -> bool:
    """Whether the folder is a run's."""
    return (folder / "config.yaml").is_file()


def below(path: str | Path) -> Iterator[Path]:
    """Gives the folder itself if it is a run's, else the runs below it at any depth, by name.

    Raises:
        ValueError: no run there (names those nearby).
    """
    found = False
    for place, names, _ in os.walk(path):
        names.sort()
        if is_run(Path(place)):
            names.clear()  # a run's own folders hold files of the same name (W&B's)
            found = True
            yield Path(place)
    if not found:
        yield find(path)


def find(path: str | Path) -> Path:
    """Returns the folder of a run. Raises ValueError with the runs that may have been meant."""
    folder = Path(path)
    if is_run(folder):
        return folder
    if not folder.is_dir():
        parent = next(parent for parent in folder.parents if parent.is_dir())
        wrong = folder.relative_to(parent).parts[0]
        names = [entry.name for entry in parent.iterdir() if entry.is_dir()]
        near = difflib.get_close_matches(wrong, names, 1)
        hint = f"; did you mean {parent / near[0]}?" if near else _newest(parent)
        raise ValueError(f"{folder}: no such run{hint}")
    raise ValueError(f"{folder}: not a run, it has no config.yaml{_newest(folder)}")


def _newest(parent: Path) -> str:
    """A hint at the newest runs below `parent`, no deeper than runs/<env>/<network>/<time>."""
    files = {file for depth in range(1, 5) for file in parent.glob("*/" * depth + "config.yaml")}
    newest = sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)[:3]
    return f"; runs: {', '.join(str(file.parent) for file in newest)}" if newest else ""
