"""Functions of tensors as one compiled graph for each of their geometries.

`torch.compile` reads Python and watches ever after whether that would still run the same way; in
each call this takes as long as a small network's layer. Here the function is traced and the graph
given to the same compiler, so that a call looks at shapes alone.
"""

from __future__ import annotations

import gc
import logging
import textwrap
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from ..envs.tree import Tree, leaves, map_tree
from .recorded import geometry_of

Results = dict[str, Tensor]

_log = logging.getLogger(__name__)


class Compiled:
    """A function from trees of tensors to tensors by name, compiled for each of their geometries.

    It may change its arguments in place. Else it may depend on nothing but them and their geometry:
    what Python brings in stays as it was. Where the trace shows a tensor from elsewhere (of one
    dimension or more) or that Python read a number, another function does its work.

    Args:
        function: Of trees of tensors.
        always: Its first arguments, the same tensors in each call.
        instead: Takes the other arguments, where the function cannot be compiled.
    """

    def __init__(
        self,
        function: Callable[..., Results],
        always: tuple[Tree, ...],
        instead: Callable[..., Results],
    ) -> None:
        self._function = function
        self._always = always
        self._instead = instead
        self._graphs: dict[Any, Callable[[list[Tensor]], Results] | None] = {}

    def __call__(self, *args: Tree) -> Results:
        """What the function does."""
        given = list(leaves(args))
        geometry = geometry_of(given)
        if geometry not in self._graphs:
            self._graphs[geometry] = self._try(args, given)
        run = self._graphs[geometry]
        return self._instead(*args) if run is None else run(given)

    def _try(self, args: tuple[Tree, ...], given: list[Tensor]) -> Callable[..., Results] | None:
        try:
            return self._compile(args, given)
        except RuntimeError as error:  # of the trace, of the compiler, or of the function itself
            reason = textwrap.shorten(str(error), 200, placeholder=" ...")
            _log.warning("the update is not compiled: %s", reason)
            return None

    def _compile(self, args: tuple[Tree, ...], given: list[Tensor]) -> Callable[..., Results]:
        """Traces the function without running it, and compiles what was traced."""
        from torch._inductor import compile as inductor  # 70 MB and a second: not unless needed

        names: list[str] = []
        kept: dict[str, int] = {}  # results that are arguments need no graph
        always = list(leaves(self._always))
        count = len(always)

        def flat(*tensors: Tensor) -> list[Tensor]:
            again = iter(tensors)
            results = self._function(*map_tree(lambda _: next(again), (*self._always, *args)))
            places = {id(leaf): place for place, leaf in enumerate(tensors[count:])}
            kept.update({n: places[id(x)] for n, x in results.items() if id(x) in places})
            names.extend(name for name in results if name not in kept)
            return [results[name] for name in names]

        # Views, as the trace knows a tensor by itself: one that is given twice is two.
        example = [*always, *(leaf.view_as(leaf) for leaf in given)]
        graph = make_fx(flat, tracing_mode="fake", _allow_non_fake_inputs=True)(*example)
        _refuse_others(graph)
        with torch.autocast(given[0].device.type, enabled=False):  # the trace has its casts
            run: Any = inductor(graph, example, {"cpp_wrapper": True})
        # Of the compiler a third of a million objects stay. Once they have been collected as old
        # ones, updates alone no longer make Python look at all of them, for 0.2 s each time.
        gc.collect()

        def play(given: list[Tensor]) -> Results:
            results = dict(zip(names, run(*always, *given), strict=True))
            for name, place in kept.items():
                results[name] = given[place]
            return results

        return play


def _refuse_others(graph: fx.GraphModule) -> None:
    """Raises RuntimeError if a graph holds tensors that may change: all but single numbers."""
    held = (getattr(graph, str(n.target)) for n in graph.graph.nodes if n.op == "get_attr")
    shapes = [tuple(tensor.shape) for tensor in held if tensor.ndim]
    if shapes:
        raise RuntimeError(
            f"the loss reads a tensor of shape {shapes[0]} that is neither in the minibatch nor a "
            "parameter or buffer of the policy"
        )
