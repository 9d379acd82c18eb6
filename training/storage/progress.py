"""How far a run is, what it has measured since its last line, and what is due."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...configs.config import Config
from ...core.errors import RunError
from ...core.rollout import Counted
from .intervals import Due, interval
from .metrics import Clock, Means, Number
from .stored_run import BEST_STEPS


@dataclass(frozen=True)
class PendingEvaluation:
    """An evaluation that was begun and has no result yet, with all that it depends on."""

    steps: int
    """Of the weights."""
    interval: int
    """Steps between evaluations at that time."""
    film: bool
    """Whether an episode is filmed, too."""
    weights: np.ndarray
    """Bytes [S], see `distributed.packed_weights`."""


class Progress:
    """The counters and means of a run, which its checkpoints hold.

    Args:
        cfg: The run's configuration.

    Attributes:
        steps: environment steps so far.
        rollout_steps: rows of the newest rollout, resets included.
        latest: the newest value of every metric that was logged.
        best, best_steps: the best `evaluate/return` and its step.
        pending: an evaluation that is under way in another process.
        saved_steps: the step of the newest checkpoint.
        _marks: the step at which each was last done; 0 where there is none, -1 before step 0.
    """

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        self.steps = self.rollout_steps = 0
        self.latest: dict[str, float] = {}
        self.best, self.best_steps = -math.inf, -1
        self.pending: PendingEvaluation | None = None
        self.saved_steps = -1
        self.clock = Clock()
        self._means = Means()
        self._marks = {"eval": -1} if interval("eval", cfg) <= cfg.total_steps else {}
        self._logged = (0, 0.0)  # steps and seconds at the last row of means

    def add(self, rollout: Counted, metrics: Mapping[str, Number]) -> None:
        """Counts a rollout, its episodes, and the metrics of learning from it."""
        self.steps += rollout.steps
        self.rollout_steps = rollout.rows
        for key, value in metrics.items():
            self._means.add(key, value)
        if len(rollout.episodes):
            _, returns, lengths, successes = rollout.episodes.T
            self._means.add("episode/return", float(returns.sum()), len(returns))
            self._means.add("episode/length", float(lengths.sum()), len(lengths))
            if len(known := successes[~np.isnan(successes)]):
                self._means.add("episode/success", float(known.sum()), len(known))

    def interval(self, what: Due) -> int:
        """Steps after which it is due again; 0 is never."""
        return interval(what, self._cfg, self.rollout_steps)

    def due(self, what: Due) -> bool:
        """Whether a multiple of its interval was passed since it was last done; 0 is never.

        A learning curve begins at step 0: an evaluation is due there, too, if others will follow.
        Saving is also due at the step of an evaluation that is the best so far, or may become it.
        """
        steps = self.interval(what)
        if what == "save" and steps and self.saved_steps != self.steps and self._may_be_best():
            return True
        return steps > 0 and self.steps // steps != self._marks.get(what, 0) // steps

    def _may_be_best(self) -> bool:
        """Whether the weights of now are the best, as far as that is known."""
        candidates = (self.best_steps, self.pending and self.pending.steps)
        return self.steps > 0 and self.steps in candidates

    def done(self, what: Due) -> None:
        """Takes note that it was done, until it is due again."""
        self._marks[what] = self.steps

    def begin_evaluation(self, weights: np.ndarray) -> PendingEvaluation:
        """Makes the evaluation of these weights, those of now, the pending one."""
        assert self.pending is None, "one at a time"
        self.pending = PendingEvaluation(
            self.steps, self.interval("eval"), self.due("film"), weights
        )
        self.done("eval")
        self.done("film")
        return self.pending

    def evaluated(self) -> int:
        """Ends the pending evaluation, else the one that was due now; returns its step."""
        ended, self.pending = self.pending, None
        if ended is not None:
            return ended.steps
        self.done("eval")
        self.done("film")
        return self.steps

    def check(self) -> None:
        """Raises RunError if a loss is no longer finite; waits for the device."""
        for key, value in self._means.means().items():
            if key.startswith("loss/") and not math.isfinite(value):
                raise RunError(
                    f"{key} is {value} at step {self.steps}: training diverged; "
                    "a smaller agent.learning_rate may help"
                )

    def take(self) -> dict[str, float]:
        """Returns the means since the last call, and clears them; {} if there are none."""
        means = self._means.means()
        if not means:
            return {}
        seconds, _ = self.clock.read()
        steps_before, seconds_before = self._logged
        self._logged = (self.steps, seconds)
        speed = (self.steps - steps_before) / max(seconds - seconds_before, 1e-9)
        count = self._means.count("episode/return")
        self._means.clear()
        return {**means, "episode/count": count, "time/steps_per_second": speed}

    def row(self, metrics: Mapping[str, float], steps: int) -> dict[str, float]:
        """Returns the metrics of a step with the time of now, and keeps them as the latest."""
        seconds, cpu_seconds = self.clock.read()
        time = {"time/seconds": seconds, "time/cpu_seconds": cpu_seconds}
        row = {**metrics, **time, "steps": steps}
        self.latest |= row | {"steps": self.steps}
        return row

    def scored(self, score: float, steps: int) -> bool:
        """Whether this evaluation is the best so far; of equal ones the newest is the best.

        The policy before training is none to choose: the run has no checkpoint of it.
        """
        if steps == 0 or not score >= self.best:
            return False
        self.best, self.best_steps = score, steps
        return True

    def summary(self) -> dict[str, float]:
        """Steps, seconds, the best's step, and the newest means of both kinds of episodes."""
        seconds, cpu_seconds = self.clock.read()
        kept = {k: v for k, v in self.latest.items() if k.startswith(("evaluate/", "episode/"))}
        return {
            "steps": self.steps,
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "steps_per_second": self.steps / max(seconds, 1e-9),
            BEST_STEPS: self.best_steps if self.best_steps >= 0 else self.steps,
            **kept,
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything above, as numbers."""
        return {
            "steps": self.steps,
            "rollout_steps": self.rollout_steps,
            "latest": self.latest,
            "best": (self.best, self.best_steps),
            "pending": self.pending and asdict(self.pending),
            "clock": self.clock.read(),
            "means": self._means.state_dict(),
            "marks": self._marks,
            "logged": self._logged,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes back to where `state_dict` stood."""
        self.steps = self.saved_steps = int(state["steps"])
        self.rollout_steps = int(state.get("rollout_steps", 0))  # older checkpoints have none
        self.latest = dict(state["latest"])
        best, best_steps = state["best"]
        self.best, self.best_steps = float(best), int(best_steps)
        pending = state.get("pending")  # older checkpoints have none
        self.pending = pending and PendingEvaluation(**pending)
        self.clock = Clock(*state["clock"])
        self._means.load_state_dict(state["means"])
        self._marks = state["marks"]
        self._logged = state["logged"]
