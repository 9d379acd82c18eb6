"""One W&B run that repeats what a run's folder says: metrics, histograms, films, checkpoints.

Whoever sends next, after an outage, a kill or a resume, first reads which rows the server has: no
row is missing and none comes twice. What the server has it keeps, rows can't be taken back.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from . import client, folders, meta
from .checkpoint import STRUCTURE

if TYPE_CHECKING:
    import wandb

    from ..configs.config import Config

FINISH_SECONDS = 30.0
"""How long what is still on its way may take when the run has ended."""
CHECKPOINT_SECONDS = 600.0
"""The same where checkpoints go up, which may be large."""
COUNTS = (0.0, 1.0, 3.0)
"""Seconds before it is asked for its rows, until they are right: it may count after it took."""


class Mirror:
    """W&B's copy of a run folder, of which it only reads all but `wandb/`.

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
        self._read = 0  # bytes of metrics.jsonl
        self._steps = -1  # of the line before
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
        for line in self._new_lines():
            row = {key: value for key, value in json.loads(line).items() if value is not None}
            there = self._there[_identity(row)] > 0
            new = self.rows >= self._first and not there
            if there:
                self._there[_identity(row)] -= 1
            if new:
                self._run.log({**row, **self._media(row)})
                self.sent += 1
            self.rows += 1
            self._steps = row["steps"]
            yield row, new

    def send_checkpoints(self) -> None:
        """Sends the checkpoints that `best` and `last` point to, unless W&B has them."""
        aliases: dict[tuple[Path, int], list[str]] = {}
        for alias in ("best", "last") if self._artifacts else ():
            structure = self._folder / "checkpoints" / alias / STRUCTURE
            if structure.exists():
                written = structure.resolve().parent, structure.stat().st_mtime_ns
                aliases.setdefault(written, []).append(alias)
        for written, names in aliases.items():
            if any(self._uploaded.get(name) != written for name in names):
                self._send_checkpoint(written[0], names)
                self._uploaded |= dict.fromkeys(names, written)

    def alert(self, title: str, text: str) -> None:
        """Has W&B tell the people who follow the run."""
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
        api, missing = wandb.Api(timeout=int(client.INIT_SECONDS)), 0
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

        run = wandb.Api(timeout=int(client.INIT_SECONDS)).run(self._run.path)
        return map(_identity, run.scan_history())

    def _new_lines(self) -> Iterator[bytes]:
        """The whole lines of metrics.jsonl that were not read yet."""
        with (self._folder / "metrics.jsonl").open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):  # still being written
                    return
                self._read += len(line)
                yield line

    def _media(self, row: Mapping[str, float]) -> dict[str, Any]:
        """The histograms and the film of a row's step: each goes with one row."""
        import wandb

        found: dict[str, Any] = {}
        histograms = histogram_file(self._folder, int(row["steps"]))
        if row["steps"] != self._steps and histograms.exists():
            for name, (counts, edges) in json.loads(histograms.read_text()).items():
                found[name] = wandb.Histogram(np_histogram=(counts, edges))
        film = film_file(self._folder.resolve(), int(row["steps"]))
        if "evaluate/return" in row and film.exists():
            found["videos/evaluate"] = wandb.Video(str(film), format="mp4")
        return found

    def _send_checkpoint(self, checkpoint: Path, names: list[str]) -> None:
        """Sends one as an artifact; hard links hold what the run may delete meanwhile."""
        import wandb

        with tempfile.TemporaryDirectory(dir=self._folder / "wandb") as held:
            try:
                shutil.copytree(checkpoint, held, copy_function=os.link, dirs_exist_ok=True)
            except FileNotFoundError:
                return  # deleted already: a newer one is there
            artifact = wandb.Artifact(f"checkpoint-{self._run.id}", type="model")
            artifact.add_dir(held, skip_cache=True)
            self._run.log_artifact(artifact, aliases=[*names, checkpoint.name])


def _begin(folder: Path, cfg: Config, mode: Literal["online", "offline"]) -> wandb.Run:
    import wandb

    about = meta.identified(folder)
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
        x_transaction_log_flush_interval=1.0,  # else a killed process loses 15 s of rows
        init_timeout=client.INIT_SECONDS,
        finish_timeout=CHECKPOINT_SECONDS if cfg.wandb.artifacts else FINISH_SECONDS,
        finish_timeout_raises=True,
    )
    return wandb.init(
        entity=cfg.wandb.entity,
        project=cfg.wandb.project,
        group=cfg.wandb.group,
        job_type=cfg.wandb.job_type,
        notes=cfg.wandb.notes,
        tags=cfg.wandb.tags,
        dir=folder.resolve(),  # wandb-core stays in the folder where it was started
        id=about["wandb_id"],
        name="-".join((*folders.label(cfg), f"s{cfg.seed}")),
        config=cfg.model_dump(mode="json") | {"code": {"version": version, **git}},
        mode=mode,
        resume="allow",
        settings=settings,
    )


def _identity(row: Mapping[str, Any]) -> tuple[float, frozenset[str]]:
    """What tells a row from the others of its run: its step and what it measures."""
    names = (name for name, value in row.items() if isinstance(value, int | float))
    return row.get("steps", -1), frozenset(name for name in names if not name.startswith("_"))


def histogram_file(folder: Path, steps: int) -> Path:
    """Where a run keeps the histograms of a step: {name: [counts, edges]} as JSON."""
    return folder / "histograms" / f"step_{steps:09d}.json"


def film_file(folder: Path, steps: int) -> Path:
    """Where a run keeps the film of a step's evaluation."""
    return folder / "videos" / f"step_{steps:09d}.mp4"
