"""The pool of Ray workers: one call to each at a time, and another worker for one that fails.

    ask(group, "collect", ...) --> worker --> a reply: `wait` gives its result
                                          --> the environment raised: its columns open anew there
                                          --> the process died (kill -9, segfault, out of memory,
                                              its machine is gone): a new one, somewhere
                                          --> nothing in `ray.timeout_seconds`: killed, a new one
                    the same call again <-----'

Ray's own restarts are off: a restarted actor would have forgotten where it stands without a word.
"""

from __future__ import annotations

import copy
import logging
import textwrap
import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayError, RayTaskError

from ..agents.policies import Policy
from ..configs import Config
from ..envs.errors import one_line
from .files import RunError
from .ray_worker import Reply, Worker

CLOSING_SECONDS = 5  # that environments have to close; then their workers are killed
FETCHING_SECONDS = 60  # that a finished result may take from another machine

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """A question that a worker has not answered."""

    group: int
    method: str
    args: tuple[Any, ...]
    deadline: float


class Pool:
    """N workers, one a group of columns.

    Args:
        cfg: The run's configuration.
        policy: Of the learner; the workers get copies.
        length: T of the rollouts.

    Attributes:
        generations: [N] how often each group was opened anew.
        restarts: How often workers were replaced or columns opened anew.
        forgiving: Whether there are restarts; before, the first fault ends the run, for what fails
            at once fails again.
    """

    def __init__(self, cfg: Config, policy: Policy, length: int) -> None:
        self.cfg = cfg
        self.generations = [0] * cfg.ray.workers
        self.restarts = 0
        self.forgiving = False
        self._first_fault = ""
        self._parts = (ray.put(cfg), ray.put(copy.deepcopy(policy).to("cpu")), length)
        self._actors = [self._hire(group) for group in range(cfg.ray.workers)]
        self._calls: dict[Any, Call] = {}  # by the reference to its reply

    def ask(self, group: int, method: str, *args: Any) -> None:
        """Calls `Worker.method(generation, *args)` of a group that has no call."""
        deadline = time.monotonic() + self.cfg.ray.timeout_seconds
        method_ = getattr(self._actors[group], method)
        reference = method_.remote(self.generations[group], *args)
        self._calls[reference] = Call(group, method, args, deadline)

    def ask_all(self, method: str, *args: list[Any]) -> list[Any]:
        """Asks every worker, with its element of each list; returns their results."""
        for group, own in enumerate(zip(*args, strict=True) if args else [()] * len(self._actors)):
            self.ask(group, method, *own)
        found: dict[int, Reply] = {}
        while self._calls:
            found |= self.wait()
        return [found[group].result for group in range(len(self._actors))]

    def wait(self) -> dict[int, Reply]:
        """Waits for at least one answer or fault; returns the replies that are there, by group.

        Raises:
            RunError: A fault, and no restart is left.
        """
        left = min(call.deadline for call in self._calls.values()) - time.monotonic()
        ready, _ = ray.wait(list(self._calls), timeout=max(left, 0))
        if ready:  # and all others that are
            ready, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        replies = {}
        for reference in ready:
            call = self._calls.pop(reference)
            try:
                reply: Reply = ray.get(reference, timeout=FETCHING_SECONDS)
            except RayError as error:
                self._recover(call, _cause(error), replace=True)
                continue
            if reply.failure is None:
                replies[call.group] = reply
            else:
                self._recover(call, reply.failure, replace=False)
        now = time.monotonic()
        for reference, call in list(self._calls.items()):
            if call.deadline <= now:
                del self._calls[reference]
                late = f"no answer in ray.timeout_seconds={self.cfg.ray.timeout_seconds:g}"
                self._recover(call, late + self._shortage(), replace=True)
        return replies

    def close(self) -> None:
        """Closes the environments and ends the workers."""
        try:
            closing = [actor.close.remote() for actor in self._actors]
            ray.wait(closing, num_returns=len(closing), timeout=CLOSING_SECONDS)
            for actor in self._actors:
                ray.kill(actor)
        except RayError as error:  # nothing is left to be closed, and that must not hide why
            _log.debug("%s", error)

    def _hire(self, group: int) -> Any:
        """A new worker, on the machine with the fewest."""
        # A cluster that has lost machines, and has no room left, carries on with what it has.
        crowded = self.forgiving and self._shortage()
        actor = ray.remote(
            num_cpus=0 if crowded else self.cfg.ray.cpus_per_worker,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )(Worker)
        cfg, policy, length = self._parts
        return actor.remote(cfg, policy, length, group)

    def _recover(self, call: Call, cause: str, replace: bool) -> None:
        """Asks again, columns opened anew, in a new worker if this one cannot go on.

        Raises:
            RunError: No restart is left.
        """
        fault = f"{self._place(call.group)}: {cause}"
        if not self.forgiving:
            raise RunError(fault)
        self._first_fault = self._first_fault or fault
        limit = self.cfg.ray.max_restarts
        if self.restarts == limit:
            raise RunError(
                f"{fault} (restarts left: none, ray.max_restarts={limit}; "
                f"the first fault: {self._first_fault})"
            )
        self.restarts += 1
        if self.restarts == 1:
            _log.warning("%s; it goes on with new episodes, ray/restarts counts", fault)
        self.generations[call.group] += 1
        if replace:
            ray.kill(self._actors[call.group])
            self._actors[call.group] = self._hire(call.group)
        # What a worker restores has another generation; new episodes are all there is now.
        self.ask(call.group, call.method, *call.args)

    def _place(self, group: int) -> str:
        cfg = self.cfg
        size = cfg.num_envs // cfg.ray.workers
        columns = f"columns {group * size} to {group * size + size - 1}"
        generation = self.generations[group]
        return f"worker {group} ({columns}, {cfg.env.id}, seed {cfg.seed}, generation {generation})"

    def _shortage(self) -> str:
        """What to say if all workers have no room; otherwise nothing."""
        needed = self.cfg.ray.workers * self.cfg.ray.cpus_per_worker
        there = ray.cluster_resources().get("CPU", 0.0)
        if needed <= there:
            return ""
        return (
            f" (ray.workers={self.cfg.ray.workers} reserve {needed:g} processors, there are "
            f"{there:g}: lower ray.workers or ray.cpus_per_worker)"
        )


def _cause(error: RayError) -> str:
    """What happened, in one line."""
    if isinstance(error, RayTaskError):
        return one_line(error.cause) if isinstance(error.cause, Exception) else one_line(error)
    if isinstance(error, GetTimeoutError):
        return f"its result did not arrive in {FETCHING_SECONDS} seconds"
    what = "it ran out of memory" if isinstance(error, OutOfMemoryError) else "its process died"
    _, _, detail = str(error).partition("Worker exit detail: ")
    return f"{what} ({textwrap.shorten(detail or str(error), 120, placeholder=' ...')})"
