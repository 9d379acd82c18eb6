"""Functions of tensors as one compiled graph for each of their geometries.

`torch.compile` analyses Python code, and checks in each call whether it would still run the same
way; the check takes as long as a layer of a small network. Here the function is traced, and the
graph given to the same compiler, so that a call checks the geometry of its arguments alone.
"""

from __future__ import annotations

import gc
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from ....core.errors import Guard, shorten
from ....core.interruption import BrokenOff, breakable
from ....core.tree import Tree, leaves, map_tree
from ..terms import Terms
from .cuda_graph import CudaGraph
from .numbers import Watched
from .recorded import geometry_of

_log = logging.getLogger(__name__)
_COMPILED = re.compile(r"/[^\s'\":]+\.(?:so|o|gch)\b")


class Compiled:
    """A function from trees of tensors to tensors by name, compiled for each of their geometries.

    It may change `always` in place. Its result may depend on its arguments, their geometry and
    the numbers `watched`; on nothing else. `instead` is called where the trace shows that Python
    read a number of a tensor or that a tensor of one dimension or more came from elsewhere, and
    from the first change of a watched number on.

    Args:
        function: From trees of tensors to tensors by name.
        always: Its first arguments, the same tensors in each call.
        instead: The same function without these first arguments, not compiled.
        watched: The Python numbers that it may read.

    Attributes:
        graphs: By geometry; None where `instead` is called.
    """

    def __init__(
        self,
        function: Callable[..., Terms],
        always: tuple[Tree, ...],
        instead: Callable[..., Terms],
        watched: Watched,
    ) -> None:
        self._function = function
        self._always = always
        self._instead = instead
        self._watched = watched
        self.graphs: dict[Any, Callable[[list[Tensor]], Terms] | None] = {}

    def __call__(self, *args: Tree) -> Terms:
        """Returns what the function returns."""
        if self._watched.changed() or self._watched.unsteady:
            return self._instead(*args)
        given = list(leaves(args))
        geometry = geometry_of(given)
        if geometry not in self.graphs:
            self.graphs[geometry] = self._try(args, given)
        run = self.graphs[geometry]
        return self._instead(*args) if run is None else run(given)

    def _try(self, args: tuple[Tree, ...], given: list[Tensor]) -> Callable[..., Terms] | None:
        for again in (True, False):
            try:
                # Whatever fails, of the trace, the compiler, its cache, or the function itself.
                with breakable(), Guard(lambda: "the update is not compiled", RuntimeError):
                    return self._compile(args, given)
            except BrokenOff:  # the run ends; the rest of this turn is not worth the wait
                break
            except RuntimeError as error:
                if not (again and _drop_broken(str(error))):
                    _log.warning("%s", shorten(error, 200))
                    break
        return None

    def _compile(self, args: tuple[Tree, ...], given: list[Tensor]) -> Callable[..., Terms]:
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

        # Views, as the trace identifies a tensor by the object: one that is given twice is two.
        example = [*always, *(leaf.view_as(leaf) for leaf in given)]
        with self._watched.noting():
            graph = make_fx(flat, tracing_mode="fake", _allow_non_fake_inputs=True)(*example)
        _refuse_others(graph)
        with torch.autocast(given[0].device.type, enabled=False):  # the trace has its casts
            run: Any = inductor(graph, example, {"cpp_wrapper": given[0].device.type == "cpu"})
        # The compiler leaves 300,000 objects. A collection makes them old ones, which Python then
        # no longer checks during the updates, for 0.2 s each time.
        gc.collect()

        def compiled(*given: Tensor) -> tuple[Tensor, ...]:
            return tuple(run(*always, *given))

        device = given[0].device
        alone = all(tensor.device == device for tensor in _held(graph))  # the others may change
        call = CudaGraph(compiled) if device.type == "cuda" and alone else compiled

        def play(given: list[Tensor]) -> Terms:
            results = dict(zip(names, call(*given), strict=True))
            for name, place in kept.items():
                results[name] = given[place]
            return results

        return play


def _drop_broken(message: str) -> bool:
    """Whether a message names compiled files in the compiler's cache, which are then removed.

    A process that is killed while it compiles leaves them empty or cut; they are never made anew.
    """
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    dropped = False
    for file in map(Path, _COMPILED.findall(message)):
        if file.is_relative_to(cache_dir()):
            with suppress(OSError):  # it is not there, or not ours
                file.unlink()
                dropped = True
    return dropped


def _held(graph: fx.GraphModule) -> list[Tensor]:
    """The tensors that a graph holds: neither arguments nor made in it."""
    return [getattr(graph, str(n.target)) for n in graph.graph.nodes if n.op == "get_attr"]


def _refuse_others(graph: fx.GraphModule) -> None:
    """Raises RuntimeError if a graph holds tensors that may change: all but single numbers."""
    shapes = [tuple(tensor.shape) for tensor in _held(graph) if tensor.ndim]
    if shapes:
        raise RuntimeError(
            f"the loss reads a tensor of shape {shapes[0]} that is neither in the minibatch nor a "
            "parameter or buffer of the policy"
        )
