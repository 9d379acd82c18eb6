"""Weights that lie at W&B as an artifact."""

from __future__ import annotations

import re
from pathlib import Path

from ..storage import checkpoint
from ..storage.weights import SUFFIX
from . import wandb_client
from .wandb_runs import REMOTE

_FORM = re.compile(rf"{REMOTE}([^/:]+/){{2}}[^/:]+:[^/:]+")


def fetch(selection: str, folder: Path) -> Path:
    """Downloads an artifact into a folder; returns the checkpoint or the file in it.

    Args:
        selection: `wandb:ENTITY/PROJECT/ARTIFACT:ALIAS`; a run's checkpoints are
            `checkpoint-RUN_ID` with the aliases `best`, `last` and `step_...`.
        folder: An empty one.

    Raises:
        ValueError: Another form, no such artifact, no API key, or there are no weights in it.
        RunError: W&B does not answer, or refuses.
    """
    if not _FORM.fullmatch(selection):
        raise ValueError("expected wandb:ENTITY/PROJECT/ARTIFACT:ALIAS")
    wandb_client.check_access(selection)
    with wandb_client.answering(selection):
        import wandb

        api = wandb.Api(timeout=wandb_client.TIMEOUT_SECONDS)
        api.artifact(selection.removeprefix(REMOTE)).download(root=str(folder), skip_cache=True)
    found = [folder] if (folder / checkpoint.STRUCTURE).is_file() else [*folder.glob(f"*{SUFFIX}")]
    if len(found) != 1:
        raise ValueError(f"expected a checkpoint or one {SUFFIX} file in it")
    return found[0]
