"""Single environments in processes of their own: `SyncEnvs`, a share of the columns in each.

this process                                  process w of W
step()   actions ──────> shared memory
         a request ───────────────────────────> SyncEnvs.step: columns w B/W ... (w+1) B/W - 1
                         shared memory <─────── observations, rewards, ends
         waits for all <─────────────────────── an answer
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import time
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import cloudpickle
import numpy as np
from gymnasium.envs.registration import EnvSpec

from ...core.errors import EnvError, Guard
from ...core.memory import lower
from ...core.tree import Tree, map_tree
from ..config import EnvConfig
from ..regrouping import join, part_of
from ..vector import Envs, Step
from .process import Process
from .shared_arrays import SharedArrays, open_memory, shared_arrays
from .worker import ENDING_SECONDS, STEP, Order, Reply, float_mode

_shown: dict[Any, Any] = {}  # which warnings were shown, as Python keeps it for each module


class AsyncEnvs(Envs):
    """Single environments, stepped in processes, with the results of `SyncEnvs` bit for bit.

    Args:
        config: What to make; `processes` says in how many processes.
        spec: Of the environment.
        seed: Of the run.
        columns: Their numbers, counted over all workers.

    Attributes:
        own_spaces: See `columns.OwnSpaces`.

    Raises:
        ValueError: Such environments cannot be made, or not in another process.
        EnvError: A process died while they were made.
    """

    def __init__(self, config: EnvConfig, spec: EnvSpec, seed: int, columns: range) -> None:
        self.num_envs = len(columns)
        count = min(config.processes or cores(), self.num_envs)
        bounds = [part * self.num_envs // count for part in range(count + 1)]
        self._parts = [range(*pair) for pair in pairwise(bounds)]
        shares = [columns[part.start : part.stop] for part in self._parts]
        self._places = [f"{config.id}, {_named(share)}, run seed {seed}" for share in shares]
        common = config, spec, seed, float_mode(), logging.root.level
        place = f"env.id={config.id!r}: vectorization=async cannot send it to another process"
        with Guard(lambda: place, ValueError):
            orders = [cloudpickle.dumps(Order(*common, share)) for share in shares]
        self._phase = "start"
        self._steps = 0
        self._waiting = False  # an answer is to come; it stays so if the wait is broken off
        self._successes: list[float] = []
        self._memory: int | None = open_memory()
        self._arrays: SharedArrays | None = None
        self._processes: list[Process] = []
        try:
            self._start(orders, self._memory)
        except BaseException:
            self.close()
            raise

    def _start(self, orders: list[bytes], memory: int) -> None:
        for _ in orders:
            self._processes.append(Process(memory))
        self.own_spaces, *spaces = self._ask([_request("make", order) for order in orders])[0]
        self.observation_space, self.action_space = spaces
        with lower(f"num_envs={self.num_envs}"):
            self._arrays = shared_arrays(memory, self.num_envs, *spaces)
        self._ask([_request("share", p.start, self.num_envs, *spaces) for p in self._parts])

    def reset(self) -> Tree:
        """Opens a new episode in every column; returns the observations [B,*]."""
        self._phase, self._successes = "reset", []
        self._ask_all(_request("reset"))
        return self._look()

    def step(self, action: np.ndarray) -> Step:
        """Takes actions [B,*]; see `Envs.step`."""
        self._steps += 1
        self._phase = f"step {self._steps}"
        arrays = self._shared
        arrays.action[:] = action
        self._ask_all(STEP)
        obs, reward = self._look(), arrays.reward.copy()
        terminated, truncated = arrays.terminated.copy(), arrays.truncated.copy()
        ended = terminated | truncated
        if ended.any():
            self._successes += arrays.success[ended].tolist()
        return obs, reward, terminated, truncated

    def successes(self) -> list[float]:
        """Returns and clears the successes of the episodes that ended; see `Envs.successes`."""
        given, self._successes = self._successes, []
        return given

    def snapshot(self) -> dict[str, Any]:
        """That of `SyncEnvs`, which may go on from it, and the other way round."""
        self._phase = "snapshot"
        parts = self._ask_all(_request("snapshot"))
        return join(parts)

    def restore(self, snapshot: dict[str, Any]) -> np.ndarray:
        """Goes back to a snapshot; see `Envs.restore`."""
        assert len(snapshot["episode"]) == self.num_envs
        self._phase = "restore"
        found = self._ask([_request("restore", part_of(snapshot, part)) for part in self._parts])
        restored, others = zip(*found, strict=True)
        self.others = sum(others)
        self._look()
        return np.concatenate(restored)

    def close(self) -> None:
        """Closes every environment, and kills the processes that have not ended in time."""
        until = time.monotonic() + ENDING_SECONDS
        if not self._waiting:
            for process in self._processes:
                process.ask(_request("close"))
            for process in self._processes:
                _tell(process.last_answer(until).said)
        for process in self._processes:
            process.close()
        for process in self._processes:
            process.end(until)
        if self._memory is not None:
            os.close(self._memory)
        self._processes, self._memory, self._arrays = [], None, None

    @property
    def _shared(self) -> SharedArrays:
        assert self._arrays is not None, "they are closed"
        return self._arrays

    def _look(self) -> Tree:
        """The observations that the processes have written, as fresh arrays."""
        self.obs = map_tree(np.copy, self._shared.obs)
        return self.obs

    def _ask_all(self, request: bytes) -> list[Any]:
        return self._ask([request] * len(self._processes))

    def _ask(self, requests: Sequence[bytes]) -> list[Any]:
        """Sends each process its request, and returns their results; raises the first failure."""
        self._waiting = True
        for process, request in zip(self._processes, requests, strict=True):
            process.ask(request)
        replies: list[Reply] = [process.answer() for process in self._processes]
        self._waiting = False
        for place, reply in zip(self._places, replies, strict=True):
            _tell(reply.said)
            if reply.failure is not None:
                raise reply.failure
            if reply.lost is not None:
                raise EnvError(f"{place}, {self._phase}: {reply.lost}")
        return [reply.result for reply in replies]


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _named(columns: range) -> str:
    first, last = columns[0], columns[-1]
    return f"column {first}" if first == last else f"columns {first} to {last}"


def _request(*parts: Any) -> bytes:
    return pickle.dumps(parts)


def _tell(said: list[logging.LogRecord | warnings.WarningMessage]) -> None:
    """Logs here, and warns here, as the processes did."""
    for one in said:
        if isinstance(one, logging.LogRecord):
            logging.getLogger(one.name).handle(one)
        else:
            place = one.filename, one.lineno
            warnings.warn_explicit(one.message, one.category, *place, registry=_shown)
