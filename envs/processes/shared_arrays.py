"""Arrays that several processes see: what environments take and give in a step."""

from __future__ import annotations

import mmap
import os
import tempfile
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from ...core.tree import Tree, leaves, map_tree
from ..observations import Space, empty

_ALIGNED = 64  # bytes: two processes never write into one line of a processor's cache


class SharedArrays(NamedTuple):
    """A row for each environment."""

    obs: Tree
    """[B,*]"""
    action: np.ndarray
    """[B,*]"""
    reward: np.ndarray
    """[B] float64"""
    terminated: np.ndarray
    """[B] bool"""
    truncated: np.ndarray
    """[B] bool"""
    success: np.ndarray
    """[B] float64, of the episodes that the last step ended; see `Envs.successes`."""

    def rows(self, part: slice) -> SharedArrays:
        """Views of some of the rows."""
        return SharedArrays(*map_tree(lambda array: array[part], tuple(self)))


def open_memory() -> int:
    """A file without a name: it goes with the last process that has it open, however that ends.

    Returns:
        Its descriptor.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create("neuraxis")
    with tempfile.TemporaryFile() as file:  # macOS
        return os.dup(file.fileno())


def shared_arrays(
    memory: int, num_envs: int, observation_space: Space, action_space: Space
) -> SharedArrays:
    """The arrays of B environments in a file of `open_memory`, in each process the same.

    Args:
        memory: Descriptor of the file, which gets the size that it needs.
        num_envs: B.
        observation_space: Of one environment, as `observations.supported` gives it.
        action_space: Of one environment.
    """
    action = np.empty((num_envs, *(action_space.shape or ())), action_space.dtype)
    numbers, ends = np.empty(num_envs), np.empty(num_envs, bool)
    forms = (empty(observation_space, num_envs), action, numbers, ends, ends, numbers)
    sizes = [-(-form.nbytes // _ALIGNED) * _ALIGNED for form in leaves(forms)]
    os.ftruncate(memory, sum(sizes))
    mapped = mmap.mmap(memory, sum(sizes))
    places = accumulate([0, *sizes[:-1]])

    def place(form: np.ndarray) -> np.ndarray:
        array: np.ndarray[Any, Any] = np.ndarray(form.shape, form.dtype, mapped, next(places))
        return array

    return SharedArrays(*map_tree(place, forms))
