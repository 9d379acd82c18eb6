"""The runs of a trial, from milestone to milestone of its sweep.

They are ordinary runs: begun as by `neuraxis train`, stopped at a milestone as by Ctrl-C, taken up
again as by `neuraxis resume`. This is also how a sweep that was killed goes on.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from ..configs import Config, load_file
from . import checkpoints, folders, records
from .files import RunError
from .loop import prepare
from .metrics import Busy, MetricsFile
from .run import Run
from .trials import CHECKPOINTS, METRICS, Sweep, Trial

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
        score = records.read(folder).score(sweep.config.metric)
        if score is None:
            raise RunError(f"{folder}: {sweep.config.metric} was not measured")
        scores.append(score)
    return sum(scores) / len(scores)


def _advance_run(cfg: Config, folder: Path, milestone: int) -> None:
    """Starts the run, or goes on with it from its last checkpoint, up to the milestone.

    One that has reached it already stays as it is.
    """
    _wait_for_leftover(folder)
    started = folders.is_run(folder)
    if started:
        record = records.read(folder)
        if record.status == "finished":
            return
        if record.status == "interrupted" and record.summary["steps"] >= milestone:
            return
        cfg = load_file(folder / "config.yaml")
        started = bool(checkpoints.steps(folder / CHECKPOINTS))
    if not started:  # killed before its first checkpoint, or before it had its config.yaml
        shutil.rmtree(folder, ignore_errors=True)
    session = prepare(cfg, folder if started else None)

    def pause(run: Run) -> None:
        if milestone <= run.steps < cfg.total_steps:
            session.stopping = True

    pause(session.record)  # killed between the checkpoint of the milestone and the summary
    if session.run(pause).steps < milestone:
        raise RunError(f"{folder}: interrupted at {session.record.steps:,} steps")


def _wait_for_leftover(folder: Path) -> None:
    """Waits until nobody trains in the run: Ray's workers outlive a sweep that is killed.

    Raises Busy if that takes longer than `LEFTOVER_SECONDS`.
    """
    deadline = time.monotonic() + LEFTOVER_SECONDS
    while (file := folder / METRICS).exists():
        try:
            MetricsFile(file).close()
            return
        except Busy:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
