"""How far a run is, what it has measured since its last line, and what is due."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..envs.rollout import Rollout
from .files import RunError
from .metrics import Clock, Means, Number


class Progress:
    """The part of a run that its checkpoints hold; knows nothing of folders.

    Attributes:
        steps: environment steps so far.
        latest: the newest value of every metric that was logged.
        best, best_steps: the best `evaluate/return` and its step.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.latest: dict[str, float] = {}
        self.best, self.best_steps = -math.inf, -1
        self.clock = Clock()
        self._means = Means()
        self._marks: dict[str, int] = {}  # steps when each was last due
        self._marks_before: dict[str, int] = {}  # and the time before
        self._logged = (0, 0.0)  # steps and seconds at the last row of means

    def add(self, rollout: Rollout, metrics: Mapping[str, Number]) -> None:
        """Counts a rollout, its episodes, and what was learnt from it."""
        self.steps += rollout.steps
        for key, value in metrics.items():
            self._means.add(key, value)
        if len(rollout.episodes):
            _, returns, lengths = rollout.episodes.T
            self._means.add("episode/return", float(returns.sum()), len(returns))
            self._means.add("episode/length", float(lengths.sum()), len(lengths))

    def crossed(self, what: str, interval: int) -> bool:
        """Whether a multiple of `interval` was passed since this was last true; 0 is never."""
        if interval == 0 or self.steps // interval == self._marks.get(what, 0) // interval:
            return False
        self._marks_before[what] = self._marks.get(what, 0)
        self._marks[what] = self.steps
        return True

    def postpone(self, what: str) -> None:
        """Forgets that `crossed` was true the last time."""
        self._marks[what] = self._marks_before[what]

    def check(self) -> None:
        """Raises RunError if a loss is no longer finite; waits for the device."""
        for key, value in self._means.means().items():
            if key.startswith("loss/") and not math.isfinite(value):
                raise RunError(
                    f"{key} is {value} at step {self.steps}: training diverged; "
                    "a smaller agent.learning_rate may help"
                )

    def take(self) -> dict[str, float]:
        """Returns the row of means since the last one and begins anew; {} if there is nothing."""
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

    def row(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Returns the metrics with steps and time, and keeps them as the latest."""
        seconds, cpu_seconds = self.clock.read()
        time = {"time/seconds": seconds, "time/cpu_seconds": cpu_seconds}
        row = {**metrics, **time, "steps": self.steps}
        self.latest |= row
        return row

    def scored(self, score: float) -> bool:
        """Whether no evaluation was better; of equals the newest counts, it has learnt most."""
        if not score >= self.best:
            return False
        self.best, self.best_steps = score, self.steps
        return True

    def summary(self) -> dict[str, float]:
        """Steps, seconds, and the newest means of evaluation and training episodes."""
        seconds, cpu_seconds = self.clock.read()
        kept = {k: v for k, v in self.latest.items() if k.startswith(("evaluate/", "episode/"))}
        return {
            "steps": self.steps,
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "steps_per_second": self.steps / max(seconds, 1e-9),
            **kept,
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything above, as numbers."""
        return {
            "steps": self.steps,
            "latest": self.latest,
            "best": (self.best, self.best_steps),
            "clock": self.clock.read(),
            "means": self._means.state_dict(),
            "marks": self._marks,
            "logged": self._logged,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes back to where `state_dict` stood."""
        self.steps = state["steps"]
        self.latest = state["latest"]
        self.best, self.best_steps = state["best"]
        self.clock = Clock(*state["clock"])
        self._means.load_state_dict(state["means"])
        self._marks = state["marks"]
        self._logged = state["logged"]
