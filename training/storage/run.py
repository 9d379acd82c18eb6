"""A run that trains, and what it writes: metrics, checkpoints, summary.

    run = Run.create(cfg)                     run = Run.open(path); run.load(agent, source)
    run.add(rollout, metrics)                 one line in metrics.jsonl each log_interval_steps
    if run.due("eval"): run.log(evaluate(...))
    if run.due("save"): run.save(agent, source)
    run.finish("finished")

A checkpoint holds the means that were not logged yet and the size to which `load` cuts
metrics.jsonl: a resumed run ends with the lines of one never killed, except for `time/...`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from ...configs.config import Config
from ...core.rollout import Counted
from ...core.stateful import Stateful
from . import checkpoint, checkpoint_folder, layout, provenance, resumption
from .atomic_files import write_json
from .metrics import MetricsFile, Number, histogram
from .progress import Due, Progress
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
        self._saved_steps = -1
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
    def saved(self) -> bool:
        """Whether there is a checkpoint of this step."""
        return self._saved_steps == self.steps

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
        return self._write(self._progress.take())

    def due(self, what: Due) -> bool:
        """Whether a multiple of its interval was passed since it was last done; 0 is never.

        Saving is also due when the evaluation just logged is the best so far, so that it is kept.
        """
        new_best = self._progress.best_steps == self.steps and not self.saved
        best = what == "save" and new_best and self.interval(what) > 0
        return self._progress.due(what) or best

    def interval(self, what: Due) -> int:
        """Steps after which it is due again; 0 is never."""
        return self._progress.interval(what)

    def log(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Writes a line at once and returns it.

        With `evaluate/return`, the evaluation that was due is done, and the best one moves `best`.
        """
        row = self._write(metrics)
        score = metrics.get("evaluate/return")
        if score is not None:
            self._progress.done("eval")
            self._progress.done("film")
            if self._progress.scored(score) and self.saved:
                self._point(layout.BEST)
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
        self._saved_steps = self.steps
        if self._progress.best_steps == self.steps:
            self._point(layout.BEST)
        self._point(layout.LAST)  # after `best`: killed in between, the one before is the last
        checkpoint_folder.prune(self.checkpoints, self.cfg.checkpoint.keep)
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
            self._saved_steps = self.steps
            self._point(layout.LAST)  # before the lines of newer checkpoints are cut off
            best = layout.step_name(self._progress.best_steps)
            checkpoint_folder.point_back(self.checkpoints / layout.BEST, best)
        file.truncate(size)
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
        row = self._write(rest) if rest else None
        self._file.close()
        self._file = None
        why = {} if reason is None else {"reason": reason}
        self.summary = {"status": status, **why, **self._progress.summary(), **(final or {})}
        write_json(self.dir / layout.SUMMARY, self.summary)
        return row

    def _write(self, metrics: Mapping[str, float]) -> dict[str, float]:
        assert self._file is not None, "call create or load"
        row = self._progress.row(metrics)
        self._file.write(row)
        return row

    def _point(self, name: str) -> None:
        checkpoint_folder.point(self.checkpoints / name, layout.step_name(self.steps))
