"""Callbacks: code that is told of a run while it trains, and that may stop it.

    class StopAt(Callback):
        def on_evaluation(self, run, metrics):
            if metrics["evaluate/return"] >= 475:
                run.stop("reached 475")

    train("agent=ppo", callbacks=[StopAt()])

A run begins with on_start and, if others will follow, an evaluation at step 0. Then one turn of the
loop, in the order of the calls:

    source.next()  on_rollout  agent.learn()  on_update  on_log         where a line was due
                                    evaluate  on_play ...  on_evaluation  on_log  where one was due
                                    save      on_checkpoint               where one was due
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.errors import Guard, RunError
from ..core.rollout import Rollout
from .storage.run import Run
from .storage.run_folder import Status


class Callback:
    """Does nothing; a subclass overrides what it wants to know.

    A method may call `run.stop(reason)`: the run then ends after this turn of the loop, with a
    checkpoint and its final evaluation. What a method raises ends the run as failed.
    """

    def on_start(self, run: Run) -> None:
        """Training begins or, after `neuraxis resume`, goes on from `run.steps`."""

    def on_rollout(self, run: Run, rollout: Rollout[np.ndarray]) -> None:
        """A rollout was collected, as NumPy arrays; `run.steps` does not count it yet."""

    def on_update(self, run: Run, metrics: Mapping[str, torch.Tensor | float]) -> None:
        """The agent has learned from a rollout.

        Args:
            run: It counts the rollout now.
            metrics: What learning returned, as tensors on the agent's device: `float(value)`
                waits for the device.
        """

    def on_log(self, run: Run, row: Mapping[str, float]) -> None:
        """A line was written to metrics.jsonl: means since the line before, or an evaluation."""

    def on_play(self, run: Run, played: int, wanted: int) -> None:
        """An evaluation goes on: `played` of `wanted` episodes have ended. Told every few steps.

        Not of those in training with `eval.mode=worker`.
        """

    def on_evaluation(self, run: Run, metrics: Mapping[str, float]) -> None:
        """The newest weights were evaluated: `evaluate/return` and its like.

        With `eval.mode=worker` older ones: `on_log` is told next, with a row that has their steps.
        """

    def on_checkpoint(self, run: Run, path: Path) -> None:
        """A checkpoint was written into the folder `path`."""

    def on_end(self, run: Run, status: Status) -> None:
        """The run has ended, however: `run.summary` is what summary.json says."""


def checked(callbacks: Iterable[Callback]) -> list[Callback]:
    """Returns them as a list. Raises ValueError if one of them is no Callback."""
    if not isinstance(callbacks, Iterable):
        raise ValueError(f"callbacks: expected a list of callbacks, got {_kind(callbacks, '[{}]')}")
    found = list(callbacks)
    for place, callback in enumerate(found):
        if not isinstance(callback, Callback):
            raise ValueError(f"callbacks[{place}]: expected a Callback, got {_kind(callback)}")
    return found


def _kind(value: object, form: str = "{}") -> str:
    """What a value is; for a callback or its class also how to write it, in a list by `[{}]`."""
    cls = value if isinstance(value, type) else type(value)
    kind = f"the class {cls.__name__}" if cls is value else f"a {cls.__name__}"
    hint = f"; write {form.format(f'{cls.__name__}(...)')}" if issubclass(cls, Callback) else ""
    return kind + hint


class Callbacks:
    """Calls the same method of several callbacks, in their order.

    Args:
        callbacks: What is called.
        run: What they are told of.
    """

    def __init__(self, callbacks: Iterable[Callback], run: Run) -> None:
        self._callbacks = list(callbacks)
        self._run = run

    def __call__(self, method: str, *arguments: Any) -> None:
        """Calls `method(run, *arguments)` of each.

        Raises:
            RunError: A callback raised; names it and the cause. The rest is not called.
        """
        for callback in self._callbacks:
            self._call(callback, method, *arguments)

    def end(self, status: Status) -> None:
        """Calls `on_end` of each, even if another one raises, the last one first.

        Raises:
            RunError: As above.
        """
        with ExitStack() as stack:
            for callback in self._callbacks:
                stack.callback(self._call, callback, "on_end", status)

    def _call(self, callback: Callback, method: str, *arguments: Any) -> None:
        with Guard(lambda: f"callback {type(callback).__name__}.{method}", RunError):
            getattr(callback, method)(self._run, *arguments)
