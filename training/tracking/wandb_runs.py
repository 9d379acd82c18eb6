"""The runs of a W&B project, read as if they lay here."""

from __future__ import annotations

from typing import Any

from ..storage.atomic_files import strange
from ..storage.stored_run import StoredRun, checked, flatten
from . import wandb_client

REMOTE = "wandb:"
"""Opens the name of what is to be read at W&B."""


def read_project(selection: str, metric: str) -> list[StoredRun]:
    """Reads the runs of a project, or of one of its groups, oldest first.

    Args:
        selection: `wandb:ENTITY/PROJECT` or `wandb:ENTITY/PROJECT/GROUP`.
        metric: what the rows are read for.

    Raises:
        ValueError: another form, no such project or no run in it.
        RunError: W&B does not answer, or refuses.
    """
    entity, project, group = (*selection.removeprefix(REMOTE).split("/", 2), "", "")[:3]
    if not entity or not project:
        raise ValueError(f"{selection}: expected wandb:ENTITY/PROJECT[/GROUP]")
    with wandb_client.answering(selection):
        import wandb

        api = wandb.Api(timeout=wandb_client.TIMEOUT_SECONDS)
        filters = {"group": group} if group else {}
        runs = api.runs(f"{entity}/{project}", filters, order="+created_at")
        found = [
            _read(run, f"{REMOTE}{entity}/{project}/{run.id}", metric)
            for run in runs
            if "env" in run.config  # else it is a comparison, or none of neuraxis
        ]
    if not found:
        raise ValueError(f"{selection}: no run there")
    return found


def _read(run: Any, name: str, metric: str) -> StoredRun:
    summary = {key: value for key, value in dict(run.summary).items() if not key.startswith("_")}
    # A run that was killed and resumed has sent some steps twice; the later ones count.
    rows = {row["steps"]: row for row in run.scan_history(["steps", "time/seconds", metric])}
    with strange(f"{name}: damaged"):
        in_order = [rows[steps] for steps in sorted(rows)]
        return checked(StoredRun(name, flatten(run.config), summary, in_order))
