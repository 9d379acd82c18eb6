"""What runs in the process of an `EvaluationWorker`."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..core.errors import EnvError, Guard, RunError
from ..core.interruption import BrokenOff, break_off, breakable
from .checks import preflight
from .distributed.packed_weights import Unpacker
from .distributed.process import configure_process
from .evaluator import Evaluator
from .signals import ENDING_SECONDS, ends_on_signals
from .storage.progress import PendingEvaluation

_POLL_SECONDS = 1.0


class Inbox:
    """What the run asks for, read in a thread: so its end is seen while an evaluation is played.

    Args:
        connection: To the run's process.

    Attributes:
        over: Whether the run's process has closed the connection, or has ended.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.over = False
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def next(self) -> Any:
        """The next message; None if there will be no more."""
        return self._messages.get()

    def told(self, number: int) -> None:
        """Handles a signal: while the run's process is there, it decides when this one ends."""
        if self.over:
            break_off()

    def _read(self) -> None:
        parent = os.getppid()
        with suppress(EOFError, OSError):
            while os.getppid() == parent:  # its forks may keep the connection open
                if self._connection.poll(_POLL_SECONDS):
                    self._messages.put(self._connection.recv())
        self.over = True
        self._messages.put(None)
        os.kill(os.getpid(), signal.SIGTERM)  # breaks off what is played
        time.sleep(ENDING_SECONDS)
        os._exit(1)  # it hangs


class Player:
    """Plays with the weights that it gets.

    Args:
        over: Whether nobody waits for it any more.
    """

    def __init__(self, over: Callable[[], bool]) -> None:
        self._over = over

    def open(self, setup: bytes) -> None:
        """Takes configuration and policy, and tries the environment. Raises ValueError."""
        with Guard(lambda: "eval.mode=worker: its process cannot read what was sent", ValueError):
            cfg, policy = pickle.loads(setup)
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


def main(descriptor: int) -> None:
    """Answers what comes through a connection, until that is closed; then the process ends.

    Args:
        descriptor: Of the connection, a socket.
    """
    os.set_inheritable(descriptor, False)  # not for what environments start
    connection = Connection(descriptor)
    inbox = Inbox(connection)
    player = Player(lambda: inbox.over)
    work: Callable[..., Any] = player.open
    with ends_on_signals(inbox.told, lambda: None), suppress(BrokenOff, BrokenPipeError):
        while (message := inbox.next()) is not None:
            connection.send(_reply(work, message))
            work = player.play
    sys.stdout.flush()
    os._exit(0)  # Python would take seconds to free its modules, beside other processes


def _reply(work: Callable[..., Any], message: tuple[Any, ...]) -> Any:
    """What the work returns or, of what a run expects, what it raises."""
    try:
        with breakable():
            return work(*message)
    except (EnvError, RunError, ValueError, MemoryError) as error:
        return error
