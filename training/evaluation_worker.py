"""A process that plays the evaluations of a run while the run trains: `eval.mode=worker`.

    the run's process                            evaluation_process
    EvaluationWorker(cfg, policy)  ------------> opens an environment, to see whether that works
    begin(pending, film)           ------------> Evaluator.newest with these weights
    ready(), result()              <------------ its metrics, or why it failed

It plays one evaluation at a time. It ends when the run's process does, in whatever way.
"""

from __future__ import annotations

import copy
import signal
import subprocess
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import cloudpickle

from ..agents.policies.policy import Policy
from ..configs import Config
from ..core.errors import EnvError, Guard
from ..core.python_process import start_main
from .storage.progress import PendingEvaluation

CLOSING_SECONDS = 3.0
"""That its environments have to close; then it is killed."""
_POLL_SECONDS = 1.0
_MODULE = "neuraxis.training.evaluation_process"


class EvaluationWorker:
    """The process, and the one evaluation that it plays.

    Args:
        cfg: The run's configuration.
        policy: The learner's; the process gets a copy.

    Raises:
        ValueError: The process cannot evaluate; says why.
    """

    def __init__(self, cfg: Config, policy: Policy) -> None:
        what = "eval.mode=worker: the environment or the policy cannot go to another process"
        with Guard(lambda: what, ValueError):
            setup = cloudpickle.dumps((cfg, copy.deepcopy(policy).to("cpu")))
        self._connection, theirs = Pipe()
        with theirs:
            files = [theirs.fileno()]
            self._process = start_main(_MODULE, files)
        try:
            self._send(setup)
            self.result()
        except (EnvError, ValueError) as error:
            self.close()
            raise ValueError(f"eval.mode=worker: {error}") from error
        except BaseException:
            self.close()
            raise

    def begin(self, pending: PendingEvaluation, film: Path | None) -> None:
        """Begins an evaluation; the one before must have been taken by `result`.

        Args:
            pending: The evaluation.
            film: A file for its film; None: no film.

        Raises:
            EnvError: The process has ended.
        """
        self._send(pending, film and film.absolute())

    def ready(self, seconds: float = 0.0) -> bool:
        """Whether `result` needs not wait, now or within so many seconds."""
        return self._connection.poll(seconds) or self._process.poll() is not None

    def result(self) -> dict[str, float]:
        """The metrics of the evaluation; waits for them.

        Raises:
            EnvError, RunError, MemoryError: What the evaluation raised.
            EnvError: The process has ended.
        """
        while not self._connection.poll(_POLL_SECONDS):
            if self._process.poll() is not None:  # a process of its environment holds the pipe
                raise self._death()
        try:
            reply = self._connection.recv()
        except (EOFError, OSError):
            raise self._death() from None
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        """Ends the process; an evaluation is broken off."""
        self._connection.close()
        try:
            self._process.wait(CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, *message: Any) -> None:
        try:
            self._connection.send(message)
        except OSError:
            raise self._death() from None

    def _death(self) -> EnvError:
        """What to raise when the process has ended by itself."""
        self.close()
        code = self._process.returncode
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        return EnvError(
            f"the process that plays evaluations has ended ({how}); eval.mode=inline plays them in "
            "the run's own process"
        )
