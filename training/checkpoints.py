"""A run's checkpoints: which there are, which of them are meant, and which are kept.

checkpoints/
  step_000500000/     a checkpoint, see `checkpoint`
  last, best          links to the one to go on from and to that with the best evaluation
"""

from __future__ import annotations

import difflib
import shutil
from pathlib import Path

from .checkpoint import STRUCTURE
from .files import RunError, disk, fsync


def name(steps: int) -> str:
    """The name of the checkpoint after so many steps."""
    return f"step_{steps:09d}"


def point(link: Path, target: str) -> None:
    """Points the relative symlink at its neighbour `target`, from one moment to the next."""
    temporary = link.with_name(f".{link.name}.link")
    with disk(link):
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.replace(link)
        fsync(link.parent)


def point_back(link: Path, target: str) -> None:
    """Points at `target` as it was once; removes the link if that has been deleted since."""
    if (link.parent / target).is_dir():
        point(link, target)
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
