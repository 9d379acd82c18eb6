"""Out of memory, on the CPU or on a GPU: the error names the setting to lower.

with lower("agent.batch_size=4096"):
    learn()
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import shorten

_SIGNS = re.compile(
    # PyTorch on the CPU and on a GPU, and its libraries
    r"can't allocate memory|out of memory|_ALLOC_FAILED|_NOT_ENOUGH_WORKSPACE"
    # sizes beyond all memory, to PyTorch, NumPy and Python
    r"|size calculation overflowed|Overflow when unpacking|multiplication overflow"
    r"|array is too big|Maximum allowed dimension|int too (large|big) to convert"
)
_ASKED = re.compile(r"tried to allocate [\d.]+ \w+", re.IGNORECASE)


class OutOfMemory(MemoryError):
    """There is not enough memory; the message says how much was requested, and what to lower."""


@contextmanager
def lower(settings: str) -> Iterator[None]:
    """Turns an out-of-memory error into an OutOfMemory that names the settings to lower."""
    try:
        yield
    except OutOfMemory:
        raise
    except (MemoryError, RuntimeError, ValueError, TypeError, OverflowError) as error:
        if not isinstance(error, MemoryError) and not _SIGNS.search(str(error)):
            raise
        asked = _ASKED.search(str(error))
        what = asked[0] if asked else shorten(error, 120)
        raise OutOfMemory(f"{what}; lower {settings}") from error
