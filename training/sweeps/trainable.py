"""The actor that runs a sweep's trials, and what the driver writes of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from ...core.errors import EnvError, RunError
from ..distributed import ray_cluster
from ..storage.atomic_files import read_json
from . import copies
from .advance import advance
from .trials import Sweep, Trial

TIME = "steps"
# Tune has no loggers, no prints and no signal handlers of its own here, and stays in its folder.
os.environ |= {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


class TrialError(RuntimeError):
    """Why a trial failed, in one line that survives the way from another process."""


class TrialTrainable(tune.Trainable):
    """An actor that trains one trial after another, from rung to rung."""

    sweep: Sweep

    def setup(self, config: dict[str, Any]) -> None:
        """Opens the sweep; its folder is in the `_config` of any trial."""
        self.sweep = Sweep.open(config["trial"]["sweep"], trust=True)  # the driver has asked
        ray_cluster.set_secrets(self.sweep.base().ray)
        # for meta.json, which else has the command line of Ray's worker
        sys.argv = ["neuraxis", "sweep", "--resume", str(self.sweep.folder)]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes over another trial: cheaper than another process."""
        return True

    def step(self) -> dict[str, Any]:
        """Trains the trial up to the next rung and reports the trial's score there."""
        total_steps = self.sweep.base().total_steps
        rungs = self.sweep.config.rungs(total_steps)
        trial = self._open()
        rung = next(steps for steps in rungs if steps > trial.steps)
        try:
            score = advance(trial, self.sweep, rung)
        except (EnvError, RunError, OSError, MemoryError, ValueError) as error:
            raise TrialError(str(error)) from None
        trial.scores.append((rung, score))
        trial.write()
        metric = self.sweep.config.metric
        return {TIME: rung, metric: score, "done": rung == total_steps}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Keeps the state of the trial for others; its own is in its folder."""
        copies.export(self._open(), Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint: dict[str, Any] | str | None) -> None:
        """Goes on as another trial, if it is another's checkpoint."""
        source = Path(str(checkpoint))
        if read_json(source / copies.KEPT)["trial"] != self.trial_name:
            parameters = self.config["trial"]["parameters"]
            copies.continue_from(self._open(), self.sweep, parameters, source)

    def _open(self) -> Trial:
        """The trial; its name is Tune's, for PBT overwrites its configuration with another's."""
        return Trial.open(self.sweep.folder / self.trial_name)


class SweepReporter(tune.Callback):
    """Writes into the trials' folders what Tune has decided, and tells it."""

    def __init__(self, sweep: Sweep, say: Callable[[str], None]) -> None:
        self.sweep = sweep
        self.say = say
        self.total_steps = sweep.base().total_steps

    def __getstate__(self) -> dict[str, Any]:
        """Tune stores a copy, which nobody reads: what `say` holds need not be stored."""
        return {}

    def on_trial_result(
        self,
        iteration: int,
        trials: list[TuneTrial],
        trial: TuneTrial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        """Says the score of a trial that has reached a rung."""
        metric = self.sweep.config.metric
        steps = f"{result[TIME]:,}/{self.total_steps:,} steps"
        self.say(f"{trial}  {steps}  {metric} {result[metric]:.4g}")

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """It is at its end, or was stopped before."""
        own = self._open(trial)
        own.ended = "finished" if own.steps == self.total_steps else "stopped"
        own.write()
        if own.ended == "stopped":
            self.say(f"{own.name}  stopped early at {own.steps:,} steps")

    def on_trial_error(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """It failed; the others go on."""
        own = self._open(trial)
        own.ended, own.reason = "failed", _reason(trial)
        own.write()
        self.say(f"{own.name}  failed: {own.reason}")

    def _open(self, trial: TuneTrial) -> Trial:
        return Trial.open(self.sweep.folder / str(trial))


def _reason(trial: TuneTrial) -> str:
    """What a trial failed of: the last line of the report that Tune has of it."""
    assert trial.error_file is not None, "Tune writes it before it tells of the failure"
    report = Path(trial.error_file).read_text(encoding="utf-8").strip()
    _, _, line = report.rpartition("\n")
    _, own, words = line.partition(f"{TrialError.__name__}: ")
    return words if own else line
