"""Writes down the PyTorch operations of a function while it runs, to be repeated later."""

from __future__ import annotations

import operator
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import BuiltinFunctionType, MethodDescriptorType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ....core.tree import Tree

UNSTEADY = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
"""Tags of operators that give a number to Python, or whose result's shape depends on numbers."""
CONSTANT = {torch.ops.aten.scalar_tensor.default, torch.ops.aten.ones_like.default}
"""Operators whose scalars are the same in each call: of autograd and `torch.where`."""


class Recorder(TorchDispatchMode):
    """A context within which each operation is run and written down.

    A tensor is identified by its place in memory, so that `detach` gives the same tensor. Nothing
    is freed within the context: no place is used twice.

    Args:
        given: The arguments of the function, which differ in each call.
        always: Tensors that are the same ones in each call, with other numbers.
    """

    def __init__(self, given: list[Tensor], always: list[Tensor]) -> None:
        super().__init__()
        self._graph = fx.Graph()
        self._alive: list[Any] = [*given]
        self._given = [self._graph.placeholder(f"given{n}") for n in range(len(given))]
        self._nodes = dict(zip(map(place_of, given), self._given, strict=True))
        self._fixed: dict[fx.Node, Tensor] = {}
        self._needed: set[fx.Node] = set()
        self._owned = {tensor.untyped_storage().data_ptr() for tensor in always}
        self._constants: set[int] = set()  # their storages
        self._repeats = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the compiler is imported: 70 MB and a second for what is not compiled

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation and writes it down."""
        kwargs = kwargs or {}
        self._repeats &= not _is_unsteady(func, args)
        self._repeats &= self._constants.isdisjoint(_written(func, args, kwargs))
        taken: Any = map_aggregate((args, kwargs), self._node)
        result = func(*args, **kwargs)
        self._alive.append(result)
        if func in CONSTANT and not result.ndim:
            self._constants.add(place_of(result)[0])
            self._nodes[place_of(result)] = self._constant(result)
            return result
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

    def is_on(self, device: torch.device) -> bool:
        """Whether all tensors of the function are on a device, but for constants."""
        found = tree_leaves((self._alive, *self._fixed.values()))
        elsewhere = [x for x in found if isinstance(x, Tensor) and x.device != device]
        return self._constants.issuperset(place_of(tensor)[0] for tensor in elsewhere)

    def finish(self, result: Tree) -> Callable[..., Tree] | None:
        """The function that repeats what was written down.

        Args:
            result: What the function returned.

        Returns:
            From the arguments' tensors to the result; None if other operations may be due in the
            next call: Python read a number, or a tensor of one dimension or more came from
            elsewhere.
        """
        self._graph.output(map_aggregate(result, self._node))
        if not self._repeats:
            return None
        self._graph.eliminate_dead_code(
            lambda node: node.op != "call_function" or node in self._needed
        )
        return partial(fx.GraphModule({}, self._graph).forward, *self._fixed.values())

    def _node(self, value: Any) -> Any:
        """The node of a tensor; other arguments of an operator are taken as constants."""
        if not isinstance(value, Tensor):
            return value
        place = place_of(value)
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
        """Notes a result; a view of a tensor that is always the same is always the same, too."""
        place = place_of(result)
        if place in self._nodes:
            return
        storages = {place_of(self._fixed[n])[0] for n in node.all_input_nodes if n in self._fixed}
        fixed = place[0] in storages and self._fixed.keys() >= set(node.all_input_nodes)
        self._nodes[place] = self._constant(result) if fixed else node


def place_of(tensor: Tensor) -> tuple[Any, ...]:
    """Where a tensor lies in memory (its storage first), and how it is read from there."""
    storage = tensor.untyped_storage().data_ptr()
    return storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def _is_unsteady(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether an operator gives a number to Python, or a shape that depends on numbers."""
    if func is torch.ops.aten.index.Tensor:  # has the tag, for masks
        return any(index is not None and not index.dtype.is_signed for index in args[1])
    return func is torch.ops.aten.is_nonzero.default or not UNSTEADY.isdisjoint(func.tags)


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> set[int]:
    """The storages of the tensors that an operator changes in place."""
    if not func._schema.is_mutable:
        return set()
    changed = [
        args[place] if place < len(args) else kwargs.get(kind.name)
        for place, kind in enumerate(func._schema.arguments)
        if kind.alias_info is not None and kind.alias_info.is_write
    ]
    return {place_of(tensor)[0] for tensor in tree_leaves(changed) if isinstance(tensor, Tensor)}


def _quickest(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> Callable[..., Any]:
    """PyTorch's function of the operator's name if its result is the same: half the overhead."""
    name = func._schema.name.partition("::")[2]
    for home in (torch, Tensor, nn.functional) if func.namespace == "aten" else ():
        function = getattr(home, name, None)
        if not isinstance(function, BuiltinFunctionType | MethodDescriptorType):
            continue
        with suppress(TypeError, RuntimeError):  # it takes other arguments, or in another order
            again = function(*args, **kwargs)
            alike = isinstance(again, Tensor) and isinstance(result, Tensor)
            if alike and place_of(again)[1:] == place_of(result)[1:] and torch.equal(again, result):
                return function
    return func
