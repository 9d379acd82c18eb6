"""Observations that somebody else's loop gives: one, or a batch of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from ...core.errors import EnvError, shorten
from ...core.tree import Tree, leaves
from ..observation_check import ObservationCheck
from ..observations import Space


class GivenObservations:
    """Makes one tree [B,*] of what is given, and refuses what is not in the environment's space.

    A batch of a Tuple is a tuple of arrays [B,*], and one of a Dict is a dict of them.

    Args:
        space: Of one observation of the environment.
        env_id: The environment's id.
        values: Whether to look at the numbers, too, and not at their shapes alone.
    """

    def __init__(self, space: Space, env_id: str, values: bool) -> None:
        self._space, self._id, self._values = space, env_id, values
        # For as many as the last call had.
        self._check: tuple[tuple[int, ...], ObservationCheck] | None = None

    def __call__(self, obs: Any) -> tuple[Tree, bool]:
        """The tree, and whether there was one observation only.

        Raises:
            ValueError: It is not in the space, or has a number that is not finite.
        """
        single = self._is_single(obs)
        rows = _rows(self._space, obs, single, "observation")
        if self._values:
            self._look(obs if single else rows, () if single else next(leaves(rows)).shape[:1])
        for leaf in leaves(rows):
            if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
                raise ValueError("predict: the observation has a number that is not finite")
        return rows, single

    def _is_single(self, obs: Any) -> bool:
        """Whether its first array is one of one observation; of what has none `_rows` tells."""
        space = self._space
        while isinstance(space, spaces.Dict | spaces.Tuple):
            kind = Mapping if isinstance(space, spaces.Dict) else tuple
            key: Any = next(iter(space.spaces)) if isinstance(space, spaces.Dict) else 0
            if not isinstance(obs, kind) or not obs or (kind is Mapping and key not in obs):
                return True
            space, obs = space[key], obs[key]
        return array_of(obs, "observation").ndim <= len(space.shape or ())

    def _look(self, obs: Any, count: tuple[int, ...]) -> None:
        if self._check is None or self._check[0] != count:
            check = ObservationCheck(self._space, "always", self._id, lambda: "predict", count)
            self._check = count, check
        try:
            self._check[1](obs)
        except EnvError as error:
            raise ValueError(str(error)) from None


def _rows(space: Space, obs: Any, single: bool, name: str) -> Tree:
    """The parts of an observation that a space has, as arrays [B,*]; ValueError if they misfit."""
    if isinstance(space, spaces.Dict):
        if not isinstance(obs, Mapping) or not space.keys() <= obs.keys():
            keys = ", ".join(map(repr, space))
            raise ValueError(f"predict: {name} is {shorten(repr(obs), 60)}; expected keys {keys}")
        parts = space.spaces.items()
        return {key: _rows(part, obs[key], single, f"{name}[{key!r}]") for key, part in parts}
    if isinstance(space, spaces.Tuple):
        if not isinstance(obs, tuple) or len(obs) != len(space):
            found = shorten(repr(obs), 60)
            raise ValueError(f"predict: {name} is {found}; expected a tuple of {len(space)} parts")
        pairs = enumerate(zip(space, obs, strict=True))
        return tuple(_rows(part, one, single, f"{name}[{n}]") for n, (part, one) in pairs)
    array, shape = array_of(obs, name), space.shape or ()
    rows = array[None] if single else array
    if rows.shape[1:] != shape or not rows.ndim:
        raise ValueError(
            f"predict: {name} has shape {array.shape}; expected {shape}, or of a batch "
            f"({', '.join(['B', *map(str, shape)])})"
        )
    return rows


def array_of(value: Any, name: str) -> np.ndarray:
    """The value as an array of numbers; ValueError if it is none."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # ragged lists, tensors with a gradient
        array = np.array(None)
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"predict: {name} is {shorten(repr(value), 60)}; expected numbers in NumPy, the first "
            "of what `reset` and `step` return"
        )
    return array
