"""A run and its folder: configuration, metrics, checkpoints, summary.

    run = Run.create(cfg)                     run = Run.open(path); run.load(agent, source)
    run.record(rollout, metrics)              one line in metrics.jsonl each log_interval_steps
    if run.due("eval"): run.log(evaluate(...))
    if run.due("save"): run.save(agent, source)
    run.finish("finished")

Killed at any moment and resumed, a run ends with the metrics.jsonl of one never killed, but for
`time/...`: a checkpoint holds what was not yet logged and the size of metrics.jsonl, which is cut
back to it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from .. import configs
from ..configs.config import Config
from ..envs.errors import EnvError
from ..envs.rollout import Rollout
from . import checkpoint, checkpoints, folders, meta, rng
from .files import RunError, read_json, write_json, write_text
from .metrics import MetricsFile, Number, histogram
from .mirror import film_file, histogram_file
from .progress import Progress
from .tracking import Tracker


class Stateful(Protocol):
    """An agent or a source."""

    def state_dict(self) -> Any:
        """A tree, see `checkpoint`."""
        ...

    def load_state_dict(self, state: Any, /) -> int | None:
        """Goes back to where `state_dict` stood; a source says how many columns reopened."""
        ...


class Run:
    """A run; `create` or `load` make it one that trains.

    Attributes:
        cfg: its configuration.
        dir: its folder.
        summary: the content of summary.json; empty while there is none.
    """

    def __init__(self, cfg: Config, folder: Path) -> None:
        self.cfg = cfg
        self.dir = folder
        self.summary: dict[str, Any] = {}
        self._progress = Progress()
        self._saved_steps = -1
        self._file: MetricsFile | None = None
        self._tracker: Tracker | None = None

    @classmethod
    def create(cls, cfg: Config) -> Run:
        """Makes a new run and its folder.

        Raises:
            ValueError: `run_dir` is taken.
            RunError: the disk refuses.
        """
        run = cls(cfg, folders.create(cfg))
        run._write_config()
        write_json(run.dir / "meta.json", meta.describe())
        run._file = MetricsFile(run.dir / "metrics.jsonl")
        run._tracker = Tracker(run.dir, cfg)
        return run

    @classmethod
    def open(cls, path: str | Path, cfg: Config | None = None) -> Run:
        """Opens a run for reading, or for `load`, which goes on with `cfg` where it is given.

        Raises:
            ValueError: no run there (names those nearby), or its config.yaml is not valid.
            RunError: the summary cannot be read.
        """
        folder = folders.find(path)
        run = cls(cfg or configs.load_file(folder / "config.yaml"), folder)
        run.summary = read_json(folder / "summary.json")
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
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.dir / "checkpoints"

    def record(
        self,
        rollout: Rollout,
        metrics: Mapping[str, Number],
        tensors: Callable[[], Mapping[str, torch.Tensor]] = dict,
    ) -> None:
        """Counts a rollout and what was learnt from it; writes a line each `log_interval_steps`.

        Args:
            rollout: the rollout.
            metrics: what learning from it returned.
            tensors: gives weights and gradients; asked only when their histograms are due.

        Raises:
            RunError: a loss is no longer finite.
        """
        self._progress.add(rollout, metrics)
        if self._progress.crossed("log", self.cfg.log_interval_steps):
            self._progress.check()
            if self._progress.crossed("histograms", self.cfg.wandb.histogram_interval_steps):
                file = histogram_file(self.dir, self.steps)  # before the line that it goes up with
                write_json(file, {name: histogram(t) for name, t in tensors().items()})
            self._write(self._progress.take())

    def film(self) -> Path | None:
        """The file for a film of this moment's policy, if one is due."""
        due = self._progress.crossed("film", self.cfg.eval.video_interval_steps)
        return film_file(self.dir, self.steps) if due else None

    def due(self, what: Literal["eval", "save"]) -> bool:
        """Whether a multiple of the interval was passed since it was last due; 0 is never.

        Saving is also due when the evaluation just logged is the best so far, so that it is kept.
        """
        if what == "eval":
            return self._progress.crossed("eval", self.cfg.eval.interval_steps)
        interval = self.cfg.checkpoint.interval_steps
        best = self._progress.best_steps == self.steps != self._saved_steps
        return self._progress.crossed("save", interval) or (best and interval > 0)

    def postpone(self, what: Literal["eval", "film"]) -> None:
        """Makes due again what was just due, for it could not be done."""
        self._progress.postpone(what)

    def log(self, metrics: Mapping[str, float]) -> None:
        """Writes a line at once; the best `evaluate/return` decides what checkpoints/best is."""
        self._write(metrics)
        score = metrics.get("evaluate/return")
        if score is not None and self._progress.scored(score) and self._saved_steps == self.steps:
            self._point("best")

    def save(self, agent: Stateful, source: Stateful) -> None:
        """Writes a checkpoint, points `last` (and `best`) at it and deletes what is not kept.

        Raises:
            RunError: the disk refuses, or a loss is not finite: the last good checkpoint stays.
        """
        assert self._file is not None, "open for reading: call create or load"
        self._progress.check()
        tree = {
            "agent": agent.state_dict(),
            "source": source.state_dict(),
            "progress": self._progress.state_dict(),
            "metrics_bytes": self._file.sync(),
            "rng": rng.state_dict(),
        }
        checkpoint.write(self.checkpoints / checkpoints.name(self.steps), tree)
        self._saved_steps = self.steps
        if self._progress.best_steps == self.steps:
            self._point("best")
        self._point("last")  # after `best`: killed in between, the run goes on from the one before
        checkpoints.prune(self.checkpoints, self.cfg.checkpoint.keep)

    def read(self, which: str = "last", *keys: str) -> dict[str, Any]:
        """Returns the tree of checkpoint `last`, `best` (without a best: `last`) or `step_...`.

        Its keys are agent, source, progress, metrics_bytes and rng; of them, `keys` lead to a
        branch that is read alone, without a replay of gigabytes. Raises as `load`.
        """
        return checkpoint.read(checkpoints.chosen(self.checkpoints, which), *keys)

    def load(self, agent: Stateful, source: Stateful, which: str = "last") -> int:
        """Goes on from a checkpoint; what came after it is forgotten.

        Returns:
            How many columns could not be restored and open a new episode.

        Raises:
            ValueError: no checkpoint of this name, or there is nothing left to do.
            RunError: none at all, a damaged one, one that does not fit; or the run is training.
        """
        self._file = MetricsFile(self.dir / "metrics.jsonl")
        checkpoints.repair(self.checkpoints)
        folder = checkpoints.chosen(self.checkpoints, which)
        tree = checkpoint.read(folder)
        steps, finished = tree["progress"]["steps"], self.summary.get("status") == "finished"
        if finished and steps >= self.cfg.total_steps:
            raise ValueError(
                f"{self.dir}: has finished its {steps} steps; expected more in total_steps="
                f"{self.cfg.total_steps}"
            )
        self._file.check(tree["metrics_bytes"])
        with fitting(folder):
            agent.load_state_dict(tree["agent"])
            reopened = source.load_state_dict(tree["source"]) or 0
        self._progress.load_state_dict(tree["progress"])
        self._saved_steps = self.steps
        self._point("last")  # before metrics.jsonl is cut, lest the newer one misses its lines
        checkpoints.point_back(
            self.checkpoints / "best", checkpoints.name(self._progress.best_steps)
        )
        self._file.truncate(tree["metrics_bytes"])
        meta.note_resumption(self.dir, self.steps)
        self._write_config()  # with what has changed
        self._tracker = Tracker(self.dir, self.cfg)
        rng.load_state_dict(tree["rng"])  # at last: nothing above may draw from them
        return reopened

    def finish(
        self,
        status: Literal["finished", "interrupted", "failed"] = "finished",
        final: Mapping[str, float] | None = None,
        failure: str | None = None,
    ) -> None:
        """Logs what is left, writes summary.json, ends the W&B run; a second call does nothing.

        Args:
            status: how it ended.
            final: `evaluate/...` of the final evaluation, in place of the newest ones.
            failure: what ended it, for those who follow it in W&B.
        """
        if self._file is None:
            return
        if rest := self._progress.take():
            self._write(rest)
        self._file.close()
        self._file = None
        self.summary = {"status": status, **self._progress.summary(), **(final or {})}
        write_json(self.dir / "summary.json", self.summary)
        if self._tracker is not None:
            self._tracker.finish(self.summary, failure)

    def _write(self, metrics: Mapping[str, float]) -> None:
        assert self._file is not None, "open for reading: call create or load"
        self._file.write(self._progress.row(metrics))

    def _point(self, link: str) -> None:
        checkpoints.point(self.checkpoints / link, checkpoints.name(self.steps))

    def _write_config(self) -> None:
        write_text(self.dir / "config.yaml", configs.dump(self.cfg.model_dump(mode="json")))


@contextmanager
def fitting(folder: Path) -> Iterator[None]:
    """Turns what loading a checkpoint of another network or environment raises into a RunError."""
    try:
        yield
    except (EnvError, RunError):
        raise
    except (KeyError, RuntimeError) as error:
        reason = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise RunError(f"{folder}: does not fit what config.yaml describes: {reason}") from error
