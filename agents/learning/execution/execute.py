"""How an update runs: plain, recorded, compiled, or shared by several learners.

An agent's update is one function of a minibatch: all its losses, gradients, optimizer steps and
target networks. It may read and change the tensors of the agent's parts. One of these wraps it:

    plain       the function is called
    recorded    its operations are recorded once and then repeated (`recorded`), on a GPU as a
                CUDA graph (`cuda_graph`)
    compiled    it is traced once, with other tensors in the places of the parts', and the graph is
                compiled (`compiled`)
    shared      it is called with this learner's columns of the minibatch; gradients are summed over
                the learners (`data_parallel`)
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..data_parallel import Replicas
from ..optimizer import Optimizer
from ..terms import Terms
from .compiled import Compiled
from .numbers import Watched
from .recorded import Recorded

Execution = Literal["plain", "recorded", "compiled"]
Update = Callable[[Any], Terms]
WORTH_COMPILING = 60_000  # updates; each saves half a millisecond, compiling takes up to 30 s


def choose(wish: bool | None, updates: float, reason: str | None) -> Execution:
    """Chooses how updates run: compiled if asked for or, if left open, where that saves time.

    Args:
        wish: Whether to compile; None leaves the choice to this function.
        updates: How many the run will take.
        reason: Why an update can be neither recorded nor compiled, a clause; None: it can.

    Raises:
        ValueError: `wish` asks for compiling, and it is impossible.
    """
    if wish and reason:
        raise ValueError(f"compile=true: the update cannot be compiled: {reason}; use compile=auto")
    if reason:
        return "plain"
    if wish or (wish is None and updates > WORTH_COMPILING and shutil.which("g++")):
        return "compiled"
    return "recorded"


def execute(update: Update, parts: Iterable[object], execution: Execution, owner: object) -> Update:
    """Wraps an update so that it runs as `execution` says.

    Args:
        update: From a minibatch, a tree of tensors, to its terms.
        parts: All modules and optimizers whose tensors it reads or changes; others are passed over.
        execution: How it runs.
        owner: The agent, whose Python numbers the update may read: a change of them is noticed.
    """
    parts = list(parts)
    if execution == "plain":
        return update
    if execution == "recorded":
        return record(update, parts, owner)
    places = Places(parts)

    def functional(tensors: Sequence[Tensor], batch: Any) -> Terms:
        with places.filled(tensors), torch.enable_grad():
            return update(batch)

    watched = Watched(owner, patience=1)  # to compile again takes longer than it gains
    return Compiled(functional, (tuple(places.bases),), instead=update, watched=watched)


def record(function: Callable[..., Any], parts: Iterable[object], owner: object) -> Recorded:
    """Records a function of trees of tensors; arguments as those of `execute`."""
    return Recorded(function, Places(parts).tensors, Watched(owner))


def share(
    update: Update, weigh: Callable[[Any], Any], replicas: Replicas, parts: Iterable[object]
) -> Update:
    """Wraps an update so that each learner does it for its share of the columns.

    Args:
        update: Its optimizers sum the gradients over the learners, see `Optimizer`.
        weigh: See `Agent.weigh`; it sees the whole minibatch.
        replicas: The learners.
        parts: See `execute`.
    """
    modules = [module for part in parts if isinstance(part, nn.Module) for module in part.modules()]
    drops = any(getattr(m, "dropout", isinstance(m, nn.Dropout)) for m in modules)

    def shared(batch: Any) -> Terms:
        whole = weigh(batch)
        with replicas.own_draws(drops):
            terms = update(replicas.share(whole))
        return replicas.gather(terms, whole)

    return shared


def check_parts(parts: Mapping[str, object]) -> None:
    """Checks that the parts of an agent hold all that its optimizers train.

    Raises:
        ValueError: An optimizer trains a module that is not among the parts, or two optimizers
            train the same parameter: it is in the vector of the last of them, so the other one
            would change a vector that no network reads.
    """
    modules = [part for part in parts.values() if isinstance(part, nn.Module)]
    held = {id(parameter) for module in modules for parameter in module.parameters()}
    for name, part in parts.items():
        if not isinstance(part, Optimizer):
            continue
        if any(id(parameter) not in held for parameter in part.parameters):
            raise ValueError(
                f"{name} trains a module that is not in `parts`: no checkpoint would hold it"
            )
        if any(p.numel() and _memory(p) != _memory(part.flat) for p in part.parameters):
            raise ValueError(
                f"{name} shares parameters with another optimizer: give a module that both need "
                "to one of them"
            )


class Places:
    """Where modules and optimizers keep their tensors; `filled` replaces these for a while.

    Attributes:
        tensors: All of them, each once.
        bases: One tensor for each piece of memory, as large as the memory. Each of `tensors` is one
            of these or a view of one: parameters are views of the flat vector of their optimizer.
    """

    def __init__(self, parts: Iterable[object]) -> None:
        parts = list(parts)
        found = [place for part in parts for place in _places_of(part)]
        self._optimizers = [part for part in parts if isinstance(part, Optimizer)]
        distinct = {id(home[key]): home[key] for home, key in found}
        self.tensors: list[Tensor] = list(distinct.values())
        largest: dict[int, Tensor] = {}
        for tensor in self.tensors:
            base = largest.setdefault(_memory(tensor), tensor)
            if tensor.numel() > base.numel():
                largest[_memory(tensor)] = tensor
        self.bases = [_whole(tensor) for tensor in largest.values()]
        numbers = {memory: number for number, memory in enumerate(largest)}
        self._places = [(home, key, home[key], numbers[_memory(home[key])]) for home, key in found]

    @contextmanager
    def filled(self, tensors: Sequence[Tensor]) -> Iterator[None]:
        """Context in which the places hold `tensors`, given in the order of `bases`."""
        made: dict[int, Tensor] = {}
        for home, key, tensor, number in self._places:
            if id(tensor) not in made:
                made[id(tensor)] = _alike(tensor, self.bases[number], tensors[number])
            home[key] = made[id(tensor)]
        for optimizer in self._optimizers:
            optimizer.fused = False
        try:
            yield
        finally:
            for home, key, tensor, _ in self._places:
                home[key] = tensor
            for optimizer in self._optimizers:
                optimizer.fused = True


def _places_of(part: object) -> Iterator[tuple[Any, Any]]:
    """Yields each dict or list of a part that holds a tensor, with the key or index of it."""
    homes: list[dict[str, Any]] = []
    if isinstance(part, nn.Module):
        for module in part.modules():
            homes += [module._parameters, module._buffers, vars(module)]
    elif isinstance(part, Optimizer):
        homes.append(vars(part))
        yield from ((part.parameters, number) for number in range(len(part.parameters)))
        yield from ((part.decayed, number) for number in range(len(part.decayed)))
    for home in homes:
        yield from ((home, key) for key, value in home.items() if isinstance(value, Tensor))


def _memory(tensor: Tensor) -> int:
    """A number that is the same for tensors in the same piece of memory."""
    return tensor.untyped_storage().data_ptr() if tensor.numel() else id(tensor)


def _whole(tensor: Tensor) -> Tensor:
    """The tensor if it fills its memory, otherwise all of that memory as a vector."""
    count = tensor.untyped_storage().nbytes() // tensor.element_size()
    if tensor.numel() == count:
        return tensor
    return tensor.detach().as_strided((count,), (1,), 0)


def _alike(tensor: Tensor, base: Tensor, other: Tensor) -> Tensor:
    """The view of `other` that is as `tensor` is of `base`; it needs a gradient if that does."""
    if tensor is not base:
        begin = tensor.storage_offset()
        if tensor.is_contiguous() and base.is_contiguous():  # what a compiler handles best
            other = other.view(-1).narrow(0, begin, tensor.numel()).view(tensor.shape)
        else:
            other = other.as_strided(tensor.shape, tensor.stride(), begin)
    return other.detach().requires_grad_() if tensor.requires_grad else other
