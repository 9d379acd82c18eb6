"""A run's checkpoints: found, chosen by name, deleted.

checkpoints/
  step_000500000/     a checkpoint, see `checkpoint`
  last, best          files with a name: of the newest, and of the one with the best evaluation

They are no links, which are lost when a run is zipped or synced. Older runs have links.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection
from pathlib import Path

from ...core.errors import RunError, similar
from . import layout
from .atomic_files import disk, write_text
from .checkpoint import STRUCTURE
from .layout import BEST, LAST, STEPS_PATTERN

_STEP = re.compile(r"step_\d+")


def point(pointer: Path, target: str) -> None:
    """Writes into `last` or `best` the name of a folder beside it, atomically."""
    with disk(pointer):
        if pointer.is_dir() and not pointer.is_symlink():
            shutil.rmtree(pointer)
    write_text(pointer, f"{target}\n")


def point_back(pointer: Path, target: str) -> None:
    """Points at `target`, or removes the pointer if `target` was deleted."""
    if (pointer.parent / target).is_dir():
        point(pointer, target)
    else:
        with disk(pointer):
            pointer.unlink(missing_ok=True)


def pointed(checkpoints: Path, name: str) -> Path | None:
    """The folder that `last` or `best` names, there or deleted; None if there is no such name."""
    pointer = checkpoints / name
    with disk(pointer):
        if pointer.is_symlink():
            target = pointer.readlink().name
        elif pointer.is_file():
            target = pointer.read_text(encoding="utf-8", errors="replace").strip()
        else:  # a link became what it led to when the run was copied
            return pointer if (pointer / STRUCTURE).is_file() else None
    return checkpoints / target if _STEP.fullmatch(target) else None


def chosen(checkpoints: Path, which: str) -> Path:
    """Returns the folder of checkpoint `last`, `best` (without a best: `last`) or `step_...`.

    Raises:
        ValueError: no checkpoint of that name.
        RunError: no checkpoint at all.
    """
    names = [step.name for step in steps(checkpoints)]
    if not names:
        raise RunError(f"{checkpoints}: there is no checkpoint")
    if which in names:
        return checkpoints / which
    if which not in (LAST, BEST):
        near = similar(which, names, most=3)
        raise ValueError(
            f"checkpoint {which}: expected {LAST}, {BEST}, {', '.join(near or names[-3:])}"
        )
    best = pointed(checkpoints, BEST) if which == BEST else None
    # Without `last` it was killed after the first write.
    return best or pointed(checkpoints, LAST) or checkpoints / names[-1]


def begun(run: str | Path) -> bool:
    """Whether a run has a checkpoint to go on from; one that was killed before has none."""
    return bool(steps(layout.find(run) / layout.CHECKPOINTS))


def steps(checkpoints: Path) -> list[Path]:
    """Returns the step folders, in the order of their steps."""
    return sorted(file.parent for file in checkpoints.glob(f"{STEPS_PATTERN}/{STRUCTURE}"))


def publish(folder: Path, best: bool, keep: int, needed: Collection[str] = ()) -> None:
    """Points `last`, and `best` if it is that, at a new checkpoint, and deletes what is not kept.

    Kept are those that `last` and `best` point to, those `needed` by name, and the newest `keep`
    others.
    """
    if best:
        point(folder.parent / BEST, folder.name)
    # After `best`: killed in between, the one before is the last.
    point(folder.parent / LAST, folder.name)
    _prune(folder.parent, keep, needed)


def _prune(checkpoints: Path, keep: int, needed: Collection[str]) -> None:
    """Deletes step folders, see `publish`.

    The newest are those written last, which have fewer steps after a resume from an older one.
    """
    with disk(checkpoints):
        held = {pointed(checkpoints, name) for name in (LAST, BEST)}
        held |= {checkpoints / name for name in needed}
        others = [step for step in steps(checkpoints) if step not in held]
        others.sort(key=lambda step: (step / STRUCTURE).stat().st_mtime_ns)
        for step in others[: len(others) - keep]:
            _delete(step)


def _delete(folder: Path) -> None:
    """Removes a checkpoint, renamed first so that a half-removed one is never read."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    folder.rename(temporary)
    shutil.rmtree(temporary)


def repair(checkpoints: Path) -> None:
    """Removes or completes what a killed process left unfinished. Raises RunError."""
    with disk(checkpoints):
        for old in checkpoints.glob(f".{STEPS_PATTERN}.old"):
            place = checkpoints / old.name[1:].removesuffix(".old")
            if place.exists():
                shutil.rmtree(old)
            else:  # killed while one checkpoint took the place of another
                old.rename(place)
        for temporary in checkpoints.glob(f".{STEPS_PATTERN}.tmp"):
            shutil.rmtree(temporary)
