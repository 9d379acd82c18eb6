"""A process that steps a share of the columns; it ends when the process that started it does.

It imports no PyTorch, which would cost it two seconds and 200 MB.
"""

from __future__ import annotations

import ctypes
import logging
import os
import pickle
import select
import signal
import threading
import time
import traceback
import warnings
from dataclasses import dataclass, field
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

import cloudpickle
import numpy as np
from gymnasium.envs.registration import EnvSpec

from ...core.errors import EnvError, Guard
from ...core.memory import OutOfMemory
from ...core.secret_values import take
from ...core.tree import map_tree
from ..columns import OwnSpaces, make_sync
from ..config import EnvConfig
from ..observations import Space
from ..sync import SyncEnvs
from .shared_arrays import SharedArrays, shared_arrays

STEP = b""
"""The request to step. Another one is a pickled tuple: a method of `Worker` and its arguments."""
DONE = b""
"""The answer to a request where there is nothing to tell. Another one is a pickled `Reply`."""
ENDING_SECONDS = 5.0
"""Time that environments have to close, before their process is ended."""


@dataclass(frozen=True)
class Order:
    """What a process makes."""

    config: EnvConfig
    spec: EnvSpec
    seed: int
    float_mode: bytes
    """See the function: in another mode, equal steps may give other numbers."""
    log_level: int
    columns: range


@dataclass(frozen=True)
class Reply:
    """What a process answers."""

    result: Any = None
    failure: Exception | None = None
    """What the environment raised, in one line, with the traceback as its note."""
    lost: str | None = None
    """Why there is no answer."""
    said: list[logging.LogRecord | warnings.WarningMessage] = field(default_factory=list)
    """What was logged, and what was warned of."""


class Worker:
    """A share of the columns. Each method answers a request."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._envs: SyncEnvs | None = None
        self._arrays: SharedArrays | None = None

    @property
    def envs(self) -> SyncEnvs:
        """The environments."""
        assert self._envs is not None, "they are not made"
        return self._envs

    def make(self, pickled: bytes) -> tuple[OwnSpaces, Space, Space]:
        """Makes what an `Order` says; returns its own spaces, and those of its `Envs`."""
        place = "env.vectorization=async: another process cannot read the environment"
        with Guard(lambda: place, ValueError):
            order: Order = pickle.loads(pickled)
        set_float_mode(order.float_mode)
        logging.root.setLevel(order.log_level)
        take(order.config.kwargs, "env.kwargs")
        self._envs, own = make_sync(order.config, order.spec, order.seed, order.columns)
        return own, self.envs.observation_space, self.envs.action_space

    def share(self, first: int, num_envs: int, observation_space: Space, action: Space) -> None:
        """Opens the arrays of all environments, of which `first` is the first one here."""
        self.envs.observation_space = observation_space
        arrays = shared_arrays(self._memory, num_envs, observation_space, action)
        self._arrays = arrays.rows(slice(first, first + self.envs.num_envs))

    def reset(self) -> None:
        """See `Envs.reset`."""
        self._show(self.envs.reset())

    def step(self) -> None:
        """See `Envs.step`."""
        arrays = self._shared
        # A copy: an environment may keep its action, and the next one overwrites the array.
        obs, reward, terminated, truncated = self.envs.step(arrays.action.copy())
        self._show(obs)
        arrays.reward[:], arrays.terminated[:], arrays.truncated[:] = reward, terminated, truncated
        ended = terminated | truncated
        if ended.any():
            arrays.success[ended] = self.envs.successes()

    def snapshot(self) -> dict[str, Any]:
        """See `Envs.snapshot`."""
        return self.envs.snapshot()

    def restore(self, snapshot: dict[str, Any]) -> tuple[np.ndarray, int]:
        """See `Envs.restore`; also returns `Envs.others`."""
        restored = self.envs.restore(snapshot)
        self._show(self.envs.obs)
        return restored, self.envs.others

    def close(self) -> None:
        """Closes the environments."""
        if self._envs is not None:
            self._envs.close()
            self._envs = None

    @property
    def _shared(self) -> SharedArrays:
        assert self._arrays is not None, "they are not open"
        return self._arrays

    def _show(self, obs: Any) -> None:
        map_tree(np.copyto, self._shared.obs, obs)


def main(connection_file: int, memory: int) -> None:
    """Answers one request after the other, until the connection closes."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # No SIG_IGN, which programs that an environment starts would inherit.
        signal.signal(number, lambda *_: None)
    threading.Thread(target=_end_with, args=(connection_file,), daemon=True).start()
    said: SimpleQueue[Any] = SimpleQueue()
    logging.root.addHandler(QueueHandler(said))
    warnings.showwarning = lambda *parts: said.put(warnings.WarningMessage(*parts))
    worker, connection = Worker(memory), Connection(connection_file)
    try:
        while True:
            connection.send_bytes(_answer(worker, connection.recv_bytes(), said))
    except (EOFError, ConnectionError):
        worker.close()


def _answer(worker: Worker, request: bytes, said: SimpleQueue[Any]) -> bytes:
    name, *arguments = pickle.loads(request) if request != STEP else ("step",)
    result = failure = None
    try:
        result = getattr(worker, name)(*arguments)
    except (EnvError, ValueError, OutOfMemory) as error:
        kind = next(kind for kind in (EnvError, ValueError, OutOfMemory) if isinstance(error, kind))
        failure = kind(str(error))
        failure.add_note(traceback.format_exc())
    if result is None and failure is None and said.empty():
        return DONE
    reply = Reply(result, failure, said=[said.get() for _ in range(said.qsize())])
    return cloudpickle.dumps(reply)


def _end_with(connection_file: int) -> None:
    """Ends this process, whatever its environments do, once the other end is closed."""
    closed = select.poll()
    closed.register(connection_file, 0)
    closed.poll()
    time.sleep(ENDING_SECONDS)
    os._exit(1)


def float_mode() -> bytes:
    """How the processor rounds in this thread; PyTorch's `set_flush_denormal` changes it."""
    mode = ctypes.create_string_buffer(256)
    get = getattr(ctypes.CDLL(None), "fegetenv", None)
    return mode.raw if get is not None and get(mode) == 0 else b""


def set_float_mode(mode: bytes) -> None:
    """Rounds as in the thread that gave its `float_mode`."""
    if mode:
        ctypes.CDLL(None).fesetenv(ctypes.create_string_buffer(mode, len(mode)))
