"""How an agent updates its weights: the update, how it runs, what it trains, at which rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..core.stateful import Stateful
from ..networks.batch_norm import share_statistics
from ..networks.layers import decayed_parameters
from ..networks.weight_norm import followers
from .claims import Claims
from .freezing import Freezing
from .learning.execution.execute import (
    Execution,
    Update,
    check_parts,
    choose,
    execute,
    record,
    share,
)
from .learning.optimizer import Optimizer
from .learning.penalty import Penalty
from .learning.schedules import scheduled
from .learning.terms import Terms
from .learning.vector import Vector
from .policies.policy import is_recordable
from .setup import AgentConfig, GradientConfig, Setup

WORTH_RECORDING = 100  # rollouts: to record what is done once in each pays after about 75
Metrics = dict[str, Tensor]
"""Scalars by their names in metrics.jsonl."""


class Updates(Claims):
    """The part of an agent that updates weights; see `Agent`."""

    parts: dict[str, Stateful]
    """By name, everything that a checkpoint must hold and that `update` may change: the policy,
    other modules, optimizers, a replay."""
    notes: tuple[str, ...] = ()
    """What `neuraxis train` says of it at the start."""
    rollout_length: int
    """T of the rollouts that it learns from."""
    execution: Execution = "plain"
    """How `run_update` runs `update`."""
    run_update: Update
    """`update` as `execute` wrapped it; from a whole minibatch to the terms of its losses."""
    freezing: Freezing | None = None
    """What is frozen, or learns slower; None: nothing ever."""

    def __init__(self, config: AgentConfig, setup: Setup) -> None:
        self.name, self._base = config.name, config
        self.setup = setup
        self.device = setup.device
        self.steps = 0
        self.parts = {}

    def update(self, batch: Any) -> Terms:
        """Takes the steps of all optimizers for a minibatch; returns the terms of their losses.

        It may read the minibatch and the tensors of `parts`, and change the tensors of `parts` in
        place, but have no other effect: it may be recorded or compiled.

        Args:
            batch: What `weigh` returned, or this learner's share of it.
        """
        raise NotImplementedError

    def weigh(self, batch: Any) -> Any:
        """Computes what depends on the whole minibatch, before each learner takes its share of it.

        Args:
            batch: A minibatch, tree of [*, N, *] and scalars.

        Returns:
            The minibatch that `update` takes, for instance with the weights of its steps.
        """
        return batch

    def build_optimizer(self, trained: nn.Module, config: GradientConfig) -> Optimizer:
        """Builds the optimizer of a module from the settings that every agent has."""
        rms = config.optimizer == "rmsprop"
        return Optimizer(
            trained,
            learning_rate=config.learning_rate,
            rule=config.optimizer,
            max_grad_norm=config.max_grad_norm,
            eps=config.optimizer_eps,
            betas=(0.9, config.rmsprop_alpha) if rms else (config.adam_beta1, 0.999),
            weight_decay=config.weight_decay,
            penalty=Penalty(config.l1, config.l2),
            decayed=decayed_parameters(trained),
            followers=followers(trained),
            replicas=self.setup.replicas,
        )

    def execute(self, updates: float, reason: str | None = None) -> None:
        """Makes `run_update`: `update`, compiled if asked for or where that saves time.

        Call it once all `parts` are there.

        Args:
            updates: How many the run will take.
            reason: Why an update can be neither recorded nor compiled, a clause: it decides by
                numbers, in Python, what to do next. None: it can be both.

        Raises:
            ValueError: `compile=true` is impossible, `parts` lack a module that is trained, or see
                `Freezing`.
        """
        setup, parts, base = self.setup, self.parts.values(), self._base
        replicas = setup.replicas if self.optimizers else None  # gradients are what is shared
        check_parts(self.parts)
        if self.freezing is None and isinstance(base, GradientConfig) and base.treats_parts:
            whole = self.parts, self.vectors(), setup.total_steps
            self.freezing = Freezing(base, *whole, changed=self._wrap)
            if base.freeze:  # loaded before the optimizers
                self.parts = {"freezing": self.freezing, **self.parts}
        modules = [part for part in parts if isinstance(part, nn.Module)]
        if self.has_memory:
            reason = reason or "the network has memory"
        if not all(is_recordable(module) for module in modules):
            reason = "the network has dropout or batch normalisation"
        if replicas is not None:
            reason = f"several learners share it (learner.count={replicas.count})"
            share_statistics(modules, replicas.sum)
        self.execution = choose(setup.compile, updates, reason)
        self._wrap()

    def _wrap(self) -> None:
        parts, replicas = self.parts.values(), self.setup.replicas
        if replicas is not None and self.optimizers:
            self.run_update = share(self.update, self.weigh, replicas, parts)
        else:
            self.run_update = execute(
                lambda batch: self.update(self.weigh(batch)), parts, self.execution, self
            )

    def repeated(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that is called once a rollout, recorded if `run_update` is no plain call.

        Args:
            function: Of trees of tensors. It may read what `update` may read, and changes nothing.
        """
        columns = self.setup.rollout_columns or self.setup.num_envs
        rollouts = self.setup.total_steps / (self.rollout_length * columns)
        if self.execution == "plain" or rollouts < WORTH_RECORDING:
            return function
        return record(function, self.parts.values(), self)

    def thaw(self) -> Metrics:
        """Thaws what is due at this step, before anything is learned; says what is still frozen."""
        return {} if self.freezing is None else self.freezing.thaw(self.steps)

    def set_learning_rate(self, config: GradientConfig) -> None:
        """Sets the learning rate of all optimizers to that of the schedule at this step."""
        rate = scheduled(config.learning_rate, config.learning_rate_schedule, self.progress)
        for optimizer in self.optimizers.values():
            optimizer.rate.fill_(rate)

    @property
    def optimizers(self) -> dict[str, Optimizer]:
        """The optimizers among the parts."""
        parts = self.parts.items()
        return {name: part for name, part in parts if isinstance(part, Optimizer)}

    def vectors(self) -> list[Vector]:
        """All that trains parameters: the optimizers, unless a subclass has more."""
        return [*self.optimizers.values()]

    @property
    def progress(self) -> float:
        """Share of the run that is done, in [0, 1]."""
        return min(self.steps / self.setup.total_steps, 1.0)

    @property
    def has_memory(self) -> bool:
        """Whether the network has memory."""
        raise NotImplementedError
