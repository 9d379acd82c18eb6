"""The processes of the Ray workers: one a group, on the machines that there are.

A worker reserves its processors. Where there are too few, because machines were lost or have not
come yet, it shares those of the others; a second one, which reserves, waits in Ray's queue (which
tells an autoscaler what to add) and takes the place of the first when it has started:

    machine lost   --> replace: a worker that shares     + one that waits for room
    machine joins  --> relieve: the one that waited has started; the one that shared is killed
"""

from __future__ import annotations

import copy
import logging
from typing import Any

import ray
from ray.exceptions import RayError

from ...agents.policies.policy import Policy
from ...configs import Config
from .ray_faults import FETCHING_SECONDS, shortage
from .ray_worker import Worker

CLOSING_SECONDS = 3  # that environments have to close; then their workers are killed

_log = logging.getLogger(__name__)


class Placement:
    """Starts and replaces workers.

    Args:
        cfg: The run's configuration.
        policy: Of the learner; the workers get copies.
        length: T of the rollouts.

    Attributes:
        actors: The handle of each group's worker, by group.
    """

    def __init__(self, cfg: Config, policy: Policy, length: int) -> None:
        self.cfg = cfg
        self._policy, self._length = copy.deepcopy(policy).to("cpu"), length
        self._files: dict[Any, Any] = {}  # by worker: the reference to the files it prints into
        # by group: a worker that waits for room, and the reference that is there once it started
        self._waiting: dict[int, tuple[Any, Any]] = {}
        self.actors = self._start(*range(cfg.ray.workers))

    def _start(self, *groups: int, shares: bool = False) -> list[Any]:
        """New workers, each on the machine with the fewest."""
        actor = ray.remote(
            num_cpus=0 if shares else self.cfg.ray.cpus_per_worker,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )(Worker)
        parts = ray.put(self.cfg), ray.put(self._policy), self._length
        started: list[Any] = [actor.remote(*parts, group) for group in groups]
        self._files |= {worker: worker.files.remote() for worker in started}
        return started

    def shares(self, group: int) -> bool:
        """Whether its worker has no processors of its own."""
        return group in self._waiting

    def told(self, group: int) -> Any:
        """The reference to the files that a worker prints into, see `Worker.files`."""
        return self._files[self.actors[group]]

    def files(self, group: int) -> dict[str, int]:
        """The files that a worker prints into; none if it has not started."""
        try:
            return ray.get(self.told(group), timeout=0)
        except RayError:
            return {}

    def replace(self, group: int, no_room: bool) -> None:
        """Kills a worker and starts another, which shares processors if there are too few.

        Args:
            group: Whose worker.
            no_room: Whether there was no room for it, as far as one can tell.
        """
        ray.kill(self.actors[group])
        if no_room or shortage(self.cfg.ray):
            (self.actors[group],) = self._start(group, shares=True)
            if not self._waiting:
                _log.warning(
                    "there are too few processors for ray.workers=%d: worker %d, or more of them, "
                    "share those of the others until machines join",
                    *(self.cfg.ray.workers, group),
                )
            if group not in self._waiting:
                self._wait_for_room(group)
        elif group in self._waiting:
            self.actors[group], _ = self._waiting.pop(group)
        else:
            (self.actors[group],) = self._start(group)

    def _wait_for_room(self, group: int) -> None:
        (actor,) = self._start(group)
        self._waiting[group] = actor, actor.__ray_ready__.remote()

    def relieve(self, group: int) -> bool:
        """Puts the worker that waited for room in the place of the one that shares it.

        Returns:
            Whether it did: whether there is one, and it has started.
        """
        if group not in self._waiting:
            return False
        actor, started = self._waiting[group]
        if not ray.wait([started], timeout=0)[0]:
            return False
        try:
            ray.get(started, timeout=FETCHING_SECONDS)
        except RayError:  # its machine has gone again
            self._wait_for_room(group)
            return False
        del self._waiting[group]
        ray.kill(self.actors[group])
        self.actors[group] = actor
        if not self._waiting:
            _log.warning("all ray.workers=%d have processors of their own", self.cfg.ray.workers)
        return True

    def close(self) -> None:
        """Closes the environments and ends the workers."""
        try:
            closing = [actor.close.remote() for actor in self.actors]
            ray.wait(closing, num_returns=len(closing), timeout=CLOSING_SECONDS)
            for actor in [*self.actors, *(actor for actor, _ in self._waiting.values())]:
                ray.kill(actor)
        except RayError as error:  # Ray is gone already; this must not hide why
            _log.debug("%s", error)
