"""Places where a signal handler may interrupt the program.

A handler of signals runs between any two steps of Python. It may raise only where nothing changes
that a checkpoint holds: while environments are stepped, and while an update is compiled.

    with breakable():
        rollout = source.next()
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class BrokenOff(KeyboardInterrupt):
    """Raised in a breakable place by a handler of signals.

    It is a KeyboardInterrupt because Ray ignores whatever else a handler raises while it waits, and
    raises a plain one in its place.
    """


class _Place(threading.local):  # handlers run in the main thread, whatever others do
    breakable = False


_here = _Place()


@contextmanager
def breakable() -> Iterator[None]:
    """Marks code that `break_off` may interrupt."""
    _here.breakable = True
    try:
        yield
    finally:
        _here.breakable = False


def break_off() -> None:
    """Raises BrokenOff if this thread is in a breakable place, once each time it enters one."""
    if _here.breakable:
        _here.breakable = False
        raise BrokenOff
