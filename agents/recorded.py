"""Functions of tensors recorded once and played again: a small update without its overhead.

Most of an update of a small network is not arithmetic but the Python of its modules, autograd's
record and its walk back. All that ends in a sequence of PyTorch operations, which is the same in
every update. Here the sequence is written down, the backward's part included, as straight Python
without modules (`torch.fx`). These are the very operations, so the numbers are the same to the
last bit.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from types import BuiltinFunctionType, MethodDescriptorType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.utils._python_dispatch import TorchDispatchMode

from ..envs.tree import Tree, leaves

CALLS_BEFORE = 20
"""With tensors of one geometry until it is recorded: a recording takes as long as ten calls."""

LARGEST = 10**6
"""Numbers in the arguments: beyond, overhead is little, and a recording keeps all that it makes."""

UNSTEADY = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
"""Of operators by which Python sees numbers, or whose results have as many as the numbers say."""


class Recorded:
    """A function from trees of tensors to a tree of tensors, recorded for each of their geometries.

    It may change tensors in place and draw random numbers. Else it may depend only on its
    arguments, their geometry, and tensors that are always the same ones, which change in place.
    Numbers that Python brings in stay as they were; what reads memory past PyTorch (`numpy`,
    `tolist`) is not noticed. The function is called as it is for large arguments and under
    autocast, and where its recording shows that Python read a tensor (`item`, `if`), that numbers
    decide on a shape, or that a tensor came from elsewhere.

    Args:
        function: Of trees of tensors, at least one; its results are not differentiated.
        always: What it takes besides: a module's parameters and buffers, moments.
    """

    def __init__(self, function: Callable[..., Tree], always: Iterable[Tensor]) -> None:
        self._function = function
        self._always = list(always)
        self._calls: Counter[Any] = Counter()
        self._recordings: dict[Any, Callable[..., Tree] | None] = {}

    def __call__(self, *args: Tree) -> Tree:
        """What the function does."""
        given = list(leaves(args))
        if torch.is_autocast_enabled(given[0].device.type):  # it would cast a second time
            return self._function(*args)
        geometry = geometry_of(given)
        play = self._recordings.get(geometry)
        if play is not None:
            with torch.no_grad():
                return play(*given)
        self._calls[geometry] += 1
        due = self._calls[geometry] > CALLS_BEFORE and geometry not in self._recordings
        size = sum(leaf.numel() for leaf in given)
        if not due or size > LARGEST or len(set(map(_place, given))) < len(given):
            return self._function(*args)
        with _Recorder(given, self._always) as recorder:
            result = self._function(*args)
        self._recordings[geometry] = recorder.finish(result)
        return result

    def of(self, *args: Tree) -> Callable[..., Tree]:
        """What to call for many arguments in a row with the geometry of these, without gradients.

        It does not look at each of them again: a third of the time of a small function.
        """
        given = list(leaves(args))
        play = self._recordings.get(geometry_of(given))
        if play is None or torch.is_autocast_enabled(given[0].device.type):
            return self
        places = [place for place, tree in enumerate(args) if isinstance(tree, Tensor)]
        if len(places) == len(given):  # no tree among them
            return lambda *args: play(*[args[place] for place in places])
        return lambda *args: play(*leaves(args))


class _Recorder(TorchDispatchMode):
    """Writes down the operations that reach the kernels.

    A tensor is known by its place in memory, so `detach` gives the same one. Nothing is freed
    meanwhile: no place is taken twice.
    """

    def __init__(self, given: list[Tensor], always: list[Tensor]) -> None:
        super().__init__()
        self._graph = fx.Graph()
        self._alive: list[Any] = [*given]
        self._given = [self._graph.placeholder(f"given{n}") for n in range(len(given))]
        self._nodes = dict(zip(map(_place, given), self._given, strict=True))
        self._fixed: dict[fx.Node, Tensor] = {}
        self._needed: set[fx.Node] = set()
        self._owned = {tensor.untyped_storage().data_ptr() for tensor in always}
        self._repeats = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the compiler is imported: 70 MB and a second for what is not compiled

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation and writes it down."""
        kwargs = kwargs or {}
        self._repeats &= not _is_unsteady(func, args)
        taken: Any = map_aggregate((args, kwargs), self._node)
        result = func(*args, **kwargs)
        self._alive.append(result)
        needed = func._schema.is_mutable or torch.Tag.nondeterministic_seeded in func.tags
        target = func if needed else _quickest(func, args, kwargs, result)
        node = self._graph.call_function(target, *taken)
        if needed:
            self._needed.add(node)
        if isinstance(result, Tensor):
            self._made(result, node)
        for number, part in enumerate(result if isinstance(result, tuple | list) else ()):
            if isinstance(part, Tensor):
                self._made(part, self._graph.call_function(operator.getitem, (node, number)))
        return result

    def finish(self, result: Tree) -> Callable[..., Tree] | None:
        """What was written down, of the tensors given; None if the next call may differ."""
        self._graph.output(map_aggregate(result, self._node))
        if not self._repeats:
            return None
        self._graph.eliminate_dead_code(
            lambda node: node.op != "call_function" or node in self._needed
        )
        return partial(fx.GraphModule({}, self._graph).forward, *self._fixed.values())

    def _node(self, value: Any) -> Any:
        """The node of a tensor; what else an operator takes is always the same."""
        if not isinstance(value, Tensor):
            return value
        place = _place(value)
        if place not in self._nodes:
            self._repeats &= value.ndim == 0 or place[0] in self._owned
            self._nodes[place] = self._constant(value)
        return self._nodes[place]

    def _constant(self, value: Tensor) -> fx.Node:
        with self._graph.inserting_before(self._given[0]):
            node = self._graph.placeholder(f"fixed{len(self._fixed)}")
        self._fixed[node] = value.detach()
        return node

    def _made(self, result: Tensor, node: fx.Node) -> None:
        """Takes note of a result; a view of what is always the same is so, too."""
        place = _place(result)
        if place in self._nodes:
            return
        storages = {_place(self._fixed[n])[0] for n in node.all_input_nodes if n in self._fixed}
        fixed = place[0] in storages and self._fixed.keys() >= set(node.all_input_nodes)
        self._nodes[place] = self._constant(result) if fixed else node


def geometry_of(given: list[Tensor]) -> tuple[Any, ...]:
    """Shapes, strides and types: what decides which operations a function of tensors makes.

    The stride of a dimension of size 1 does not.
    """
    return tuple(
        [(leaf.shape, leaf.is_contiguous() or leaf.stride(), leaf.dtype) for leaf in given]
    )


def _place(tensor: Tensor) -> tuple[Any, ...]:
    """Where a tensor lies in memory, storage first, and how it is read from there."""
    storage = tensor.untyped_storage().data_ptr()
    return storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def _is_unsteady(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether Python sees a number, or the shape of the result depends on numbers."""
    if func is torch.ops.aten.index.Tensor:  # has the tag, for masks
        return any(index is not None and not index.dtype.is_signed for index in args[1])
    return func is torch.ops.aten.is_nonzero.default or not UNSTEADY.isdisjoint(func.tags)


def _quickest(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> Callable[..., Any]:
    """PyTorch's Python function of an operator's name, if it gives the same: half the overhead."""
    name = func._schema.name.partition("::")[2]
    for home in (torch, Tensor, nn.functional) if func.namespace == "aten" else ():
        function = getattr(home, name, None)
        if not isinstance(function, BuiltinFunctionType | MethodDescriptorType):
            continue
        with suppress(TypeError):  # it takes other arguments
            again = function(*args, **kwargs)
            alike = isinstance(again, Tensor) and isinstance(result, Tensor)
            if alike and _place(again)[1:] == _place(result)[1:] and torch.equal(again, result):
                return function
    return func
