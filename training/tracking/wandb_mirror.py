"""One W&B run that repeats what a run's folder says: metrics, histograms, films, checkpoints.

After an outage, a kill or a resume it first reads which rows the server has, so that no row is
missing and none is sent twice. Rows on the server stay, they cannot be deleted.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...configs.words import without_secrets
from ..storage import checkpoint_folder, layout, provenance
from ..storage.checkpoint import STRUCTURE
from . import wandb_client
from .new_rows import LoggedRow, NewRows

if TYPE_CHECKING:
    import wandb

    from ...configs.config import Config

FINISH_SECONDS = 30.0
"""How long the last upload may take when the run has ended."""
CHECKPOINT_SECONDS = 600.0
"""The same with checkpoints, which may be large."""
COUNTS = (0.0, 1.0, 3.0)
"""Seconds before each count of the server's rows: it may count some time after it has them."""


class WandbMirror:
    """Copies a run's folder to W&B.

    Args:
        folder: the run's.
        cfg: its configuration; where it differs from the folder's, this one counts.
        mode: whether rows go to the server or into `wandb/`.
        first: lines of metrics.jsonl that are not sent because an earlier offline run has them.

    Attributes:
        rows: how many lines were read.
        sent: how many of them W&B did not have.

    Raises:
        wandb.Error, OSError: W&B cannot begin; see `failures`.
    """

    def __init__(
        self, folder: Path, cfg: Config, mode: Literal["online", "offline"], first: int = 0
    ) -> None:
        self._folder = folder
        self._artifacts = cfg.wandb.artifacts and mode == "online"  # offline they would be copied
        self._uploaded: dict[str, tuple[Path, int]] = {}  # checkpoint and its time, by alias
        self._new = NewRows(folder)
        self._first = first
        self.rows = self.sent = 0
        self._run = _begin(folder, cfg, mode)
        self._run.define_metric("steps")
        self._run.define_metric("*", step_metric="steps")
        self._there = Counter(self._stored_rows() if self._run.resumed else ())
        self._expected = self._there.total()

    @property
    def url(self) -> str:
        """Where the run can be seen."""
        return self._run.url or ""

    def send(self) -> Iterator[tuple[Mapping[str, float], bool]]:
        """Sends the lines that have come since; gives each, and whether W&B did not have it."""
        for row in self._new.read():
            there = self._there[_identity(row.values)] > 0
            new = self.rows >= self._first and not there
            if there:
                self._there[_identity(row.values)] -= 1
            if new:
                self._run.log({**row.values, **_media(row)})
                self.sent += 1
            self.rows += 1
            yield row.values, new

    def send_checkpoints(self) -> None:
        """Sends the checkpoints that `best` and `last` point to, unless W&B has them."""
        aliases: dict[tuple[Path, int], list[str]] = {}
        for alias in (layout.BEST, layout.LAST) if self._artifacts else ():
            checkpoint = checkpoint_folder.pointed(self._folder / layout.CHECKPOINTS, alias)
            if checkpoint is not None and (checkpoint / STRUCTURE).exists():
                written = checkpoint, (checkpoint / STRUCTURE).stat().st_mtime_ns
                aliases.setdefault(written, []).append(alias)
        for written, names in aliases.items():
            if any(self._uploaded.get(name) != written for name in names):
                self._send_checkpoint(written[0], names)
                self._uploaded |= dict.fromkeys(names, written)

    def alert(self, title: str, text: str) -> None:
        """Sends an alert to the people who follow the run."""
        self._run.alert(title, text, level="ERROR")

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Ends the W&B run with its summary. Raises TimeoutError if not all could be sent."""
        self._run.summary.update(dict(summary))
        self._run.finish(exit_code=int(summary.get("status") == "failed"))

    def missing(self) -> int:
        """How many rows the server lacks after `finish`; 0 offline. Raises wandb.Error."""
        import wandb

        if self._run.offline:
            return 0
        api, missing = wandb.Api(timeout=int(wandb_client.INIT_SECONDS)), 0
        for seconds in COUNTS:
            time.sleep(seconds)
            there = api.run(self._run.path).historyLineCount
            missing = self._expected + self.sent - there
            if missing <= 0:
                break
        return max(missing, 0)

    def _stored_rows(self) -> Iterator[tuple[float, frozenset[str]]]:
        """What the server has."""
        import wandb

        run = wandb.Api(timeout=int(wandb_client.INIT_SECONDS)).run(self._run.path)
        return map(_identity, run.scan_history())

    def _send_checkpoint(self, checkpoint: Path, names: list[str]) -> None:
        """Sends one as an artifact; hard links hold what the run may delete meanwhile."""
        import wandb

        with tempfile.TemporaryDirectory(prefix=".artifact-", dir=self._folder) as held:
            try:
                shutil.copytree(checkpoint, held, copy_function=os.link, dirs_exist_ok=True)
            except FileNotFoundError:
                return  # deleted already: a newer one is there
            artifact = wandb.Artifact(f"checkpoint-{self._run.id}", type="model")
            artifact.add_dir(held, skip_cache=True)
            self._run.log_artifact(artifact, aliases=[*names, checkpoint.name])


def _begin(folder: Path, cfg: Config, mode: Literal["online", "offline"]) -> wandb.Run:
    import wandb

    about = provenance.identified(folder)
    git = about.get("git") or {}
    version = (about.get("versions") or {}).get("neuraxis")
    settings = wandb.Settings(
        silent=True,
        console="off",
        reinit="create_new",
        disable_code=True,
        disable_git=True,  # of the current folder; the commit that counts is neuraxis's
        git_commit=git.get("commit"),
        x_save_requirements=False,
        x_disable_meta=without_secrets(sys.argv) != sys.argv,  # it has the command line
        x_transaction_log_flush_interval=1.0,  # else a killed process loses 15 s of rows
        init_timeout=wandb_client.INIT_SECONDS,
        finish_timeout=CHECKPOINT_SECONDS if cfg.wandb.artifacts else FINISH_SECONDS,
        finish_timeout_raises=True,
    )
    stored = cfg.stored()
    extra = {"code": {"version": version, **git}}
    if "init" in about:  # what was loaded; `init` says how
        extra["loaded"] = about["init"]
    shown = type(cfg.wandb).model_validate(stored["wandb"])  # without secrets
    return wandb.init(
        entity=shown.entity,
        project=shown.project,
        group=shown.group,
        job_type=shown.job_type,
        notes=shown.notes,
        tags=shown.tags,
        dir=wandb_client.place(folder),  # wandb-core stays in the folder where it was started
        id=about["wandb_id"],
        name=shown.name or "-".join((*layout.label(cfg), f"s{cfg.seed}")),
        config=stored | extra,
        mode=mode,
        resume="allow",
        settings=settings,
    )


def _media(row: LoggedRow) -> dict[str, Any]:
    """The histograms and the film of a row, as W&B takes them."""
    import wandb

    found: dict[str, Any] = {}
    if row.histograms is not None:
        for name, (counts, edges) in json.loads(row.histograms.read_text()).items():
            found[name] = wandb.Histogram(np_histogram=(counts, edges))
    if row.film is not None:
        found["videos/evaluate"] = wandb.Video(str(row.film), format="mp4")
    return found


def _identity(row: Mapping[str, Any]) -> tuple[float, frozenset[str]]:
    """What tells a row from the others of its run: its step and what it measures."""
    names = (name for name, value in row.items() if isinstance(value, int | float))
    return row.get("steps", -1), frozenset(name for name in names if not name.startswith("_"))
