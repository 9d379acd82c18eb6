"""Functions of tensors on a GPU as CUDA graphs: one launch for all of their kernels.

The update of a small network is about a hundred kernels of a few microseconds, and to launch one
takes as long. A CUDA graph launches all of them at once. It reads and writes the same memory in
each replay, so arguments are copied into it, and results out of it: a copy for each tensor.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from ....core.tree import Tree, leaves, map_tree

copy_all = torch.ops.aten._foreach_copy_.default
"""Copies the tensors of a list into those of another one."""

_log = logging.getLogger(__name__)

WARM_UP = 3
"""Calls before the capture: libraries choose their algorithms and make their workspaces in them."""


class CudaGraph:
    """A function that is called a few times, then captured, and from then on replayed.

    A function that cannot be captured is called as it is.

    Args:
        function: From tensors on one GPU, each time of the same geometry, to a tree of tensors on
            it. It makes the same operations in each call, and may change other tensors in place.
    """

    refused: ClassVar[torch.cuda.CUDAGraph | None] = None
    """The graph whose capture failed in this process, if one did."""

    def __init__(self, function: Callable[..., Tree]) -> None:
        self._function = function
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._given: list[Tensor] = []
        self._result: Tree = ()

    def __call__(self, *given: Tensor) -> Tree:
        """Returns what the function returns, in memory of its own."""
        self._calls += 1
        if self._calls == WARM_UP + 1:
            self._capture(given)
        if self._graph is None:
            return self._function(*given)
        copy_all(self._given, given)
        self._graph.replay()
        own = map_tree(torch.empty_like, self._result)
        if found := list(leaves(own)):
            copy_all(found, list(leaves(self._result)))
        return own

    def _capture(self, given: tuple[Tensor, ...]) -> None:
        """Notes the kernels of a call, without running them.

        After a capture that CUDA refused PyTorch stays on its stream, and its allocator remembers
        the graph: so the stream is set back, the graph kept, and no other capture tried.
        """
        if CudaGraph.refused is not None:
            return
        self._given = [leaf.clone() for leaf in given]
        graph = torch.cuda.CUDAGraph()
        try:
            with (
                torch.cuda.stream(torch.cuda.current_stream()),
                torch.cuda.graph(graph, capture_error_mode="thread_local"),
            ):
                self._result = self._function(*self._given)
        except RuntimeError as error:
            reason = str(error.__context__ or error).partition("\n")[0]
            _log.warning("updates are not captured as CUDA graphs, so they are slower: %s", reason)
            CudaGraph.refused = graph
        else:
            self._graph = graph
