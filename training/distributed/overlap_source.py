"""Rollouts from a process that collects while this one learns: `overlap=true`.

    loop                                     overlap_process
     next()     <----- rollout k ----------  LocalSource.next(), by the weights of k - 1 updates
                ------ newest weights ---->  rollout k + 1: by those of k updates
     learn from rollout k                     :
     publish: k + 1 updates                   :

A rollout is asked for when the one before is taken, and never earlier. So each is one update late
but the first, whatever the speed of the two; nothing is thrown away, and no queue grows.
"""

from __future__ import annotations

import copy
import time
from collections import Counter
from typing import Any

import numpy as np

from ...agents.policies.policy import Policy
from ...configs import Config
from ...core.frames import unpacked
from ...core.rollout import Rollout
from .helper import Helper
from .overlap_process import Reply
from .packed_weights import pack

_MODULE = "neuraxis.training.distributed.overlap_process"
_ADVICE = "`neuraxis resume` goes on from the last checkpoint, if there is one"


class OverlapSource:
    """Collectors in one other process; see `Source`.

    Args:
        cfg: The run's configuration.
        policy: Of the learner; the process gets a copy.
        length: T of the rollouts.

    Raises:
        ValueError: The environment cannot be made, or cannot go to another process.
        EnvError: It cannot be reset, or the process has ended.
    """

    def __init__(self, cfg: Config, policy: Policy, length: int) -> None:
        own = copy.deepcopy(policy).to("cpu")
        setup = "overlap=true", "collects rollouts", _ADVICE, cfg, own, length
        self.helper = Helper(_MODULE, *setup)
        self.version = self._lag = 0
        self.env_seconds = 0.0
        self._under_way = False
        self._columns: dict[str, Any] = self.helper.opened  # before the rollout that is under way
        self.copy(policy)
        self._acting = {"version": self.version, "weights": self._weights}  # in that rollout
        self._note()

    def next(self) -> Rollout[np.ndarray]:
        """The next rollout of all columns, in NumPy.

        Raises:
            EnvError: An environment raised, or the process has ended.
            MemoryError: There is too little memory.
        """
        if not self._under_way:
            self._ask()
        begin = time.perf_counter()
        reply: Reply = self.helper.answer()
        self.env_seconds += (time.perf_counter() - begin) * reply.env_share
        self._columns = reply.columns
        self._lag = self.version - reply.rollout.version
        self._acting = {"version": self.version, "weights": self._weights}
        self._ask()
        return unpacked(reply.rollout)

    def _ask(self) -> None:
        """Begins the next rollout."""
        self._under_way = True
        self.helper.ask("collect", self._acting["version"], self._acting["weights"])

    def publish(self, policy: Policy) -> None:
        """Lets the rollout after the one that is under way act with the newest weights."""
        self.copy(policy)
        self.version += 1
        self._note()

    def copy(self, policy: Policy) -> None:
        """Takes over the weights of `policy`, without counting a new version."""
        self._weights = pack(policy)

    def metrics(self) -> dict[str, float]:
        """The lag of the last rollout, in updates."""
        return {"ray/policy_lag": self._lag}

    def state_dict(self) -> dict[str, Any]:
        """See `Source.state_dict`; with the weights that act in the rollout under way."""
        return self._published

    def load_state_dict(self, state: dict[str, Any]) -> Counter[str]:
        """See `Source.load_state_dict`; the rollout that was under way will be collected again."""
        assert not self._under_way, "a rollout is under way"
        self.helper.ask("load", {name: part for name, part in state.items() if name != "acting"})
        self._columns, reopened = self.helper.answer()
        self.version, self._acting = state["version"], state["acting"]
        self._note()
        return reopened

    def _note(self) -> None:
        """Takes note of what a checkpoint holds, now that the newest weights are those of now."""
        self._published = {**self._columns, "version": self.version, "acting": self._acting}

    def close(self) -> None:
        """Ends the process; the rollout that is under way is broken off."""
        self.helper.close()
