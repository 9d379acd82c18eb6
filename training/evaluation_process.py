"""What runs in the process of an `EvaluationWorker`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .checks import preflight
from .distributed.helper_process import answer, unpickled
from .distributed.packed_weights import Unpacker
from .distributed.process import configure_process
from .evaluator import Evaluator
from .storage.progress import PendingEvaluation


class Player:
    """Plays with the weights that it gets.

    Args:
        over: Whether nobody waits for it any more.
    """

    def __init__(self, over: Callable[[], bool]) -> None:
        self._over = over

    def open(self, setup: bytes) -> None:
        """Takes configuration and policy, and tries the environment. Raises ValueError."""
        cfg, policy = unpickled(setup, "eval.mode=worker")
        configure_process(cfg.threads)
        preflight.try_evaluation(cfg)
        self._unpack = Unpacker(policy)
        self._evaluator = Evaluator(cfg, policy)

    def play(self, pending: PendingEvaluation, film: Path | None) -> dict[str, float]:
        """The metrics of an evaluation. Raises EnvError, RunError or MemoryError."""
        self._unpack(pending.weights)
        return self._evaluator.newest(
            pending.steps, pending.interval, film, lambda played, wanted: self._over()
        )

    def close(self) -> None:
        """Closes nothing: an evaluation closes its own environments."""


def main(descriptor: int) -> None:
    """Plays evaluations, see `helper_process.answer`."""
    answer(descriptor, Player)
