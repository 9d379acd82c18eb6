"""The runs of a trial, from milestone to milestone of its sweep.

They are ordinary runs: begun as by `neuraxis train`, stopped at a milestone as by Ctrl-C, taken up
again as by `neuraxis resume`. This is also how a sweep that was killed goes on.
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


def advance(trial: Trial, sweep: Sweep, milestone: int) -> float:
    """Brings the run of each seed to `milestone` and returns the mean of their scores.

    Args:
        trial: whose runs they are; it stays as it is.
        sweep: to which it belongs.
        milestone: in environment steps of a run.

    Raises:
        ValueError, EnvError, RunError: see `prepare` and `Session.run`.
        RunError: the metric was not measured, or a run was interrupted.
    """
    scores = []
    for seed in range(sweep.config.seeds):
        cfg = sweep.run_config(trial.parameters, seed, trial.place)
        folder = Path(str(cfg.run_dir))
        _advance_run(cfg, folder, milestone)
        score = stored_run.read(folder).score(sweep.config.metric)
        if score is None:
            raise RunError(f"{folder}: {sweep.config.metric} was not measured")
        scores.append(score)
    return sum(scores) / len(scores)


def _advance_run(cfg: Config, folder: Path, milestone: int) -> None:
    """Starts the run, or goes on with it from its last checkpoint, up to the milestone.

    One that has reached it already, or was stopped (`eval.patience`), stays as it is.
    """
    _wait_for_leftover(folder)
    started = layout.is_run(folder)
    if started:
        stored = stored_run.read(folder)
        if stored.status in ("finished", "stopped"):
            return
        if stored.status == "interrupted" and stored.summary["steps"] >= milestone:
            return
        cfg = load_file(folder / layout.CONFIG, trust=True)  # the sweep is trusted, and made it
    else:  # killed before it had its config.yaml
        shutil.rmtree(folder, ignore_errors=True)
    session = prepare(cfg, folder if started else None)
    run = session.run([_PauseAt(milestone, session)])
    if run.steps < milestone and run.summary["status"] != "stopped":
        raise RunError(f"{folder}: interrupted at {run.steps:,} steps")


class _PauseAt(Callback):
    """Pauses a run at a milestone, unless its end is there."""

    def __init__(self, milestone: int, session: Session) -> None:
        self.milestone, self.session = milestone, session

    def on_start(self, run: Run) -> None:
        """Killed between the checkpoint of the milestone and the summary, it is there already."""
        self._pause(run)

    def on_update(self, run: Run, metrics: Mapping[str, Any]) -> None:
        """It may have come there."""
        self._pause(run)

    def _pause(self, run: Run) -> None:
        if self.milestone <= run.steps < run.cfg.total_steps:
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
