"""The pool of Ray workers: one call to each at a time, and a new worker in place of one that fails.

    ask(group, "collect", ...) --> worker --> a reply: `wait` gives its result
                                          --> the environment raised: its columns open anew there
                                          --> the process died (kill -9, segfault, out of memory,
                                              its machine is gone): a new one, somewhere
                                          --> nothing in `ray.timeout_seconds` (a new worker: in
                                              `ray.start_timeout_seconds`): killed, a new one
                    the same call again <-----'

Ray's own restarts are off: a restarted actor would have lost its state, and nothing would say so.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError

from ...agents.policies.policy import Policy
from ...configs import Config
from ...core.errors import RunError
from .ray_faults import FETCHING_SECONDS, cause_of, shortage, worker_name
from .ray_worker import Reply, Worker

CLOSING_SECONDS = 3  # that environments have to close; then their workers are killed
INLINE_BYTES = 100_000  # Ray sends smaller arguments within the call
SIGNAL_SECONDS = 0.5  # by which SIGTERM may reach a worker before it reaches this process

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """A question that a worker has not answered."""

    group: int
    method: str
    args: tuple[Any, ...]
    deadline: float
    then: Call | None = None
    """The call that waits until a new worker has opened its columns."""


class WorkerPool:
    """N workers, one a group of columns.

    Args:
        cfg: The run's configuration.
        policy: Of the learner; the workers get copies.
        length: T of the rollouts.

    Attributes:
        actors: The handle of each group's worker, by group.
        generations: [N] how often each group was opened anew.
        restarts: How often workers were replaced or columns opened anew.
        restarting: Whether a fault is followed by a restart. Until the first rollout a fault ends
            the run: what fails at the start would fail again.
        learned: Whether a rollout was learned from. Until then a fault that repeats at the same
            place ends the run: there it would for ever.
    """

    def __init__(self, cfg: Config, policy: Policy, length: int) -> None:
        self.cfg = cfg
        self.generations = [0] * cfg.ray.workers
        self.restarts = 0
        self.restarting = self.learned = False
        self._first_fault = ""
        self._places: dict[int, int | None] = {}  # of each group's last fault, see `_recover`
        self._policy, self._length = copy.deepcopy(policy).to("cpu"), length
        self.actors = self._start_workers(range(cfg.ray.workers))
        self._calls: dict[Any, Call] = {}  # by the reference to its reply
        self._shared: tuple[np.ndarray, Any] | None = None  # weights on their way, and their object

    def ask(self, group: int, method: str, *args: Any, then: Call | None = None) -> None:
        """Calls `Worker.method(generation, *args)` of a group that has no call, `then` another."""
        _, seconds = self._limit(method)
        actor = self.actors[group]
        sent = [None if self._load(actor, argument) else argument for argument in args]
        reference = getattr(actor, method).remote(self.generations[group], *sent)
        self._calls[reference] = Call(group, method, args, time.monotonic() + seconds, then)

    def _load(self, actor: Any, argument: Any) -> bool:
        """Sends weights that are too large for a call before it, once for all workers.

        They become an object of Ray, and none may be left while this process waits: when all
        processes are told to end, Ray may end first, and then kills the owner of a lost object.
        """
        if not isinstance(argument, np.ndarray) or argument.nbytes < INLINE_BYTES:
            return False
        if self._shared is None or self._shared[0] is not argument:
            self._shared = argument, ray.put(argument)
        actor.load.remote(self._shared[1])
        return True

    def ask_all(self, method: str, *args: list[Any]) -> list[Reply]:
        """Asks every worker, with its element of each list; returns their replies."""
        for group, own in enumerate(zip(*args, strict=True) if args else [()] * len(self.actors)):
            self.ask(group, method, *own)
        found: dict[int, Reply] = {}
        while self._calls:
            found |= self.wait()
        return [found[group] for group in range(len(self.actors))]

    def wait(self) -> dict[int, Reply]:
        """Waits for at least one answer or fault; returns the replies that are there, by group.

        Raises:
            RunError: A fault, and no restart is left.
        """
        self._shared = None
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
                time.sleep(SIGNAL_SECONDS)
                self._recover(call, cause_of(error))
                continue
            if reply.failure is not None:
                self._recover(call, reply.failure, reply.steps, reply.trace)
            elif call.then is not None:
                self.ask(call.group, call.then.method, *call.then.args)
            else:
                replies[call.group] = reply
        now = time.monotonic()
        for reference, call in list(self._calls.items()):
            if call.deadline <= now:
                del self._calls[reference]
                late = "no answer in {}={:g}".format(*self._limit(call.method))
                self._recover(call, late + shortage(self.cfg.ray))
        return replies

    def close(self) -> None:
        """Closes the environments and ends the workers."""
        try:
            closing = [actor.close.remote() for actor in self.actors]
            ray.wait(closing, num_returns=len(closing), timeout=CLOSING_SECONDS)
            for actor in self.actors:
                ray.kill(actor)
        except RayError as error:  # Ray is gone already; this must not hide why
            _log.debug("%s", error)

    def _start_workers(self, groups: Iterable[int]) -> list[Any]:
        """New workers, each on the machine with the fewest."""
        # A cluster that has lost machines goes on: its workers then share processors.
        crowded = self.restarting and shortage(self.cfg.ray)
        actor = ray.remote(
            num_cpus=0 if crowded else self.cfg.ray.cpus_per_worker,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )(Worker)
        parts = ray.put(self.cfg), ray.put(self._policy), self._length
        return [actor.remote(*parts, group) for group in groups]

    def _limit(self, method: str) -> tuple[str, float]:
        """The setting that limits a call, and its seconds."""
        if method == "open":
            return "ray.start_timeout_seconds", self.cfg.ray.start_timeout_seconds
        return "ray.timeout_seconds", self.cfg.ray.timeout_seconds

    def _recover(self, call: Call, cause: str, place: int | None = None, trace: str = "") -> None:
        """Repeats a call with its columns opened anew, in a new worker if the old one is lost.

        Args:
            call: What failed.
            cause: Why.
            place: Steps of its columns when an environment raised; None: the worker is lost.
            trace: The worker's traceback.

        Raises:
            RunError: No restart is left, or none would help.
        """
        fault = f"{worker_name(self.cfg, call.group, self.generations[call.group])}: {cause}"
        self._first_fault = self._first_fault or fault
        why = self._end(call.group, place)
        if why is not None:
            error = RunError(fault + why)
            error.add_note(trace)
            raise error
        self._places[call.group] = place
        self.restarts += 1
        if self.restarts == 1:
            _log.warning("%s; it goes on with new episodes, ray/restarts counts", fault)
        self.generations[call.group] += 1
        if place is None:
            ray.kill(self.actors[call.group])
            (self.actors[call.group],) = self._start_workers([call.group])
            self.ask(call.group, "open", then=call.then or call)
        else:  # where the columns stood is of another generation: they open new episodes
            self.ask(call.group, call.method, *call.args, then=call.then)

    def _end(self, group: int, place: int | None) -> str | None:
        """Why a fault ends the run, besides its cause; None if a restart may help."""
        limit = self.cfg.ray.max_restarts
        if not self.restarting:
            return ""
        if not self.learned and self._places.get(group, -1) == place:
            return " (again at the same place, before anything was learned)"
        if self.restarts == limit:
            first = f"the first fault: {self._first_fault}"
            return f" (restarts left: none, ray.max_restarts={limit}; {first})"
        return None
