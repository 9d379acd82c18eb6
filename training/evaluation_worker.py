"""A process that plays the evaluations of a run while the run trains: `eval.mode=worker`.

    the run's process                            evaluation_process
    EvaluationWorker(cfg, policy)  ------------> opens an environment, to see whether that works
    begin(pending, film)           ------------> Evaluator.newest with these weights
    ready(), result()              <------------ its metrics, or why it failed

It plays one evaluation at a time. It ends when the run's process does, in whatever way.
"""

from __future__ import annotations

import copy
from pathlib import Path

from ..agents.policies.policy import Policy
from ..configs import Config
from ..core.errors import EnvError
from .distributed.helper import Helper
from .storage.progress import PendingEvaluation

_MODULE = "neuraxis.training.evaluation_process"
_ADVICE = "eval.mode=inline plays them in the run's own process"


class EvaluationWorker:
    """The process, and the one evaluation that it plays.

    Args:
        cfg: The run's configuration.
        policy: The learner's; the process gets a copy.

    Raises:
        ValueError: The process cannot evaluate; says why.
    """

    def __init__(self, cfg: Config, policy: Policy) -> None:
        own, setting = copy.deepcopy(policy).to("cpu"), "eval.mode=worker"
        try:
            self.helper = Helper(_MODULE, setting, "plays evaluations", _ADVICE, cfg, own)
        except (EnvError, ValueError) as error:
            said = str(error).removeprefix(f"{setting}: ")
            raise ValueError(f"{setting}: {said}") from error

    def begin(self, pending: PendingEvaluation, film: Path | None) -> None:
        """Begins an evaluation; the one before must have been taken by `result`.

        Args:
            pending: The evaluation.
            film: A file for its film; None: no film.

        Raises:
            EnvError: The process has ended.
        """
        self.helper.ask("play", pending, film and film.absolute())

    def ready(self, seconds: float = 0.0) -> bool:
        """Whether `result` needs not wait, now or within so many seconds."""
        return self.helper.ready(seconds)

    def result(self) -> dict[str, float]:
        """The metrics of the evaluation; waits for them.

        Raises:
            EnvError, RunError, MemoryError: What the evaluation raised.
            EnvError: The process has ended.
        """
        return self.helper.answer()

    def close(self) -> None:
        """Ends the process; an evaluation is broken off."""
        self.helper.close()
