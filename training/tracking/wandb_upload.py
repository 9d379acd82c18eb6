"""Uploads a run's folder to W&B.

uploaded = upload("runs/first", ["wandb.artifacts=true"])
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ...configs import load_resumed
from ...core.errors import RunError
from ..storage import layout, stored_run
from ..storage.metrics import MetricsFile
from .wandb_client import check_access, failures, import_wandb, reason_of, why_unavailable
from .wandb_mirror import WandbMirror


class Uploaded(NamedTuple):
    """What an upload did."""

    url: str
    """Where the run can be seen."""
    sent: int
    """Rows of metrics that W&B lacked."""
    rows: int
    """Rows that the run has."""


def upload(path: str | Path, words: Iterable[str] = (), trust: bool = False) -> Uploaded:
    """Sends to W&B what it lacks of a run: rows, histograms, films, checkpoints, summary.

    Args:
        path: The run's folder.
        words: `wandb.KEY=VALUE`, where it shall differ from the run's configuration.
        trust: Whether a run that was not made here by you may import the modules that it names.

    Raises:
        ValueError: No such run, a wrong word, or no API key.
        RunError: The run is training, its folder is damaged, or not all of it arrived.
    """
    folder = layout.find(path)
    words = list(words)
    for word in words:
        if not word.startswith("wandb."):
            raise ValueError(f"{word}: expected wandb.KEY=VALUE, the run itself cannot change")
    cfg = load_resumed(folder / layout.CONFIG, words, trust)
    check_access("the upload to W&B")
    layout.refuse_links(folder)
    summary = stored_run.read(folder).summary  # and that its rows can be read
    lock = MetricsFile(folder / layout.METRICS)
    import_wandb()
    if (reason := why_unavailable()) is not None:
        raise RunError(f"W&B: {reason}")
    try:
        mirror = WandbMirror(folder, cfg, "online")
        for _ in mirror.send():
            pass
        mirror.send_checkpoints()
        mirror.finish(summary)
        missing = mirror.missing()
    except failures() as error:
        raise RunError(f"{folder}: W&B: {reason_of(error)}; try again later") from error
    finally:
        lock.close()
    if missing:
        raise RunError(f"{folder}: {missing} rows did not arrive at W&B; try again later")
    return Uploaded(mirror.url, mirror.sent, mirror.rows)
