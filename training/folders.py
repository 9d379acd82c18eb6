"""Where runs lie and what their folders of checkpoints hold.

runs/<env>/<agent>-<network>/<time>-s<seed>/checkpoints/{step_000500000, last, best}
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from .files import RunError, disk, fsync

if TYPE_CHECKING:  # it brings PyTorch, and who only looks at runs must not wait for that
    from ..configs.config import Config

STRUCTURE = "state.json"  # the file that makes a folder a checkpoint


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


def point(link: Path, name: str) -> None:
    """Points the relative symlink at its neighbour `name`, from one moment to the next."""
    temporary = link.with_name(f".{link.name}.link")
    with disk(link):
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(name)
        temporary.replace(link)
        fsync(link.parent)


def point_back(link: Path, name: str) -> None:
    """Points at `name` as it was once; removes the link if that has been deleted since."""
    if (link.parent / name).is_dir():
        point(link, name)
    else:
        with disk(link):
            link.unlink(missing_ok=True)


def chosen(checkpoints: Path, which: str) -> Path:
    """Returns the folder of checkpoint `last`, `best` (without a best: `last`) or `step_...`.

    Raises:
        ValueError: no checkpoint of that name.
        RunError: no checkpoint at all.
    """
    names = [step.name for step in steps(checkpoints)]
    if not names:
        raise RunError(f"{checkpoints}: no checkpoint was saved; start the run anew")
    if which == "best" and not (checkpoints / which).is_symlink():
        which = "last"
    if which == "last" and not (checkpoints / which).is_symlink():  # killed after the first write
        which = names[-1]
    if which in names:
        return checkpoints / which
    if which not in ("last", "best"):
        near = difflib.get_close_matches(which, names, 3)
        raise ValueError(
            f"checkpoint {which}: expected last, best, {', '.join(near or names[-3:])}"
        )
    return (checkpoints / which).resolve()


def steps(checkpoints: Path) -> list[Path]:
    """Returns the step folders, in the order of their steps."""
    return sorted(file.parent for file in checkpoints.glob(f"step_*/{STRUCTURE}"))


def prune(checkpoints: Path, keep: int) -> None:
    """Deletes all step folders but what `last` and `best` point to and the newest `keep` others.

    The newest are those written last: after going on from an older step they may have fewer steps.
    """
    with disk(checkpoints):
        held = {(checkpoints / name).resolve() for name in ("last", "best")}
        others = [step for step in steps(checkpoints) if step.resolve() not in held]
        others.sort(key=lambda step: (step / STRUCTURE).stat().st_mtime_ns)
        for step in others[: len(others) - keep]:
            _delete(step)


def _delete(folder: Path) -> None:
    """Removes a checkpoint; one that is half removed is never taken for a whole one."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    folder.rename(temporary)
    shutil.rmtree(temporary)


def repair(checkpoints: Path) -> None:
    """Clears what a killed process left among the checkpoints. Raises RunError."""
    with disk(checkpoints):
        for old in checkpoints.glob(".*.old"):
            place = checkpoints / old.name[1:].removesuffix(".old")
            if place.exists():
                shutil.rmtree(old)
            else:  # killed while one checkpoint took the place of another
                old.rename(place)
        for temporary in checkpoints.glob(".*.tmp"):
            shutil.rmtree(temporary)
