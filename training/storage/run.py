"""A run that trains, and what it writes: metrics, checkpoints, summary.

    run = Run.create(cfg)                     run = Run.open(path); run.load(agent, source)
    run.add(rollout, metrics)                 one line in metrics.jsonl each log_interval_steps
    if run.due("eval"): run.log(evaluate(...))      or run.begin_evaluation(weights); later log
    if run.due("save"): run.save(agent, source)
    run.finish("finished")

A checkpoint holds the means that were not logged yet and the size to which `load` cuts
metrics.jsonl: a resumed run ends with the lines of one never killed, except for `time/...`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from ...configs.config import Config
from ...core.rollout import Counted
from ...core.stateful import Stateful
from . import checkpoint, checkpoint_folder, layout, provenance, resumption
from .atomic_files import write_json
from .intervals import Due
from .metrics import MetricsFile, Number, histogram
from .progress import PendingEvaluation, Progress
from .run_folder import RunFolder, Status
from .run_state import capture, find, restore


class Run(RunFolder):
    """A run that trains, once `create` or `load` was called.

    Attributes:
        stop_reason: what `stop` was told first; None if nothing has stopped the run.
    """

    def __init__(self, cfg: Config, folder: Path) -> None:
        super().__init__(cfg, folder)
        self._progress = Progress(cfg)
        self._file: MetricsFile | None = None
        self.stop_reason: str | None = None

    @classmethod
    def create(cls, cfg: Config) -> Run:
        """Makes a new run and its folder.

        Raises:
            ValueError: `run_dir` is taken.
            RunError: the disk refuses.
        """
        run = cls(cfg, layout.create(cfg))
        provenance.write_config(run.dir, cfg)
        write_json(run.dir / layout.META, provenance.describe())
        run._file = MetricsFile(run.dir / layout.METRICS)
        return run

    @property
    def steps(self) -> int:
        """Environment steps so far."""
        return self._progress.steps

    @property
    def latest(self) -> dict[str, float]:
        """The newest value of every metric that was logged."""
        return self._progress.latest

    @property
    def pending(self) -> PendingEvaluation | None:
        """The evaluation that was begun and is not logged yet."""
        return self._progress.pending

    @property
    def saved(self) -> bool:
        """Whether there is a checkpoint of this step."""
        return self._progress.saved_steps == self.steps

    @property
    def ended(self) -> bool:
        """Whether `finish` was called."""
        return self._file is None

    def stop(self, reason: str) -> None:
        """Ends the run before its next rollout, with a checkpoint and its final evaluation.

        Its status is then `stopped`, and summary.json has the reason; `neuraxis resume` trains on.
        """
        self.stop_reason = self.stop_reason or reason

    def add(
        self,
        rollout: Counted,
        metrics: Mapping[str, Number],
        tensors: Callable[[], Mapping[str, torch.Tensor]] = dict,
    ) -> dict[str, float] | None:
        """Counts a rollout; writes a line each `log_interval_steps`, and returns it.

        Args:
            rollout: the rollout.
            metrics: what learning from it returned.
            tensors: gives weights and gradients; called only when their histograms are due.

        Raises:
            RunError: a loss is no longer finite.
        """
        self._progress.add(rollout, metrics)
        if not self.due("log"):
            return None
        self._progress.done("log")
        self._progress.check()
        if self.due("histograms"):
            self._progress.done("histograms")
            file = layout.histogram_file(self.dir, self.steps)  # there before its line is
            write_json(file, {name: histogram(t) for name, t in tensors().items()})
        return self._write(self._progress.take(), self.steps)

    def due(self, what: Due) -> bool:
        """Whether it is due, see `Progress.due`."""
        return self._progress.due(what)

    def interval(self, what: Due) -> int:
        """Steps after which it is due again; 0 is never."""
        return self._progress.interval(what)

    def begin_evaluation(self, weights: np.ndarray) -> PendingEvaluation:
        """An evaluation of the weights of now, bytes [S], which is logged later: it is pending."""
        return self._progress.begin_evaluation(weights)

    def log(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Writes a line at once and returns it.

        With `evaluate/return` it is of the step of the pending evaluation, or the one that was due
        is done. The best one moves `best`.
        """
        score = metrics.get("evaluate/return")
        steps = self.steps if score is None else self._progress.evaluated()
        row = self._write(metrics, steps)
        if score is not None and self._progress.scored(score, steps):
            folder = self.checkpoints / layout.step_name(steps)
            if self.saved if steps == self.steps else self.interval("save") and folder.is_dir():
                checkpoint_folder.point(self.checkpoints / layout.BEST, folder.name)
        return row

    def save(self, agent: Stateful, source: Stateful) -> Path:
        """Writes a checkpoint, points `last` (and `best`) at it, deletes what is not kept.

        Raises:
            RunError: the disk refuses, or a loss is not finite: the last good checkpoint stays.
        """
        assert self._file is not None, "call create or load"
        self._progress.check()
        self._progress.done("save")
        tree = capture(agent, source, self._progress, self._file.sync())
        folder = self.checkpoints / layout.step_name(self.steps)
        checkpoint.write(folder, tree)
        self._progress.saved_steps = self.steps
        best = self._progress.best_steps == self.steps
        pending = [] if self.pending is None else [layout.step_name(self.pending.steps)]
        checkpoint_folder.publish(folder, best, self.cfg.checkpoint.keep, pending)
        return folder

    def load(self, agent: Stateful, source: Stateful, which: str = layout.LAST) -> list[str]:
        """Goes on from a checkpoint; what was logged after it is deleted.

        A run that was killed before its first checkpoint starts from the beginning, with the
        agent and the source as they are: just built from its configuration.

        Returns:
            What is not as it was, in sentences: versions, machine, environments.

        Raises:
            ValueError: no checkpoint of this name, nothing is left to do, or total_steps was
                changed to less than the checkpoint has.
            RunError: it is damaged or does not fit, all were deleted, or the run is training.
        """
        layout.refuse_links(self.dir)
        file = self._file = MetricsFile(self.dir / layout.METRICS)
        size, columns = 0, Counter[str]()
        if (found := find(self, which)) is not None:
            folder, tree = found
            size = tree["metrics_bytes"]
            file.check(size)
            columns = restore(tree, folder, agent, source, self._progress)
            checkpoint_folder.point(self.checkpoints / layout.LAST, folder.name)
            best = layout.step_name(self._progress.best_steps)
            checkpoint_folder.point_back(self.checkpoints / layout.BEST, best)
        file.truncate(size)  # after `last`: killed in between, it has lines too many, not too few
        changes = resumption.note(self.dir, self.steps, self.cfg.num_envs, columns)
        provenance.write_config(self.dir, self.cfg)
        return changes

    def finish(
        self, status: Status, final: Mapping[str, float] | None = None, reason: str | None = None
    ) -> dict[str, float] | None:
        """Logs what is left, returns that line and writes summary.json; a second call does nothing.

        Args:
            status: how it ended.
            final: `evaluate/...` and `best/...` of the final evaluation.
            reason: what has stopped it, or why it failed.
        """
        if self._file is None:
            return None
        rest = self._progress.take()
        row = self._write(rest, self.steps) if rest else None
        self._file.close()
        self._file = None
        why = {} if reason is None else {"reason": reason}
        self.summary = {"status": status, **why, **self._progress.summary(), **(final or {})}
        write_json(self.dir / layout.SUMMARY, self.summary)
        return row

    def _write(self, metrics: Mapping[str, float], steps: int) -> dict[str, float]:
        assert self._file is not None, "call create or load"
        row = self._progress.row(metrics, steps)
        self._file.write(row)
        return row
