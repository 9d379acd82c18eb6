"""How far a run is, what it has measured since its last line, and what is due."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from ...agents.choices import agent_class
from ...configs.config import Config
from ...core.errors import RunError
from ...core.rollout import Counted
from .metrics import Clock, Means, Number
from .stored_run import BEST_STEPS

Due = Literal["log", "histograms", "eval", "film", "save"]
"""What is due at an interval of steps."""

LEAST = {"eval": 10_000, "save": 50_000}
"""For interval_steps=auto: the least steps between evaluations, and between checkpoints."""
ROLLOUTS = 5
"""And the least rollouts between them, which are many steps with many environments."""
EVALUATIONS = 20
"""The most evaluations in a run. Checkpoints are not limited: a crash costs what came since one."""


def interval(what: Due, cfg: Config, rollout_steps: int = 0) -> int:
    """Steps after which something is due again; 0 is never.

    Args:
        what: What is due.
        cfg: The run's configuration.
        rollout_steps: Of one rollout.
    """
    wanted = {
        "log": cfg.log_interval_steps,
        "histograms": cfg.wandb.histogram_interval_steps,
        "eval": cfg.eval.interval_steps,
        "film": cfg.eval.video_interval_steps,
        "save": cfg.checkpoint.interval_steps,
    }[what]
    if wanted != "auto":
        return wanted
    if what == "eval" and not agent_class(cfg.agent.name).learns_policy:
        return 0
    share = cfg.total_steps // EVALUATIONS if what == "eval" else 0
    return max(LEAST[what], ROLLOUTS * rollout_steps, share)


class Progress:
    """The counters and means of a run, which its checkpoints hold.

    Args:
        cfg: The run's configuration.

    Attributes:
        steps: environment steps so far.
        rollout_steps: rows of the newest rollout, resets included.
        latest: the newest value of every metric that was logged.
        best, best_steps: the best `evaluate/return` and its step.
    """

    def __init__(self, cfg: Config) -> None:
        self._cfg = cfg
        self.steps = self.rollout_steps = 0
        self.latest: dict[str, float] = {}
        self.best, self.best_steps = -math.inf, -1
        self.clock = Clock()
        self._means = Means()
        self._marks: dict[str, int] = {}  # steps when each was last done
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
        """Whether a multiple of its interval was passed since it was last done."""
        steps = self.interval(what)
        return steps > 0 and self.steps // steps != self._marks.get(what, 0) // steps

    def done(self, what: Due) -> None:
        """Takes note that it was done, until it is due again."""
        self._marks[what] = self.steps

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

    def row(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Returns the metrics with steps and time, and keeps them as the latest."""
        seconds, cpu_seconds = self.clock.read()
        time = {"time/seconds": seconds, "time/cpu_seconds": cpu_seconds}
        row = {**metrics, **time, "steps": self.steps}
        self.latest |= row
        return row

    def scored(self, score: float) -> bool:
        """Whether this evaluation is the best so far; of equal ones the newest is the best."""
        if not score >= self.best:
            return False
        self.best, self.best_steps = score, self.steps
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
            "clock": self.clock.read(),
            "means": self._means.state_dict(),
            "marks": self._marks,
            "logged": self._logged,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes back to where `state_dict` stood."""
        self.steps = int(state["steps"])
        self.rollout_steps = int(state.get("rollout_steps", 0))  # older checkpoints have none
        self.latest = dict(state["latest"])
        best, best_steps = state["best"]
        self.best, self.best_steps = float(best), int(best_steps)
        self.clock = Clock(*state["clock"])
        self._means.load_state_dict(state["means"])
        self._marks = state["marks"]
        self._logged = state["logged"]
