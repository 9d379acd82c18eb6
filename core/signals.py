"""Ctrl-C, SIGTERM and SIGHUP: how a run that is told to end does so in time.

a signal --> `told`: the loop ends after this turn; what is breakable (`core.interruption`) and
             under way is broken off
SIGTERM or SIGHUP, and after ENDING_SECONDS the run has not ended
         --> `at_last`, in another thread: the main one hangs where no exception reaches it
         --> the process ends, exit code 130
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from .errors import RunError

SIGNALS = signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])
"""The last one is not there on Windows."""
ENDING_SECONDS = 6.0
"""Time that a run has to end by itself; the sender of SIGTERM often kills after 10 seconds."""

_log = logging.getLogger(__name__)


class _Handler:
    """What a signal calls."""

    def __init__(self, told: Callable[[int], None]) -> None:
        self._told = told

    def __call__(self, number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._told(number)


@contextmanager
def ends_on_signals(told: Callable[[int], None], at_last: Callable[[], None]) -> Iterator[None]:
    """Within it a first signal ends the run, and a second Ctrl-C the program, at once.

    Threads other than the main one get no signals: there it does nothing. A SIGHUP that `nohup`
    has switched off stays so.

    Args:
        told: Called in the main thread, with the signal's number.
        at_last: Called in another thread; it writes what is not written yet.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with ExitStack() as stack, _watched(at_last):
        for number in SIGNALS:
            if number in SIGNALS[:2] or signal.getsignal(number) != signal.SIG_IGN:  # `nohup`
                before = signal.signal(number, _Handler(told))
                stack.callback(signal.signal, number, before)
        yield


@contextmanager
def _watched(at_last: Callable[[], None]) -> Iterator[None]:
    """Ends the process if it is not left in time after SIGTERM or SIGHUP.

    Handlers in Python wait for the main thread; the socket gets the signal's number at once.
    """
    over = threading.Event()
    told, tell = socket.socketpair()
    tell.setblocking(False)

    def watch() -> None:
        while number := told.recv(1):
            if number[0] in SIGNALS[1:] and not over.wait(ENDING_SECONDS):
                try:
                    at_last()
                except RunError as error:
                    _log.error("%s", error)
                finally:
                    os._exit(130)
        told.close()

    thread = threading.Thread(target=watch, name="signals", daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        tell.close()  # ends the thread, which must not free the run while Python ends
        thread.join()


_mask = threading.local()  # what a thread that forks had blocked before


def _block() -> None:
    """Before a fork: no signal may reach the new process while it has our handlers."""
    _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


def _forget() -> None:
    """In the new process (an environment's own) signals do what they usually do."""
    for number in SIGNALS:
        if isinstance(signal.getsignal(number), _Handler):
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)
            signal.set_wakeup_fd(-1)  # the socket is the parent's
    _unblock()


if hasattr(os, "register_at_fork"):  # not on Windows, where no process forks
    os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_forget)
