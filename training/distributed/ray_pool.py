"""The pool of Ray workers: one call to each at a time, and a new worker in place of one that fails.

    ask(group, "collect", ...) --> worker --> a reply: `wait` gives its result
                                          --> the environment raised: its columns open anew there
                                          --> the process died (kill -9, segfault, out of memory,
                                              its machine is gone): a new one, somewhere else
                                          --> nothing in `ray.timeout_seconds` (a new worker: in
                                              `ray.start_timeout_seconds`): killed, a new one
                    the same call again <-----'

Ray's own restarts are off: a restarted actor would have lost its state, and nothing would say so.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError

from ...agents.policies.policy import Policy
from ...configs import Config
from ...core.errors import RunError
from .ray_faults import FETCHING_SECONDS, Call, Fault, cause_of, limit, place, shortage, worker_name
from .ray_placement import Placement
from .ray_worker import Reply
from .worker_logs import WorkerLogs

TRIES = 2  # in a row, to go on where columns stood: a new worker may be put on a machine that goes
INLINE_BYTES = 100_000  # Ray sends smaller arguments within the call
SIGNAL_SECONDS = 0.5  # by which SIGTERM may reach a worker before it reaches this process

_log = logging.getLogger(__name__)


class WorkerPool:
    """N workers, one a group of columns.

    Args:
        cfg: The run's configuration.
        policy: Of the learner; the workers get copies.
        length: T of the rollouts.
        logs: Get what the workers print.

    Attributes:
        placement: The workers' processes.
        stood: [N] where the columns of each group stood when its worker last answered; None: not
            known, as in async mode.
        generations: [N] how often each group was opened anew.
        restarts: How often workers were replaced or columns opened anew.
        restarting: Whether a fault is followed by a restart. Until the first rollout a fault ends
            the run: what fails at the start would fail again.
        learned: Whether a rollout was learned from. Until then a fault that repeats at the same
            place ends the run: there it would for ever.
    """

    def __init__(self, cfg: Config, policy: Policy, length: int, logs: WorkerLogs) -> None:
        self.cfg, self._logs = cfg, logs
        self.generations = [0] * cfg.ray.workers
        self.restarts = 0
        self.restarting = self.learned = False
        self._first_fault = ""
        self._places: dict[int, int | str] = {}  # of each group's last fault
        self._heard = False  # whether any worker has answered
        self._deaths = [0] * cfg.ray.workers  # faults of each group since its last reply
        self.stood: list[dict[str, Any] | None] = [None] * cfg.ray.workers
        self.placement = Placement(cfg, policy, length)
        self._calls: dict[Any, Call] = {}  # by the reference to its reply
        self._shared: tuple[np.ndarray, Any] | None = None  # weights on their way, and their object

    def ask(self, group: int, method: str, *args: Any) -> None:
        """Calls `Worker.method(generation, *args)` of a group that has no call.

        If the group's worker has room of its own now, its columns go there first.
        """
        if not self.placement.relieve(group):
            self._ask(group, method, *args)
            return
        if self.stood[group] is None:
            self.generations[group] += 1
        self._ask(group, "open", self.stood[group], then=Call(group, method, args))

    def _ask(self, group: int, method: str, *args: Any, then: Call | None = None) -> None:
        """Calls `Worker.method(generation, *args)` of a group that has no call, `then` another."""
        _, seconds = limit(self.cfg.ray, method)
        actor = self.placement.actors[group]
        sent = [None if self._load(actor, argument) else argument for argument in args]
        if method == "open":
            sent.insert(0, self.placement.told(group))
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
        groups = range(len(self.generations))
        for group in groups:
            self._ask(group, method, *(arguments[group] for arguments in args))
        found: dict[int, Reply] = {}
        while self._calls:
            found |= self.wait()
        return [found[group] for group in groups]

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
                self._recover(call, Fault(cause_of(error)))
                continue
            self._heard = True
            self._logs.add(call.group, reply.printed)
            if reply.failure is not None:
                self._recover(call, Fault(reply.failure, reply.steps, reply.trace))
            elif call.then is not None:
                self._ask(call.group, call.then.method, *call.then.args)
            else:
                replies[call.group] = reply
                self.stood[call.group] = reply.columns
                self._deaths[call.group] = 0
        now = time.monotonic()
        for reference, call in list(self._calls.items()):
            if call.deadline <= now:
                del self._calls[reference]
                cause = "no answer in {}={:g}".format(*limit(self.cfg.ray, call.method))
                self._recover(call, Fault(cause + shortage(self.cfg.ray), timed_out=True))
        return replies

    def close(self) -> None:
        """Closes the environments and ends the workers."""
        self.placement.close()
        for group in range(len(self.generations)):
            self._logs.end(group, {})

    def _recover(self, call: Call, fault: Fault) -> None:
        """Repeats a call, in a new worker if the old one is lost.

        The columns of a worker that has died go on where they stood; others open new episodes.

        Raises:
            RunError: No restart is left, or none would help.
        """
        group = call.group
        if fault.steps is None:
            self._logs.end(group, self.placement.files(group))
        name = worker_name(self.cfg, group, self.generations[group])
        said = f"{name}: {fault.cause}{self._logs.hint(group)}"
        self._first_fault = self._first_fault or said
        if (why := self._end(call, fault)) is not None:
            error = RunError(said + why)
            error.add_note(fault.trace + self._logs.early(group))
            raise error
        self._places[group] = place(call, fault)
        self.restarts += 1
        self._deaths[group] += 1
        no_room = fault.timed_out and call.method == "open"
        died = fault.steps is None and not fault.timed_out
        known = self.stood[group] is not None and self._deaths[group] <= TRIES
        new = self.restarting and not ((died or no_room) and known)
        if new:
            self.stood[group] = None
            self.generations[group] += 1
        if self.restarts == 1:
            how = " with new episodes" if new else ""
            _log.warning("%s; it goes on%s, ray/restarts counts", said, how)
        if fault.steps is None:
            self.placement.replace(group, no_room)
            self._ask(group, "open", self.stood[group], then=call.then or call)
        else:
            args = () if call.method == "open" else call.args
            self._ask(group, call.method, *args, then=call.then)

    def _end(self, call: Call, fault: Fault) -> str | None:
        """Why a fault ends the run, besides its cause; None if a restart may help."""
        most = self.cfg.ray.max_restarts
        if not self.restarting:
            room = self._heard and fault.timed_out and shortage(self.cfg.ray)
            return None if room and not self.placement.shares(call.group) else ""
        if not self.learned and self._places.get(call.group) == place(call, fault):
            return " (again at the same place, before anything was learned)"
        if self.restarts == most:
            first = f"the first fault: {self._first_fault}"
            return f" (restarts left: none, ray.max_restarts={most}; {first})"
        return None
