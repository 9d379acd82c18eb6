"""The one loop: every agent, every environment, every source of rollouts.

run = Session(run, learner, source).run()      built by `session.prepare`
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterable
from contextlib import ExitStack

import numpy as np

from ..core.errors import EnvError, RunError
from ..core.interruption import break_off, breakable
from ..core.rollout import Rollout
from ..core.signals import ends_on_signals
from .callbacks import Callback, Callbacks, checked
from .distributed.learner import Learner
from .distributed.source import Source
from .evaluation_worker import EvaluationWorker
from .evaluations import Evaluations
from .profile import Profile
from .storage.run import Run
from .storage.run_folder import Outcome

_log = logging.getLogger(__name__)


class Session:
    """A run that is ready to go: everything that can be refused has been.

    Args:
        run: The run on disk.
        learner: Learns.
        source: Gives the rollouts.
        callbacks: Are told of it, besides those of `run`.
        worker: Plays evaluations; None: this process does.
    """

    def __init__(
        self,
        run: Run,
        learner: Learner,
        source: Source,
        callbacks: Iterable[Callback] = (),
        worker: EvaluationWorker | None = None,
    ) -> None:
        self.current_run = run
        self.cfg = run.cfg
        self.learner = learner
        self.agent = learner.agent
        self.source = source
        self.profile = Profile()
        self._callbacks = [*callbacks]
        self._source_open = ExitStack()
        self._source_open.callback(source.close)
        self._interrupted = self._paused = self._concluding = self._enough = False
        self._changing = threading.Lock()  # held while what a checkpoint holds changes
        self.evaluations = Evaluations(
            run,
            self.agent.policy,
            worker,
            self.profile,
            self._changing,
            lambda: self._interrupted or self._enough,
        )

    def run(self, callbacks: Iterable[Callback] = ()) -> Run:
        """Trains to the end, or to a signal (see `core.signals`), and closes everything.

        Args:
            callbacks: Are told of the run, and may stop it.

        Raises:
            ValueError: One of them is no Callback; nothing has started.
            EnvError: An environment failed.
            RunError: Training diverged, the disk refused, or a callback raised.
            OutOfMemory: Names the setting to lower.
        """
        tell = Callbacks([*self._callbacks, *checked(callbacks)], self.current_run)
        outcome = Outcome("failed")
        with ends_on_signals(self._told, self._end_at_last):
            try:
                outcome = self._train(tell)
            except (EnvError, RunError, MemoryError) as error:
                outcome = Outcome("failed", reason=str(error))
                raise
            except KeyboardInterrupt:  # the second Ctrl-C
                outcome = Outcome("interrupted")
                raise
            finally:
                self._close(tell, outcome)
        return self.current_run

    def _train(self, tell: Callbacks) -> Outcome:
        tell("on_start")
        self._loop(tell)
        if not (self._interrupted or self._paused):
            return self._conclude(tell)
        return Outcome("interrupted")

    def _conclude(self, tell: Callbacks) -> Outcome:
        """The final evaluation. Ctrl-C ends it with the episodes that it has.

        Training's environments are closed before: some allow one at a time.
        """
        run, self._concluding = self.current_run, True
        self._source_open.close()
        final = self.evaluations.final(tell)
        if self._interrupted or not final:
            return Outcome("interrupted")
        row = {key.replace("evaluate", "final"): final[key] for key in final}
        tell("on_log", run.log(row))
        reason = run.stop_reason
        if self._enough and reason is None:
            reason = f"Ctrl-C in the final evaluation, after {final['evaluate/episodes']} episodes"
        early = run.steps < self.cfg.total_steps
        return Outcome("stopped" if early else "finished", final, reason)

    def _close(self, tell: Callbacks, outcome: Outcome) -> None:
        """Ends the run on disk, tells the callbacks, closes the rest; a failure stops none."""
        with breakable(), ExitStack() as closing:
            closing.callback(self.learner.close)
            closing.callback(self._source_open.close)
            closing.callback(self.evaluations.close)
            closing.callback(tell.end, outcome.status)
            with self._changing:  # a second signal waits for the summary
                row = self.current_run.finish(*outcome)
            if row is not None:
                tell("on_log", row)

    def interrupt(self) -> None:
        """Ends the run as Ctrl-C does: after this turn of the loop, to be resumed.

        An evaluation is broken off, and done again when the run is resumed.
        """
        self._interrupted = True

    def pause(self) -> None:
        """As `interrupt`, but an evaluation is played to its end."""
        self._paused = True

    def _told(self, number: int) -> None:
        """Handles a signal; Ctrl-C in the final evaluation ends that, and the run finishes."""
        if self._concluding and number == signal.SIGINT:
            self._enough = True
        else:
            self.interrupt()
            break_off()

    def _end_at_last(self) -> None:
        """Ends the run on disk for the main thread, which hangs in an environment or in closing."""
        run = self.current_run
        with self._changing:
            if not run.ended:
                if not run.saved:
                    run.save(self.learner, self.source)
                run.finish("interrupted")
        _log.warning("%s: ended at %s steps; what hangs was left as it is", run.dir, run.steps)

    def _loop(self, tell: Callbacks) -> None:
        run, agent, source, profile = self.current_run, self.agent, self.source, self.profile
        self._evaluate_and_save(tell)  # the first one, or one broken off before a resume
        while run.steps < self.cfg.total_steps and (rollout := self._collect()) is not None:
            tell("on_rollout", rollout)
            with self._changing:
                with profile("learn"):
                    metrics = self.learner.learn(rollout)
                with profile("publish"):
                    source.publish(agent.policy)
                with profile("log"):
                    row = run.add(rollout, {**metrics, **source.metrics()}, self.learner.tensors)
            tell("on_update", metrics)
            if row is not None:
                tell("on_log", row)
            self._evaluate_and_save(tell)
        self.evaluations.wait(tell)
        self._save(tell)

    def _collect(self) -> Rollout[np.ndarray] | None:
        """The next rollout; None if the run ends, where half a rollout counts for nothing."""
        try:
            with self.profile("collect"), breakable():
                return None if self._ending else self.source.next()
        except KeyboardInterrupt:  # a plain one of Ray, see BrokenOff
            if not self._interrupted:
                raise
            return None

    @property
    def _ending(self) -> bool:
        """Whether no further rollout is wanted."""
        stopped = self.current_run.stop_reason is not None
        return self._interrupted or self._paused or stopped

    def _evaluate_and_save(self, tell: Callbacks) -> None:
        """Evaluates, films and saves what is due."""
        self.evaluations.take_turn(tell)
        if self.current_run.due("save"):
            self._save(tell)

    def _save(self, tell: Callbacks) -> None:
        with self.profile("save"), self._changing:
            path = self.current_run.save(self.learner, self.source)
        tell("on_checkpoint", path)

    def shares(self) -> dict[str, float]:
        """Share of the time of environments, acting, learning and the rest, the largest first."""
        return self.profile.shares(self.source.env_seconds)
