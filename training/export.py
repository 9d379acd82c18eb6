"""What a run's folder holds, to somewhere else.

uploaded = upload("runs/first", ["wandb.artifacts=true"])
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..configs import load_resumed
from . import folders
from .client import failures, has_key, import_wandb, obstacle, reason_of
from .files import RunError, read_json
from .metrics import MetricsFile
from .mirror import Mirror


class Uploaded(NamedTuple):
    """What an upload did."""

    url: str
    """Where the run can be seen."""
    sent: int
    """Rows of metrics that W&B lacked."""
    rows: int
    """Rows that the run has."""


def upload(path: str | Path, words: Iterable[str] = ()) -> Uploaded:
    """Sends to W&B what it lacks of a run: rows, histograms, films, checkpoints, summary.

    Args:
        path: The run's folder.
        words: `wandb.KEY=VALUE`, where it shall differ from the run's configuration.

    Raises:
        ValueError: No such run, a wrong word, or no API key.
        RunError: The run is training, its folder is damaged, or not all of it arrived.
    """
    folder = folders.find(path)
    words = list(words)
    for word in words:
        if not word.startswith("wandb."):
            raise ValueError(f"{word}: expected wandb.KEY=VALUE, the run itself is what it was")
    cfg = load_resumed(folder / "config.yaml", words)
    if not has_key():
        raise ValueError("no W&B API key found: `wandb login` or WANDB_API_KEY sets one")
    summary = read_json(folder / "summary.json")
    lock = MetricsFile(folder / "metrics.jsonl")
    import_wandb()
    if (reason := obstacle()) is not None:
        raise RunError(f"W&B: {reason}")
    try:
        mirror = Mirror(folder, cfg, "online")
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
