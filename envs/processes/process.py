"""A worker's process, as seen from the one that started it."""

from __future__ import annotations

import pickle
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection

from ...core.python_process import start_main
from .worker import DONE, ENDING_SECONDS, Reply

SILENT_SECONDS = 600.0
"""The longest wait for an answer."""
_NOTHING = Reply()


class Process:
    """A new Python, and the connection with the `Worker` in it.

    Args:
        memory: Descriptor of the file with the shared arrays.
    """

    def __init__(self, memory: int) -> None:
        ours, theirs = socket.socketpair()
        seconds = struct.pack("ll", int(SILENT_SECONDS), int(SILENT_SECONDS % 1 * 1e6))
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
        files = theirs.fileno(), memory
        warned = [f"-W{option}" for option in sys.warnoptions]
        with theirs:
            self._process = start_main("neuraxis.envs.processes.worker", files, warned)
        self._connection = Connection(ours.detach())

    def ask(self, request: bytes) -> None:
        """Sends a request: see `worker.STEP`."""
        with suppress(ConnectionError):  # it is gone; `answer` will say so
            self._connection.send_bytes(request)

    def answer(self) -> Reply:
        """The answer to the last request; if there is none, `lost` says why."""
        try:
            found = self._connection.recv_bytes()
        except BlockingIOError:
            return Reply(lost=f"its process gave no answer in {SILENT_SECONDS:g} seconds")
        except (EOFError, OSError):
            return Reply(lost=self._end())
        return pickle.loads(found) if found != DONE else _NOTHING

    def _end(self) -> str:
        """How the process ended."""
        try:
            code = self._process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            return "its process closed the connection"
        if code >= 0:
            return f"its process ended with exit code {code}"
        more = " (the system does that where memory runs out)" if -code == signal.SIGKILL else ""
        return f"its process was ended by {signal.Signals(-code).name}{more}"

    def last_answer(self, until: float) -> Reply:
        """As `answer`, but waits until then, by `time.monotonic`; nothing if there is none."""
        arrived = self._connection.poll(max(0.0, until - time.monotonic()))
        return self.answer() if arrived else _NOTHING

    def close(self) -> None:
        """Closes the connection; a process that waits for a request then ends."""
        self._connection.close()

    def end(self, until: float) -> None:
        """Waits for the end of a process whose connection is closed, and kills it then."""
        try:
            self._process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
