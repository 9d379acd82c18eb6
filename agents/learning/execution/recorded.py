"""Functions of tensors, recorded once and then repeated: a small update without its overhead.

Most of the time of a small network's update goes to the Python code of its modules and to autograd,
not to arithmetic. What they do in the end is a sequence of PyTorch operations, the same in every
update. Here this sequence is recorded, the backward pass included, as straight Python without
modules (`torch.fx`). A repetition runs the same operations, so its numbers are the same to the last
bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ....core.tree import Tree, leaves
from .cuda_graph import CudaGraph
from .numbers import Watched
from .recorder import Recorder, place_of

CALLS_BEFORE = 20
"""Calls with tensors of one geometry before it is recorded, which takes as long as ten calls."""

LARGEST = {"cpu": 10**6, "cuda": 10**7}
"""Most numbers in the arguments of a recording. With more of them overhead hardly counts; and what
is recorded keeps all tensors that it makes, on a CPU for good, on a GPU until it is done."""


class Recorded:
    """A function from trees of tensors to a tree of tensors, recorded for each of their geometries.

    It may change tensors in place and draw random numbers. Its result may depend on its arguments,
    their geometry (see `geometry_of`), the tensors `always`, and the numbers `watched`; on nothing
    else. When a watched number has changed, the function is recorded again, up to twice.

    The function itself is called, and nothing repeated: for large arguments; under autocast; after
    the third change of a number; and where the recording shows that Python read a number of a
    tensor (`item`, `if`), that a shape depends on such a number, or that a tensor of one dimension
    or more came from elsewhere. What reads memory without PyTorch (`numpy`, `tolist`) is not
    noticed.

    Args:
        function: From trees with at least one tensor to a tree. Its result has no gradient.
        always: Tensors that are the same ones in each call, whose numbers may change: parameters,
            buffers, moments.
        watched: The Python numbers that it may read.

    Attributes:
        recordings: By geometry; None where the function itself is called.
    """

    def __init__(
        self, function: Callable[..., Tree], always: Iterable[Tensor], watched: Watched
    ) -> None:
        self._function = function
        self._always = list(always)
        self._watched = watched
        self._calls: Counter[Any] = Counter()
        self.recordings: dict[Any, Callable[..., Tree] | None] = {}
        self._for_one: Callable[..., Tree] | None = None

    def __call__(self, *args: Tree) -> Tree:
        """Returns what the function returns."""
        given = list(leaves(args))
        if torch.is_autocast_enabled(given[0].device.type):  # it would cast a second time
            return self._function(*args)
        self._forgets()
        if self._watched.unsteady:
            return self._function(*args)
        geometry = geometry_of(given)
        play = self.recordings.get(geometry)
        if play is not None:
            with torch.no_grad():
                return play(*given)
        self._calls[geometry] += 1
        due = self._calls[geometry] > CALLS_BEFORE and geometry not in self.recordings
        size, device = sum(leaf.numel() for leaf in given), given[0].device
        if (
            not due
            or size > LARGEST.get(device.type, 0)
            or len(set(map(place_of, given))) < len(given)
        ):
            return self._function(*args)
        with self._watched.noting(), Recorder(given, self._always) as recorder:
            result = self._function(*args)
        play = recorder.finish(result)
        if play is not None and device.type == "cuda" and recorder.is_on(device):
            play = CudaGraph(play)
        self.recordings[geometry] = play
        return result

    def for_one_geometry(self) -> Callable[..., Tree]:
        """The function, for a caller whose arguments all have one geometry, without gradients.

        Once it is recorded, neither the geometry of its arguments nor the numbers watched are
        checked again: this saves a third of the time of a small function. So a caller that lives
        longer than the numbers asks for another one, as the collector does for each rollout.
        """
        self._forgets()
        return self._for_one or self._call_for_one

    def _call_for_one(self, *args: Tree) -> Tree:
        """A call for that caller while there is no recording for it."""
        self._for_one = self._unchecked(args)
        return (self._for_one or self)(*args)

    def _forgets(self) -> None:
        """Deletes all recordings if a watched number has changed."""
        if self._watched.changed():
            self._calls.clear()
            self.recordings.clear()
            self._for_one = None

    def _unchecked(self, args: tuple[Tree, ...]) -> Callable[..., Tree] | None:
        """The recording for the geometry of these arguments; None if there is none."""
        given = list(leaves(args))
        play = self.recordings.get(geometry_of(given))
        if play is None or torch.is_autocast_enabled(given[0].device.type):
            return None
        places = [place for place, tree in enumerate(args) if isinstance(tree, Tensor)]
        if len(places) == len(given):  # no tree among them
            return lambda *args: play(*[args[place] for place in places])
        return lambda *args: play(*leaves(args))


def geometry_of(given: list[Tensor]) -> tuple[Any, ...]:
    """The geometry of tensors: their shapes, strides and types.

    It decides which operations a function makes of them. The strides of tensors that are contiguous
    in memory do not count.
    """
    return tuple(
        [(leaf.shape, leaf.is_contiguous() or leaf.stride(), leaf.dtype) for leaf in given]
    )
