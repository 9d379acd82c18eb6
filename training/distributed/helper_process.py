"""What runs in the process of a `Helper`."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Protocol

from ...core.errors import EnvError, Guard, RunError
from ...core.interruption import BrokenOff, break_off, breakable
from ...core.signals import ENDING_SECONDS, ends_on_signals

_POLL_SECONDS = 1.0


class Work(Protocol):
    """What answers: each of its methods is a request, and `open(*setup)` is the first one."""

    def close(self) -> None:
        """Closes what is open, before the process ends."""
        ...


class Inbox:
    """What the run asks for, read in a thread: so its end is seen while a request is worked at.

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
        """Handles a signal: the run's process, if it is there, has some seconds to end this one."""
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
        os.kill(os.getpid(), signal.SIGTERM)  # breaks off what is under way
        time.sleep(ENDING_SECONDS)
        os._exit(1)  # it hangs


def answer(descriptor: int, make: Callable[[Callable[[], bool]], Work]) -> None:
    """Answers what comes through a connection, until that is closed; then the process ends.

    Args:
        descriptor: Of the connection, a socket.
        make: Makes what answers, and gives it a function: whether nobody waits any more.
    """
    os.set_inheritable(descriptor, False)  # not for what environments start
    connection = Connection(descriptor)
    inbox = Inbox(connection)
    work = make(lambda: inbox.over)
    with ends_on_signals(inbox.told, lambda: None):
        with suppress(BrokenOff, ConnectionError):
            while (request := inbox.next()) is not None:
                connection.send(_reply(work, *request))
        work.close()
        sys.stdout.flush()
        os._exit(0)  # Python would take seconds to free its modules, beside other processes


def unpickled(setup: bytes, setting: str) -> Any:
    """The setup that a `Helper` was given. Raises ValueError, which names the setting."""
    with Guard(lambda: f"{setting}: its process cannot read what was sent", ValueError):
        return pickle.loads(setup)


def _reply(work: Work, method: str, *arguments: Any) -> Any:
    """What the method returns or, of what a run expects, what it raises, with its traceback."""
    try:
        with breakable():
            return getattr(work, method)(*arguments)
    except (EnvError, RunError, ValueError, MemoryError) as error:
        error.add_note(traceback.format_exc())
        return error
