"""Functions of tensors recorded once and played again: a small update without its overhead.

Most of an update of a small network is not arithmetic but the Python of its modules, autograd's
record and its walk back. All that ends in a sequence of PyTorch operations, which is the same in
every update. Here the sequence is written down, the backward's part included, and run from the
list. These are the very operations, so the numbers are the same to the last bit.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import BuiltinFunctionType, MethodDescriptorType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..envs.tree import Tree, leaves, map_tree

CALLS_BEFORE = 20
"""With tensors of one geometry until it is recorded: a recording takes as long as ten calls."""

LOOKS = torch.ops.aten._local_scalar_dense.default
"""The operation by which Python gets to see a number."""


class Recorded:
    """A function from trees of tensors to a tree of tensors, recorded for each of their geometries.

    It may change tensors in place and draw random numbers. What it does may depend on nothing else
    but its arguments, their geometry, and the module's parameters and buffers, which may change but
    not be replaced. Where Python looks at a number, or other tensors come in, the function is
    called as it is.

    Args:
        function: Of trees of tensors; its results are not differentiated.
        module: Whose tensors it takes.
    """

    def __init__(self, function: Callable[..., Tree], module: nn.Module) -> None:
        self._function = function
        self._module = module
        self._calls: Counter[Any] = Counter()
        self._recordings: dict[Any, _Recording | None] = {}

    def __call__(self, *args: Tree) -> Tree:
        """What the function does."""
        given = list(leaves(args))
        geometry = tuple([(leaf.shape, leaf.stride(), leaf.dtype) for leaf in given])
        recording = self._recordings.get(geometry)
        if recording is not None:
            return recording.play(given)
        self._calls[geometry] += 1
        due = self._calls[geometry] > CALLS_BEFORE and geometry not in self._recordings
        if not due or len(set(map(_place, given))) < len(given):
            return self._function(*args)
        with _Recorder(given, self._module) as recorder:
            result = self._function(*args)
        self._recordings[geometry] = recorder.recording(result)
        return result


class _Step(NamedTuple):
    """An operation, the slots that it reads, the one that it writes; whether it is never idle."""

    run: Callable[..., Any]
    reads: list[int]
    writes: int
    needed: bool


class _Recording:
    """Steps, and the slots that they read and write.

    Args:
        slots: The first are for the arguments; those in `fixed` have their values.
        fixed: Slots of what is the same in every call.
        steps: In the order of the recording.
        result: The tree of the results' slots.
    """

    def __init__(self, slots: list[Any], fixed: set[int], steps: list[_Step], result: Tree) -> None:
        self._slots = slots
        self._result = result
        self._steps: list[tuple[Callable[..., Any], Callable[..., Any], int, list[int]]] = []
        later = fixed.union(leaves(result))  # what later steps read
        for step in reversed(steps):
            if step.needed or step.writes in later:
                done = [slot for slot in {*step.reads, step.writes} if slot not in later]
                later.update(step.reads)
                self._steps.append((step.run, _picker(step.reads), step.writes, done))
        self._steps.reverse()

    def play(self, given: list[Tensor]) -> Tree:
        """Runs the steps on arguments of the geometry that was recorded."""
        slots = self._slots.copy()
        slots[: len(given)] = given
        with torch.no_grad():
            for run, pick, to, done in self._steps:
                slots[to] = run(*pick(slots))
                for slot in done:
                    slots[slot] = None
        return map_tree(slots.__getitem__, self._result)


def _picker(reads: list[int]) -> Callable[[list[Any]], tuple[Any, ...]]:
    if len(reads) > 1:
        return operator.itemgetter(*reads)
    return lambda slots: tuple([slots[slot] for slot in reads])


class _Recorder(TorchDispatchMode):
    """Writes down the operations that reach the kernels.

    A tensor is known by its place in memory, so `detach` gives the same one. Nothing is freed
    meanwhile: no place is taken twice.
    """

    def __init__(self, given: list[Tensor], module: nn.Module) -> None:
        super().__init__()
        self._alive: list[Any] = [*given]
        self._slots: list[Any] = [None] * len(given)
        self._fixed: set[int] = set()
        self._known = {_place(tensor): slot for slot, tensor in enumerate(given)}
        owned = (*module.parameters(), *module.buffers())
        self._owned = {tensor.untyped_storage().data_ptr() for tensor in owned}
        self._repeats = True
        self._steps: list[_Step] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the compiler is imported: 70 MB and a second for what is not compiled

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation and writes it down."""
        self._repeats &= func is not LOOKS
        kwargs = kwargs or {}
        reads = [self._read(value) for value in (*args, *kwargs.values())]
        result = func(*args, **kwargs)
        self._alive.append(result)
        changes = func._schema.is_mutable
        draws = torch.Tag.nondeterministic_seeded in func.tags
        run = func._op if changes or draws else _quickest(func, args, kwargs, result)
        if kwargs:
            run = partial(_named, run, tuple(kwargs))
        if not isinstance(result, Tensor):
            self._step(run, reads, self._slot(), changes or draws)
            whole = self._steps[-1].writes
            for number, part in enumerate(result if isinstance(result, tuple | list) else ()):
                if isinstance(part, Tensor):
                    slot = self._written(part)
                    self._step(operator.getitem, [whole, self._constant(number)], slot, False)
        elif changes or draws or _place(result) not in self._known:
            if self._is_fixed(result, reads):
                self._known[_place(result)] = self._constant(result.detach())
            else:
                self._step(run, reads, self._written(result), changes or draws)
        return result

    def recording(self, result: Tree) -> _Recording | None:
        """What was written down; None if the next call may differ."""
        slots = map_tree(self._read, result)
        return _Recording(self._slots, self._fixed, self._steps, slots) if self._repeats else None

    def _step(self, run: Callable[..., Any], reads: list[int], writes: int, needed: bool) -> None:
        self._steps.append(_Step(run, reads, writes, needed))

    def _slot(self) -> int:
        self._slots.append(None)
        return len(self._slots) - 1

    def _constant(self, value: Any) -> int:
        slot = self._slot()
        self._slots[slot] = value
        self._fixed.add(slot)
        return slot

    def _read(self, value: Any) -> int:
        """The slot of an argument."""
        if isinstance(value, Tensor):
            place = _place(value)
            if place not in self._known:
                self._repeats &= value.ndim == 0 or place[0] in self._owned  # else from anywhere
                self._known[place] = self._constant(value.detach())
            return self._known[place]
        if isinstance(value, list) and any(isinstance(part, Tensor) for part in value):
            slot = self._slot()
            self._step(_listed, [self._read(part) for part in value], slot, False)
            return slot
        return self._constant(value)

    def _is_fixed(self, result: Tensor, reads: list[int]) -> bool:
        """Whether a result is a view of what stays the same."""
        values = [self._slots[slot] for slot in reads]
        storages = {_place(value)[0] for value in values if isinstance(value, Tensor)}
        return self._fixed.issuperset(reads) and _place(result)[0] in storages

    def _written(self, result: Tensor) -> int:
        """The slot of a result."""
        place = _place(result)
        if place not in self._known:
            self._known[place] = self._slot()
        return self._known[place]


def _place(tensor: Tensor) -> tuple[Any, ...]:
    """Where a tensor lies in memory, storage first, and how it is read from there."""
    storage = tensor.untyped_storage().data_ptr()
    return storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def _quickest(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> Callable[..., Any]:
    """PyTorch's Python function of an operator's name, if it does the same in half the time."""
    name = func._schema.name.partition("::")[2]
    for home in (torch, Tensor):
        function = getattr(home, name, None)
        if not isinstance(function, BuiltinFunctionType | MethodDescriptorType):
            continue
        with suppress(TypeError):  # it takes other arguments
            again = function(*args, **kwargs)
            alike = isinstance(again, Tensor) and isinstance(result, Tensor)
            if alike and _place(again)[1:] == _place(result)[1:] and torch.equal(again, result):
                return function
    return func._op


def _listed(*parts: Tensor) -> list[Tensor]:
    return list(parts)


def _named(func: Callable[..., Any], names: tuple[str, ...], *values: Any) -> Any:
    """Calls with the last values by name."""
    count = len(values) - len(names)
    return func(*values[:count], **dict(zip(names, values[count:], strict=True)))
