"""When a run is evaluated, where that is done, and what becomes of the metrics.

    eval.mode=inline    the loop plays an evaluation that is due, and logs it
    eval.mode=worker    the loop begins it and goes on; it logs it in the turn in which it is there
                        a second one is due before: the loop waits for the first

Both give the same metrics, checkpoint `best` and weights. With a worker callbacks are told later.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from ..agents.policies.policy import Policy
from ..core.interruption import BrokenOff, breakable
from .callbacks import Callbacks
from .distributed.packed_weights import pack
from .evaluate import Watch
from .evaluation_worker import EvaluationWorker
from .evaluator import Evaluator
from .profile import Profile
from .storage import layout
from .storage.run import Run

_WAIT_SECONDS = 0.5  # between two looks at whether the run was interrupted


class Evaluations:
    """The evaluations of a run.

    Args:
        run: The run on disk.
        policy: The learner's.
        worker: Plays them, and one that was pending when the run was saved; None: there is none.
        profile: Gets the time that the loop spends with them.
        changing: Held while what a checkpoint holds changes.
        ending: Whether an evaluation is to be broken off.
    """

    def __init__(
        self,
        run: Run,
        policy: Policy,
        worker: EvaluationWorker | None,
        profile: Profile,
        changing: AbstractContextManager[object],
        ending: Callable[[], bool],
    ) -> None:
        self._run, self._policy, self._worker = run, policy, worker
        self._profile, self._changing, self._ending = profile, changing, ending
        self._evaluator = Evaluator(run.cfg, policy)
        if run.pending is not None:
            self._begin()

    def take_turn(self, tell: Callbacks) -> None:
        """Evaluates if that is due; one that is broken off stays due, or pending."""
        if self._run.due("eval"):
            self.wait(tell)
            if self._run.cfg.eval.mode == "inline":
                self._play_newest(tell)
            elif self._run.pending is None:
                with self._changing:
                    self._run.begin_evaluation(pack(self._policy))
                self._begin()
        if self._worker is not None and self._run.pending is not None and self._worker.ready():
            self._log(tell, self._worker.result())

    def wait(self, tell: Callbacks) -> None:
        """Waits for the evaluation that is pending, if one is, and logs it."""
        if self._run.pending is None:
            return
        assert self._worker is not None
        try:
            with self._profile("evaluate"), breakable():
                while not self._worker.ready(_WAIT_SECONDS):
                    if self._ending():
                        return
        except BrokenOff:
            return
        self._log(tell, self._worker.result())

    def final(self, tell: Callbacks) -> dict[str, float]:
        """Metrics of the final evaluation, see `Evaluator.final`; {} if it was broken off."""
        return self._play(tell, functools.partial(self._evaluator.final, self._run))

    def close(self) -> None:
        """Ends the worker."""
        if self._worker is not None:
            self._worker.close()

    def _begin(self) -> None:
        """Gives the pending evaluation to the worker."""
        pending = self._run.pending
        assert pending is not None and self._worker is not None
        self._worker.begin(pending, self._film(pending.film, pending.steps))

    def _film(self, wanted: bool, steps: int) -> Path | None:
        """The file of the film of a step's evaluation, if one is wanted."""
        return layout.film_file(self._run.dir, steps) if wanted else None

    def _play_newest(self, tell: Callbacks) -> None:
        """Evaluates in this process."""
        run = self._run
        asked = run.steps, run.interval("eval"), self._film(run.due("film"), run.steps)
        metrics = self._play(tell, functools.partial(self._evaluator.newest, *asked))
        if not self._ending():
            self._log(tell, metrics)

    def _play(self, tell: Callbacks, play: Callable[[Watch], dict[str, float]]) -> dict[str, float]:
        """Metrics of an evaluation; {} if it was broken off in an episode."""

        def watch(played: int, wanted: int) -> bool:
            tell("on_play", played, wanted)
            return self._ending()

        try:
            with self._profile("evaluate"), breakable():
                return play(watch)
        except BrokenOff:
            return {}

    def _log(self, tell: Callbacks, metrics: Mapping[str, float]) -> None:
        self._evaluator.note(metrics)
        with self._changing:
            row = self._run.log(metrics)
        tell("on_evaluation", metrics)
        tell("on_log", row)
