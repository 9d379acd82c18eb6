"""States of collectors, for the same columns in other groups.

A state has a row for each column, along these axes:

    0     everywhere but
    1     in the policy's memory
    -1    in the arrays of a vector environment
    none  in its numbers and its generator, which are the same or not drawn from in every group
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..core.tree import map_tree

Rows = Callable[[Sequence[Any], int], Any]
"""Makes one leaf of the leaves that stand in the same place, along an axis."""


def regroup(states: Sequence[dict[str, Any]], groups: int) -> list[dict[str, Any]]:
    """The states of as many groups as wanted, of one size.

    Args:
        states: What `Collector.state_dict` gave of each group, in the order of the columns.
        groups: How many there will be; divides the number of columns.
    """
    whole = _state(_joined, states)
    size = len(whole["first"]) // groups
    parts = (range(group * size, (group + 1) * size) for group in range(groups))
    return [_state(partial(_part, columns=columns), [whole]) for columns in parts]


def part_of(snapshot: dict[str, Any], columns: range) -> dict[str, Any]:
    """What a snapshot of environments has of some of its columns."""
    return _snapshot(partial(_part, columns=columns), [snapshot])


def join(snapshots: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Snapshots of environments, one after the other along the columns."""
    return _snapshot(_joined, snapshots)


def _joined(leaves: Sequence[Any], axis: int) -> Any:
    if isinstance(leaves[0], list):
        return [row for rows in leaves for row in rows]
    return np.concatenate(leaves, axis)


def _part(leaves: Sequence[Any], axis: int, columns: range) -> Any:
    (leaf,) = leaves
    if isinstance(leaf, list):
        return [leaf[column] for column in columns]
    return np.take(leaf, columns, axis)


def _state(rows: Rows, states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rows of the states of collectors."""
    found = {}
    for name, value in states[0].items():
        values = [state[name] for state in states]
        if name == "envs":
            found[name] = _snapshot(rows, values)
        elif name == "version":
            found[name] = value
        else:
            found[name] = _tree(rows, values, 1 if name == "state" else 0)
    return found


def _snapshot(rows: Rows, snapshots: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rows of what `Envs.snapshot` gave."""
    found = {}
    for name, value in snapshots[0].items():
        values = [snapshot[name] for snapshot in snapshots]
        if name == "envs":
            found[name] = _snapshot(rows, values)
        elif name == "attributes":
            found[name] = _attributes(rows, values)
        elif name == "generator":
            found[name] = value
        elif name == "opened":
            found[name] = max(values)
        else:
            found[name] = _tree(rows, values, 0)
    return found


def _attributes(rows: Rows, attributes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rows of a vector environment's own arrays [*,B]; it keeps its number of columns."""
    return {
        name: rows([one[name] for one in attributes], -1)
        if isinstance(value, np.ndarray)
        else value
        for name, value in attributes[0].items()
        if name != "num_envs"
    }


def _tree(rows: Rows, trees: Sequence[Any], axis: int) -> Any:
    return map_tree(lambda *leaves: rows(leaves, axis), *trees)
