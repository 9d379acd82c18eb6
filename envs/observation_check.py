"""Checks that observations lie in the space that their environment declares."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from ..core.errors import EnvError, shorten
from .config import When
from .observations import Space, float32

_log = logging.getLogger(__name__)

YOUNG = 1_000
"""How many first steps are all checked."""
EVERY = 101
"""The interval of later checks, in steps; a prime number, because faults may be periodic."""

_said: set[tuple[str, str]] = set()  # the ids and parts that a warning has named


def _is_new(record: logging.LogRecord) -> bool:
    """Whether no warning has named its id and part yet, here or in a process of environments."""
    part = record.__dict__["part"]
    new = part not in _said
    _said.add(part)
    return new


_log.addFilter(_is_new)


class ObservationCheck:
    """Refuses observations that the agent would see as something else.

    Refused are a missing part, another shape and, where the space has integers, a number that is
    not whole or out of bounds. A float out of bounds is accepted with one warning: many
    environments are careless with the bounds of floats.

    Args:
        space: As the environment declares it.
        when: `auto` checks the first steps, then one in `EVERY`.
        env_id: The environment's id.
        where: Names the environment and its step.
        batch: The axes before those of one observation.
    """

    def __init__(
        self,
        space: Space,
        when: When,
        env_id: str,
        where: Callable[[], str],
        batch: tuple[int, ...] = (),
    ) -> None:
        self.steps = 0
        self.at_resets = when != "never"
        self._next = 1 if self.at_resets else math.inf
        self._young = math.inf if when == "always" else YOUNG
        self._parts = list(_parts(space, "observation", (), batch))
        self._id, self._where = env_id, where

    def due(self) -> bool:
        """Counts a step, and says whether to check its observations."""
        self.steps += 1
        if self.steps < self._next:
            return False
        self._next += 1 if self.steps < self._young else EVERY
        return True

    def __call__(self, obs: Any) -> None:
        """Checks an observation, or a batch of them.

        Raises:
            EnvError: It is not in the space; names the part and the value.
        """
        for part in self._parts:
            found = part.of(obs)
            misfit = part.misfit(found)
            outside = None if misfit else part.outside(found)
            if misfit or (outside and part.whole):
                raise EnvError(f"{self._where()}: {misfit or outside}")
            if outside:
                named = {"part": (self._id, part.name)}
                _log.warning("%s: %s", self._where(), outside, extra=named)


@dataclass(frozen=True)
class _Part:
    """A leaf of the space: where it is in an observation, and its limits."""

    name: str
    path: tuple[str | int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    low: np.ndarray
    high: np.ndarray
    full: bool  # every number of the dtype is within the limits

    @property
    def whole(self) -> bool:
        """Whether its numbers are integers."""
        return self.dtype.kind != "f"

    def of(self, obs: Any) -> Any:
        """This part of an observation, an array; None if it is missing."""
        for key in self.path:
            try:
                obs = obs[key]
            except (LookupError, TypeError):
                return None
        return np.asarray(obs)

    def misfit(self, found: Any) -> str | None:
        """Says what is wrong with the form of an array; None if nothing is."""
        if found is None:
            return f"{self.name} is missing"
        if found.shape == self.shape and found.dtype.kind in ("iub" if self.whole else "fiub"):
            return None
        return (
            f"{self.name} is {shorten(repr(found.tolist()), 60)} of shape {found.shape} and dtype "
            f"{found.dtype}, its observation_space says {self.shape} and {self.dtype}"
        )

    def outside(self, found: Any) -> str | None:
        """Says which number is out of bounds; None if none is."""
        if self.full and (not self.whole or found.dtype == self.dtype):
            return None
        if not self.whole and found.dtype != np.float32:
            found = float32(found)
        beyond = (found < self.low) | (found > self.high)
        if not beyond.any():
            return None
        at = tuple(np.argwhere(beyond)[0].tolist())
        low, high = (np.broadcast_to(end, found.shape)[at] for end in (self.low, self.high))
        place = f" at {list(at)}" if at else ""
        return f"{self.name} has {found[at]}{place}, its observation_space says {low} to {high}"


def _parts(
    space: Space, name: str, path: tuple[str | int, ...], batch: tuple[int, ...]
) -> Iterator[_Part]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        branches = space.spaces
        keyed = branches.items() if isinstance(branches, dict) else enumerate(branches)
        for key, branch in keyed:
            yield from _parts(branch, f"{name}[{key!r}]", (*path, key), batch)
        return
    match space:
        case spaces.Box():
            low, high = space.low, space.high
        case spaces.Discrete():
            low, high = space.start, space.start + (space.n - 1)
        case spaces.MultiDiscrete():
            low, high = space.start, space.start + (space.nvec - 1)
        case _:
            low, high = np.int8(0), np.int8(1)
    dtype, shape = np.dtype(space.dtype), space.shape or ()
    least, most = (0, 1) if dtype.kind == "b" else (-np.inf, np.inf)
    if dtype.kind == "f":
        low, high = float32(np.asarray(low)), float32(np.asarray(high))
    elif dtype.kind != "b":
        least, most = np.iinfo(dtype.name).min, np.iinfo(dtype.name).max
    full = bool(np.all(low == least) and np.all(high == most))
    yield _Part(name, path, (*batch, *shape), dtype, np.asarray(low), np.asarray(high), full)


def check_finite(
    what: str, numbers: np.ndarray, columns: Sequence[int], step: int, seed: int
) -> None:
    """Refuses numbers that are not finite: one of them would make NaN of all weights.

    Args:
        what: `reward` or `observation`.
        numbers: [T, B, *].
        columns: Numbers of the B columns.
        step: Of the first row.
        seed: Of the run.

    Raises:
        EnvError: Names the column, the number, its place and its step.
    """
    if numbers.dtype.kind != "f" or np.isfinite(numbers).all():
        return
    at = tuple(np.argwhere(~np.isfinite(numbers))[0].tolist())
    row, column, *place = at
    raise EnvError(
        f"the environment of column {columns[column]} gave {numbers[at]} as {what}"
        f"{f' at {place}' if place else ''} in step {step + row}, run seed {seed}; "
        f"{what}s must be finite numbers"
    )
