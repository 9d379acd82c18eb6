"""Functions of tensors as one compiled graph for each of their geometries.

`torch.compile` reads Python and watches ever after whether that would still run the same way; in
each call this takes as long as a small network's layer. Here the function is traced and the graph
given to the same compiler, so that a call looks at shapes alone.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from ..envs.tree import Tree, leaves, map_tree
from .recorded import geometry_of

Results = dict[str, Tensor]


class Compiled:
    """A function from trees of tensors to tensors by name, compiled at the first call.

    It may change its arguments in place. Else it may depend on nothing but them and their geometry:
    numbers that Python brings in stay as they were.

    Args:
        function: Of trees of tensors.
        always: Its first arguments, the same tensors in each call.

    Raises:
        ValueError: At the first call, if it reads a tensor that is no argument.
    """

    def __init__(self, function: Callable[..., Results], *always: Tree) -> None:
        self._function = function
        self._always = always
        self._graphs: dict[Any, Callable[[list[Tensor]], Results]] = {}

    def __call__(self, *args: Tree) -> Results:
        """What the function does."""
        given = list(leaves(args))
        geometry = geometry_of(given)
        run = self._graphs.get(geometry)
        if run is None:
            run = self._graphs[geometry] = self._compile(args, given)
        return run(given)

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

        example = [*always, *given]
        graph = make_fx(flat, tracing_mode="fake", _allow_non_fake_inputs=True)(*example)
        _refuse_others(graph)
        with torch.autocast(given[0].device.type, enabled=False):  # the trace has its casts
            run: Any = inductor(graph, example, {"cpp_wrapper": True})
        # The compiler leaves a third of a million objects. A full collection of garbage would look
        # at each of them: 0.2 s every 4,000 updates.
        gc.collect()
        gc.freeze()

        def play(given: list[Tensor]) -> Results:
            results = dict(zip(names, run(*always, *given), strict=True))
            for name, place in kept.items():
                results[name] = given[place]
            return results

        return play


def _refuse_others(graph: fx.GraphModule) -> None:
    """Raises ValueError if a graph holds tensors that may change: all but single numbers."""
    held = (getattr(graph, str(n.target)) for n in graph.graph.nodes if n.op == "get_attr")
    shapes = [tuple(tensor.shape) for tensor in held if tensor.ndim]
    if shapes:
        raise ValueError(
            f"compile=true: the loss reads a tensor of shape {shapes[0]} that is neither in the "
            "minibatch nor a buffer of the policy; put it into one of them, or set compile=false"
        )
