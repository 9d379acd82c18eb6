"""Early stopping: a run ends when its evaluations no longer get better."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .callbacks import Callback
from .storage import stored_run
from .storage.run import Run

SCORE = "evaluate/return"


class EarlyStopping(Callback):
    """Stops a run after `patience` evaluations in a row without a new best one.

    Evaluations before a resume are read from metrics.jsonl, so no checkpoint holds them.

    Args:
        patience: The number of these evaluations.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self._scores: list[float] = []

    def on_start(self, run: Run) -> None:
        """Reads what was evaluated before a resume."""
        rows = stored_run.read_rows(run.dir)
        self._scores = [_finite(row[SCORE]) for row in rows if SCORE in row]

    def on_evaluation(self, run: Run, metrics: Mapping[str, float]) -> None:
        """Counts an evaluation. Of equal ones only the first is better than those before."""
        self._scores.append(_finite(metrics[SCORE]))
        best = max(self._scores)
        since = len(self._scores) - 1 - self._scores.index(best)
        if since >= self.patience and run.steps < run.cfg.total_steps:
            run.stop(f"eval.patience={self.patience}: {SCORE} was not above {best:g} again")


def _finite(score: float | None) -> float:
    """The score, worse than all others where it is not finite; then metrics.jsonl has null."""
    return score if score is not None and math.isfinite(score) else -math.inf
