"""Which runs are meant: folders, and projects at W&B.

runs = select(["runs/CartPole-v1", "wandb:team/project/group"], "evaluate/return")
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ...core.errors import RunError
from ..storage import layout, stored_run
from ..storage.stored_run import StoredRun
from ..tracking.wandb_runs import REMOTE, read_project


class Selected(NamedTuple):
    """What `select` has read."""

    runs: list[StoredRun]
    damaged: list[str]
    """Of each run that cannot be read, a line that names it and the reason."""


def select(selections: Iterable[str | Path], metric: str) -> Selected:
    """Reads runs; one that is damaged does not keep the others from being read.

    Args:
        selections: a run's folder, a folder with runs at any depth, or
            `wandb:ENTITY/PROJECT[/GROUP]`, in any mixture.
        metric: what will be asked of the runs at W&B, which are not read whole.

    Raises:
        ValueError: a selection has no run (names those nearby).
        ValueError, RunError: all runs are damaged (names the first one), or W&B does not answer.
    """
    found: dict[str | Path, StoredRun] = {}
    damaged: dict[Path, ValueError | RunError] = {}
    for selection in selections:
        if str(selection).startswith(REMOTE):
            found |= {run.name: run for run in read_project(str(selection), metric)}
        else:
            for folder in layout.below(selection):
                try:
                    found.setdefault(folder.resolve(), stored_run.read(folder))
                except (ValueError, RunError) as error:
                    damaged[folder.resolve()] = error
    if not found:
        raise next(iter(damaged.values()))
    return Selected(list(found.values()), list(map(str, damaged.values())))
