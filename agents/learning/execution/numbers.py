"""Python numbers that a recorded or compiled update has read.

A recording repeats operations on tensors. A Python number that was read while it was made is part
of it as a constant, and a later change of the number would have no effect. So it is noted which
numbers of the agent an update reads, and before each repetition they are compared with what they
are now.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from pydantic import BaseModel
from torch import Tensor, nn

_log = logging.getLogger(__name__)


class Watched:
    """Which attributes of an object were read, and whether they have changed since.

    Noted are numbers, texts, None, configurations and tuples of these, whether they are attributes
    of the object, of its class, or properties; and tensors of no dimension that are attributes of
    the object: a new one in the same place is a change, a change in place is none. Numbers
    elsewhere (global variables, lists, other objects) are not noted.

    Args:
        owner: The object. One thread at a time may be within `noting`.
        patience: The number of changes after which it is `unsteady`.

    Attributes:
        unsteady: Whether its numbers change so often that recording them again is of no use.
    """

    def __init__(self, owner: object, patience: int = 3) -> None:
        self.unsteady = False
        self._owner = owner
        self._patience = patience
        self._read: dict[str, Any] = {}
        self._changes = 0

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Notes the attributes that are read within it, with their values.

        The object has another class meanwhile, so it can be neither pickled nor copied within it.
        """
        owner, kind, read = self._owner, type(self._owner), self._read

        def get(owner: Any, name: str) -> Any:
            value = kind.__getattribute__(owner, name)
            if _is_plain(value) or _is_scalar_of(owner, name, value):
                read[name] = value
            return value

        owner.__class__ = type(kind.__name__, (kind,), {"__getattribute__": get})
        try:
            yield
        finally:
            owner.__class__ = kind

    def changed(self) -> bool:
        """Whether an attribute is no longer what was read; then it forgets all that it noted."""
        for name, value in self._read.items():
            now = getattr(self._owner, name, None)
            if now is not value and (type(now) is not type(value) or _differs(now, value)):
                self._note_change(name)
                return True
        return False

    def _note_change(self, name: str) -> None:
        self._read.clear()
        self._changes += 1
        self.unsteady = self._changes >= self._patience
        if self.unsteady:
            _log.warning(
                "an update reads %s.%s, a number that changes, so it is slower from now on; "
                "a tensor that changes in place would not be",
                type(self._owner).__name__,
                name,
            )


def _is_scalar_of(owner: Any, name: str, value: Any) -> bool:
    """Whether a value is a tensor of no dimension that the object has itself.

    What a trace has put in the place of one has a type of its own, and is not noted.
    """
    is_real = type(value) in (Tensor, nn.Parameter)
    return is_real and not value.ndim and vars(owner).get(name) is value


def _differs(now: Any, value: Any) -> bool:
    """Whether one value of a type is another; tensors are, whatever is in them."""
    return isinstance(value, Tensor) or now != value


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, int | float | np.number | str | BaseModel | None)
