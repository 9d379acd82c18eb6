"""Python numbers that a recorded or compiled update has read.

A recording repeats operations on tensors. A Python number that was read while it was made is part
of it as a constant, and a later change of the number would have no effect. So it is noted which
numbers of the agent and of its modules an update reads, and before each repetition they are
compared with what they are now.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from pydantic import BaseModel
from torch import Tensor, nn

_log = logging.getLogger(__name__)


_OF_MODULES = frozenset(dir(nn.Module()))
"""What every module has; its mode is another one within an update than before it."""


class Numbers(dict[Any, Any]):
    """The numbers in a dict or a list, by their keys or places."""


class Watched:
    """Which attributes of an object were read, and whether they have changed since.

    Noted are numbers, texts, None, configurations and tuples of these, whether they are attributes
    of the object, of its class, or properties; and tensors of no dimension that are attributes of
    the object: a new one in the same place is a change, a change in place is none. The same is
    noted of the modules among its attributes, and, if a dict or a list of it is read, all of this
    that is in there. Numbers elsewhere (global variables, closures, other objects, deeper down) are
    not noted.

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
        self._read: dict[tuple[int, str], tuple[object, str, Any]] = {}
        self._changes = 0

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Notes the attributes that are read within it, with their values.

        The object and its modules have other classes meanwhile, so they can be neither pickled nor
        copied within it.
        """
        modules = (value for value in vars(self._owner).values() if isinstance(value, nn.Module))
        with ExitStack() as stack:
            for thing in {id(thing): thing for thing in (self._owner, *modules)}.values():
                stack.enter_context(self._noting(thing))
            yield

    @contextmanager
    def _noting(self, thing: Any) -> Iterator[None]:
        kind: Any = type(thing)
        read, is_owner = self._read, thing is self._owner

        def get(thing: Any, name: str) -> Any:
            value = kind.__getattribute__(thing, name)
            own = name not in _OF_MODULES
            if is_owner and own and isinstance(value, dict | list):
                numbers = _numbers_in(value)
                if numbers or not value:
                    read[id(thing), name] = thing, name, numbers
            elif (own or is_owner) and (_is_plain(value) or _is_scalar_of(thing, name, value)):
                read[id(thing), name] = thing, name, value
            return value

        noting = type(kind.__name__, (kind,), {"__getattribute__": get})
        try:
            thing.__class__ = noting
            yield
        finally:
            thing.__class__ = kind

    def changed(self) -> bool:
        """Whether an attribute is no longer what was read; then it forgets all that it noted."""
        for thing, name, value in self._read.values():
            now = getattr(thing, name, None)
            if now is not value and _differs(now, value):
                self._note_change(thing, name)
                return True
        return False

    def _note_change(self, thing: object, name: str) -> None:
        self._read.clear()
        self._changes += 1
        self.unsteady = self._changes >= self._patience
        if self.unsteady:
            _log.warning(
                "an update reads %s.%s, a number that changes, so it is slower from now on; "
                "a tensor that changes in place would not be",
                type(thing).__name__,
                name,
            )


def _is_scalar_of(owner: Any, name: str, value: Any) -> bool:
    """Whether a value is a tensor of no dimension that the object has itself."""
    return _is_scalar(value) and vars(owner).get(name) is value


def _is_scalar(value: Any) -> bool:
    """Whether it is a tensor of no dimension.

    What a trace has put in the place of one has a type of its own, and is not noted.
    """
    return type(value) in (Tensor, nn.Parameter) and not value.ndim


def _numbers_in(value: dict[Any, Any] | list[Any]) -> Numbers:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return Numbers((key, x) for key, x in items if _is_plain(x) or _is_scalar(x))


def _differs(now: Any, value: Any) -> bool:
    """Whether one value is another; tensors are, whatever is in them."""
    if type(value) is Numbers:
        if type(now) is not Numbers:
            now = _numbers_in(now) if isinstance(now, dict | list) else Numbers()
        return now.keys() != value.keys() or any(
            now[key] is not x and _differs(now[key], x) for key, x in value.items()
        )
    return type(now) is not type(value) or isinstance(value, Tensor) or now != value


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, int | float | np.number | str | BaseModel | None)
