"""The runs of a trial, from rung to rung of its sweep.

They are ordinary runs: they start as by `neuraxis train`, pause at a rung as by Ctrl-C, and go on
as by `neuraxis resume`. This is also how a sweep that was killed goes on.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...configs import Config, load_file
from ...core.errors import RunError
from ..callbacks import Callback
from ..loop import Session
from ..session import prepare
from ..storage import layout, stored_run
from ..storage.metrics import Busy, MetricsFile
from ..storage.run import Run
from .trials import Sweep, Trial

LEFTOVER_SECONDS = 60


def advance(trial: Trial, sweep: Sweep, rung: int) -> float:
    """Trains the run of each seed up to `rung` and returns the mean of their scores.

    Args:
        trial: whose runs they are; it stays as it is.
        sweep: to which it belongs.
        rung: in environment steps of a run.

    Raises:
        ValueError, EnvError, RunError: see `prepare` and `Session.run`.
        RunError: the metric was not measured, or a run was interrupted.
    """
    scores = []
    for seed in range(sweep.config.seeds):
        cfg = sweep.run_config(trial.parameters, seed, trial.place)
        folder = Path(str(cfg.run_dir))
        advance_run(cfg, folder, rung)
        score = stored_run.read(folder).score(sweep.config.metric)
        if score is None:
            raise RunError(f"{folder}: {sweep.config.metric} was not measured")
        scores.append(score)
    return sum(scores) / len(scores)


def advance_run(cfg: Config, folder: Path, rung: int) -> None:
    """Starts the run, or resumes it from its last checkpoint, and trains it up to the rung.

    A run that has reached the rung already, or was stopped by `eval.patience`, stays as it is.
    """
    _wait_for_leftover(folder)
    started = layout.is_run(folder)
    if started:
        stored = stored_run.read(folder)
        if stored.status in ("finished", "stopped"):
            return
        if stored.status == "interrupted" and stored.summary["steps"] >= rung:
            return
        cfg = load_file(folder / layout.CONFIG, trust=True)  # the sweep is trusted, and made it
    else:  # killed before it had its config.yaml
        shutil.rmtree(folder, ignore_errors=True)
    session = prepare(cfg, folder if started else None)
    run = session.run([_PauseAt(rung, session)])
    if run.steps < rung and run.summary["status"] != "stopped":
        raise RunError(f"{folder}: interrupted at {run.steps:,} steps")


class _PauseAt(Callback):
    """Pauses a run at a rung, unless the run ends there."""

    def __init__(self, rung: int, session: Session) -> None:
        self.rung, self.session = rung, session

    def on_start(self, run: Run) -> None:
        """A run that was killed after the checkpoint of the rung has reached it already."""
        self._pause(run)

    def on_update(self, run: Run, metrics: Mapping[str, Any]) -> None:
        """Looks whether the run has reached the rung."""
        self._pause(run)

    def _pause(self, run: Run) -> None:
        if self.rung <= run.steps < run.cfg.total_steps:
            self.session.pause()


def _wait_for_leftover(folder: Path) -> None:
    """Waits until nobody trains in the run: Ray's workers outlive a sweep that is killed.

    Raises Busy if that takes longer than `LEFTOVER_SECONDS`.
    """
    deadline = time.monotonic() + LEFTOVER_SECONDS
    while (file := folder / layout.METRICS).exists():
        try:
            MetricsFile(file).close()
            return
        except Busy:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
