"""Parts of an agent that are frozen for a while, or learn slower than others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..core.stateful import Stateful
from ..networks.backbone import Chain
from ..networks.depth import layers
from ..networks.transfer.patterns import matching
from .learning.optimizer import Optimizer
from .learning.target import TargetNetwork
from .learning.vector import Treatment, Vector
from .policies.critics import Critics
from .policies.normalize import Normalizer
from .setup import GradientConfig, Until

V = TypeVar("V")


class Freezing:
    """Freezes parts of an agent, thaws each in its turn, and sets the factors of their rates.

    Stage 0 is what is trained from the start; each time at which something thaws begins a stage.

    Args:
        config: The agent's.
        parts: All of its parts, see `Agent`.
        vectors: What trains their parameters.
        total_steps: Of the run.
        changed: Called when other parameters are trained than before.

    Attributes:
        stage: The one that has begun.

    Raises:
        ValueError: A pattern matches nothing that is trained, or would thaw after the end.
    """

    def __init__(
        self,
        config: GradientConfig,
        parts: Mapping[str, Stateful],
        vectors: Sequence[Vector],
        total_steps: int,
        changed: Callable[[], None],
    ) -> None:
        self._vectors, self._total, self._changed = vectors, total_steps, changed
        self._modules = {
            "" if name == "policy" else f"{name}.": part
            for name, part in parts.items()
            if isinstance(part, nn.Module) and not isinstance(part, TargetNetwork)
        }
        self._freezes = bool(config.freeze)
        self._thaws = sorted({until for until in config.freeze.values() if until})
        for pattern, until in config.freeze.items():
            if until is not None and self._step(until) >= total_steps:
                raise ValueError(
                    f"agent.freeze: {pattern}={until}: expected less than "
                    f"total_steps={total_steps}, or null for ever"
                )
        self._statistics: dict[Normalizer, float] = {}
        treatments = self._treatments(config)
        for vector in vectors:
            vector.arrange(treatments)
        for part in parts.values():
            if isinstance(part, TargetNetwork):
                part.align()
        self._reach(0)

    def thaw(self, steps: int) -> dict[str, Tensor]:
        """Thaws the parts that are due after so many steps; they are not frozen again.

        Returns:
            The metric of how many parameters are frozen, if any ever are.
        """
        due = sum(self._step(until) <= steps for until in self._thaws)
        self._go_on(max(due, self.stage))
        return {"train/frozen": torch.tensor(float(self._frozen()))} if self._freezes else {}

    def check_statistics(self) -> None:
        """Raises ValueError if statistics are frozen that are of no observation."""
        if any(normalizer.frozen and not normalizer.seen for normalizer in self._statistics):
            raise ValueError(
                "agent.freeze: normalizer.* is frozen before there are statistics; expected "
                "normalizer.*: 0 as its last pattern, or init.from=RUN and init.statistics=carry"
            )

    def state_dict(self) -> dict[str, Any]:
        """The stage."""
        return {"stage": self.stage}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` stood; the optimizers load their moments after it."""
        self._go_on(state["stage"])

    def _go_on(self, stage: int) -> None:
        if stage != self.stage:
            self._reach(stage)
            self._changed()

    def _reach(self, stage: int) -> None:
        self.stage = stage
        for vector in self._vectors:
            vector.reach(stage)
        for normalizer, thaws in self._statistics.items():
            normalizer.frozen = thaws > stage

    def notes(self, compiled: bool, rollout: int) -> Iterator[str]:
        """Notes for the start of a run.

        Args:
            compiled: Whether the update is compiled.
            rollout: Steps of a rollout without resets.
        """
        if self._freezes:
            count = sum(p.numel() for p in _parameters(self._vectors))
            line = f"agent.freeze: {self._frozen():,} of {count:,} parameters are frozen"
            if self._thaws:
                steps = " and ".join(f"{math.ceil(self._step(t)):,}" for t in self._thaws)
                line += f"; a thaw comes at {steps} steps"
                line += ", where the update is compiled again" if compiled else ""
                begin = (self._total - 1) // rollout * rollout
                if self._step(self._thaws[-1]) > begin:
                    line += f", but the last rollout begins at about {begin:,} steps"
                    line += ", and what thaws after that never learns"
            yield line

    def _step(self, until: float) -> float:
        return until * self._total if until < 1 else until

    def _frozen(self) -> int:
        return sum(p.numel() for p in _parameters(self._vectors) if not p.requires_grad)

    def _treatments(self, config: GradientConfig) -> dict[Tensor, Treatment]:
        """How each parameter is trained; notes which statistics are frozen, too."""
        named = self._named(self._vectors)
        rated = self._named([v for v in self._vectors if isinstance(v, Optimizer)])
        statistics = self._named_statistics()
        frozen = _last((*named, *statistics), config.freeze, "agent.freeze")
        factors = _last(rated, config.learning_rate_factors, "agent.learning_rate_factors")
        depths = self._depths()
        if config.layer_decay != 1 and depths.keys().isdisjoint(rated.values()):
            raise ValueError(
                f"agent.layer_decay={config.layer_decay:g}: agent={config.name} trains no layer "
                "below an output by a learning rate; expected 1"
            )
        for name in statistics.keys() & frozen.keys():
            stage, normalizer = self._stage(frozen[name]), statistics[name]
            before = self._statistics.get(normalizer, 0)
            self._statistics[normalizer] = max(before, math.inf if stage is None else stage)
        return {
            parameter: Treatment(
                self._stage(frozen.get(name, 0)),
                factors.get(name, 1.0) * config.layer_decay ** depths.get(parameter, 0),
            )
            for name, parameter in named.items()
        }

    def _stage(self, until: Until) -> int | None:
        return None if until is None else self._thaws.index(until) + 1 if until else 0

    def _named(self, vectors: Sequence[Vector]) -> dict[str, nn.Parameter]:
        """The parameters of some vectors by the names that patterns match."""
        own = {*_parameters(vectors)}
        return {
            prefix + name: parameter
            for prefix, module in self._modules.items()
            for name, parameter in module.named_parameters()
            if parameter in own
        }

    def _named_statistics(self) -> dict[str, Normalizer]:
        """The normalizers that have statistics, by the name of each of these."""
        return {
            f"{name}.{buffer}": module
            for name, module in self._modules[""].named_modules()
            if isinstance(module, Normalizer)
            for buffer, _ in module.named_buffers(recurse=False)
        }

    def _depths(self) -> dict[Tensor, int]:
        """For each parameter in a backbone, how many layers it is below the output layers."""
        found: dict[Tensor, int] = {}
        for module in self._modules.values():
            for stack in _stacks(module):
                below = [layer for part in stack for layer in layers(part)]
                for depth, layer in enumerate(reversed(below), start=1):
                    found |= dict.fromkeys(layer, depth)
        return found


def _parameters(vectors: Iterable[Vector]) -> Iterator[Tensor]:
    return (parameter for vector in vectors for parameter in vector.treatments)


def _stacks(module: nn.Module) -> list[tuple[nn.Module, ...]]:
    """The backbones of a module; those that follow one another are together."""
    if isinstance(module, Critics) and module.memories:
        return list(zip(module.memories, module.backbones, strict=True))
    return [(part,) for part in module.modules() if isinstance(part, Chain)]


def _last(names: Iterable[str], values: Mapping[str, V], key: str) -> dict[str, V]:
    """For each name that a pattern matches, the value of the last pattern that matches it."""
    names = list(names)
    found: dict[str, V] = {}
    for pattern, value in values.items():
        try:
            found |= dict.fromkeys(matching(names, [pattern]), value)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error
    return found
