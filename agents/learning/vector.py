"""Parameters as views of one vector, of which a part may be frozen for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from .penalty import NO_PENALTY, Penalty
from .terms import Terms

M = TypeVar("M", bound=nn.Module)


class Treatment(NamedTuple):
    """How a parameter is trained."""

    stage: int | None = 0
    """How many thaws there are before it is trained; None: it stays frozen."""
    factor: float = 1.0
    """On the learning rate."""


class Vector:
    """The parameters of a module that require a gradient, as views of one vector.

    Those that are frozen require none meanwhile. The vector has all parameters in the order in
    which they thaw: what is trained is its beginning, and nothing moves in memory when more of it
    is. Those that never thaw are not in it.

    Args:
        trained: The module, on its device.
        penalty: L1 and L2 of the parameters `decayed` only.
        decayed: Parameters that decay.
        followers: Called after each step: what follows weights that have changed.

    Attributes:
        treatments: Of each parameter.
        order: Names of the parameters in `whole`.
        whole: All of them that are trained at some time, [Q].
        names: Of the parameters that are trained now.
        parameters: These.
        flat: The beginning of `whole` that they fill, [P].
        decayed: Those of them that decay.
        penalised: See `Penalty.marks`.
    """

    def __init__(
        self,
        trained: nn.Module,
        penalty: Penalty = NO_PENALTY,
        decayed: Iterable[Tensor] = (),
        followers: Iterable[Callable[[], None]] = (),
    ) -> None:
        self.trained = trained
        self.penalty = penalty
        self.followers = list(followers)
        self.stage = 0
        self._named = {name: p for name, p in trained.named_parameters() if p.requires_grad}
        self._decaying = {*decayed}
        self.treatments: dict[Tensor, Treatment] = {p: Treatment() for p in self._named.values()}
        self.order: list[str] = []
        self.whole = self._lay_out()
        self._choose()

    def arrange(self, treatments: Mapping[Tensor, Treatment]) -> None:
        """Freezes what thaws later, and sets the factors; before the first step.

        Args:
            treatments: Of all parameters, those of other modules may be among them.
        """
        self.treatments = {p: treatments.get(p, Treatment()) for p in self._named.values()}
        self.whole = self._lay_out()
        self._choose()

    def reach(self, stage: int) -> None:
        """Trains all parameters up to a stage."""
        self.stage = stage
        self._choose()

    def set_train_mode(self, training: bool) -> None:
        """Puts the module into train mode, except for its frozen parts, or back into eval mode.

        It does what `train()` did when the stage began. Neither `train()` nor `__setattr__` of the
        modules is called: that took a tenth of the update of a small LSTM.
        """
        for module in self._with_mode:
            vars(module)["training"] = training

    def follow(self) -> None:
        """Calls the followers."""
        for follow in self.followers:
            follow()

    @torch.no_grad()
    def penalties(self) -> Terms:
        """Of the present weights `l1` and `l2`, see `Penalty.sums`; none without a penalty."""
        if self.penalised is None:
            return {}
        return self.penalty.sums(self.flat, self.penalised)

    def split(self, vector: Tensor) -> Iterator[Tensor]:
        """The parts [*] of a vector [P] that belong to the parameters."""
        parts = vector.split([parameter.numel() for parameter in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            yield part.view(parameter.shape)

    def _lay_out(self) -> Tensor:
        stages = {name: self.treatments[p].stage for name, p in self._named.items()}
        for name, parameter in self._named.items():
            if stages[name] is None:
                parameter.data = parameter.data.clone()  # out of the vector in which it was
        self.order = sorted(
            (name for name, stage in stages.items() if stage is not None),
            key=lambda name: stages[name] or 0,
        )
        parameters = [self._named[name] for name in self.order]
        return flatten(parameters) if parameters else self.whole[:0].clone()

    def _choose(self) -> None:
        """Finds what is trained in this stage."""
        for parameter, (stage, _) in self.treatments.items():
            parameter.requires_grad_(stage is not None and stage <= self.stage)
        self.names = [name for name in self.order if self._named[name].requires_grad]
        self.parameters: list[Tensor] = [self._named[name] for name in self.names]
        count = sum(parameter.numel() for parameter in self.parameters)
        self.flat = self.whole if count == len(self.whole) else self.whole[:count]
        self.decayed = [p for p in self.parameters if p in self._decaying]
        self.penalised = self.penalty.marks(self.parameters, self.decayed)
        modules = in_train_mode(self.trained).modules()
        self._with_mode = [module for module in modules if module.training]
        self.trained.eval()


def frozen_parts(module: nn.Module) -> Iterator[nn.Module]:
    """Yields the largest parts of a module whose parameters are all frozen."""
    parameters = list(module.parameters())
    if not parameters:
        return
    if not any(parameter.requires_grad for parameter in parameters):
        yield module
        return
    for child in module.children():
        yield from frozen_parts(child)


def in_train_mode(module: M) -> M:
    """Puts a module into train mode, except for its frozen parts, and returns it."""
    module.train()
    for part in frozen_parts(module):
        part.eval()
    return module


def flatten(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Makes parameters views of one new vector [P], which it returns."""
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    parts = flat.split([parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.data = part.view(parameter.shape)
    return flat
