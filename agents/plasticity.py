"""Plasticity: networks that learn for long from a replay get fresh weights from time to time.

Resets: "The primacy bias in deep reinforcement learning" by Nikishin et al. (2022). Shrink and
perturb: "On warm-starting neural network training" by Ash and Adams (2020), with fresh weights as
the noise, as D'Oro et al. (2023, SR-SAC) have it.

The replay stays, so that what was learned is soon learned again. Moments of the optimizers begin
anew, and target networks become copies. What is frozen stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from ..core.stateful import Stateful
from ..networks.backbone import Chain
from .learning.optimizer import Optimizer
from .learning.target import TargetNetwork


class PlasticityConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Settings of the methods that keep networks plastic."""

    reset_interval: int = Field(default=0, ge=0)
    """Environment steps after which `reset` gets fresh weights, again and again; 0: never."""
    reset: Literal["heads", "all"] = "heads"
    """heads: the layers after the backbones; all: the backbones as well."""
    shrink_interval: int = Field(default=0, ge=0)
    """Environment steps after which all weights shrink and are perturbed; 0: never."""
    shrink: float = Field(default=0.8, gt=0, lt=1)
    """Share of the weights that stays then; the rest is fresh weights."""

    def check(self) -> None:
        """Raises ValueError for a setting whose interval is 0."""
        for name, key in (("reset", "reset_interval"), ("shrink", "shrink_interval")):
            value = getattr(self, name)
            if value != type(self).model_fields[name].default and not getattr(self, key):
                raise ValueError(
                    f"agent.plasticity.{name}={value}: expected agent.plasticity.{key} above 0 "
                    "with it"
                )


class Plasticity:
    """Renews the networks of an agent when that is due, which depends on the steps alone.

    Args:
        config: Its settings, with an interval above 0.
        begin: Steps at which learning begins; nothing is renewed before.
        total_steps: Of the run, at whose end nothing is renewed.
        parts: Of the agent.
        makers: By the names of the optimizers, what makes a fresh network like the trained one.

    Raises:
        ValueError: An interval is longer than the run.
    """

    def __init__(
        self,
        config: PlasticityConfig,
        begin: int,
        total_steps: int,
        parts: Mapping[str, Stateful],
        makers: Mapping[str, Callable[[], nn.Module]],
    ) -> None:
        self.config, self.begin, self.total_steps = config, begin, total_steps
        self._parts, self._makers = parts, makers
        for key in ("reset_interval", "shrink_interval"):
            interval = getattr(config, key)
            if interval and not self._times(interval, total_steps):
                raise ValueError(
                    f"agent.plasticity.{key}={interval}: is never due between "
                    f"agent.learning_starts={begin} and total_steps={total_steps}; expected less"
                )

    def renew(self, before: int, steps: int) -> dict[str, Tensor]:
        """Does what has become due.

        Args:
            before: Environment steps before the newest rollout.
            steps: After it.

        Returns:
            Metrics: how often each was done.
        """
        cfg, metrics = self.config, dict[str, Tensor]()
        if cfg.reset_interval:
            times = self._times(cfg.reset_interval, steps)
            if times > self._times(cfg.reset_interval, before):
                self._renew(cfg.reset == "heads", 0.0)
            metrics["train/resets"] = torch.tensor(float(times))
        if cfg.shrink_interval:
            times = self._times(cfg.shrink_interval, steps)
            if times > self._times(cfg.shrink_interval, before):
                self._renew(False, cfg.shrink)
            metrics["train/shrinks"] = torch.tensor(float(times))
        return metrics

    def _times(self, interval: int, steps: int) -> int:
        """How often an interval has passed since learning began."""
        return max(0, min(steps, self.total_steps - 1) // interval - self.begin // interval)

    def _renew(self, heads: bool, kept: float) -> None:
        for name, make in self._makers.items():
            optimizer = self._parts[name]
            assert isinstance(optimizer, Optimizer)
            mix(optimizer.trained, make(), set(optimizer.names), heads, kept)
            optimizer.forget()
        for part in self._parts.values():
            if isinstance(part, TargetNetwork):
                part.copy()


@torch.no_grad()
def mix(trained: nn.Module, fresh: nn.Module, names: set[str], heads: bool, kept: float) -> None:
    """Mixes the weights of a network with those of a fresh one like it.

    Args:
        trained: The network.
        fresh: The other one.
        names: Of the parameters that may change.
        heads: Only those of `names` that are in no backbone.
        kept: Share of the weights that stays. With 0 the layers get fresh statistics as well.
    """
    if heads:
        chains = [path for path, module in trained.named_modules() if isinstance(module, Chain)]
        names = {name for name in names if not any(name.startswith(f"{c}.") for c in chains)}
    others = dict(fresh.named_parameters())
    for name, parameter in trained.named_parameters():
        if name in names:
            parameter.lerp_(others[name].to(parameter), 1 - kept)
    if kept:
        return
    statistics = dict(fresh.named_buffers())
    layers = {name.rpartition(".")[0] for name in names}
    for name, buffer in trained.named_buffers():
        if any(name.startswith(f"{layer}.") for layer in layers):
            buffer.copy_(statistics[name])
