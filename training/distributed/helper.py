"""A process that works for the run's own one, and answers its requests one after the other.

    the run's process                    the module's `main`, see `helper_process.answer`
    Helper(MODULE, ..., *setup)  ------> open(pickled setup)
    ask("play", ...)             ------> play(...)
    ready(), answer()            <------ what it returned, or why it failed

It ends when the run's process does, in whatever way.
"""

from __future__ import annotations

import signal
import subprocess
from multiprocessing import Pipe
from typing import Any

import cloudpickle

from ...core.errors import EnvError, Guard
from ...core.python_process import start_main

CLOSING_SECONDS = 3.0
"""That its environments have to close; then it is killed."""
_POLL_SECONDS = 1.0


class Helper:
    """The process, and the one request that it works at.

    Args:
        module: What it runs: a module with `main(descriptor)`.
        setting: What asks for it, such as `eval.mode=worker`.
        work: What it does, such as `plays evaluations`.
        advice: What to do when it has ended by itself.
        setup: What its method `open` gets, pickled.

    Attributes:
        process: The process.
        opened: What `open` returned.

    Raises:
        ValueError: The setup cannot go to another process; or `open` raised it.
        EnvError: `open` raised it, or the process has ended.
    """

    def __init__(self, module: str, setting: str, work: str, advice: str, *setup: Any) -> None:
        what = f"{setting}: the environment or the policy cannot go to another process"
        with Guard(lambda: what, ValueError):
            pickled = cloudpickle.dumps(setup)
        self._work, self._advice = work, advice
        self._connection, theirs = Pipe()
        with theirs:
            self.process = start_main(module, [theirs.fileno()])
        try:
            self.ask("open", pickled)
            self.opened = self.answer()
        except BaseException:
            self.close()
            raise

    def ask(self, method: str, *arguments: Any) -> None:
        """Sends a request; the last one must be answered. Raises EnvError if nobody is there."""
        try:
            self._connection.send((method, *arguments))
        except OSError:
            raise self._death() from None

    def ready(self, seconds: float = 0.0) -> bool:
        """Whether `answer` needs not wait, now or within so many seconds."""
        return self._connection.poll(seconds) or self.process.poll() is not None

    def answer(self) -> Any:
        """The answer to the last request; waits for it.

        Raises:
            EnvError, RunError, ValueError, MemoryError: What the method raised.
            EnvError: The process has ended.
        """
        while not self._connection.poll(_POLL_SECONDS):
            if self.process.poll() is not None:  # a process of its environment holds the pipe
                raise self._death()
        try:
            reply = self._connection.recv()
        except (EOFError, OSError):
            raise self._death() from None
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        """Ends the process; what it works at is broken off."""
        self._connection.close()
        try:
            self.process.wait(CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _death(self) -> EnvError:
        """What to raise when the process has ended by itself."""
        self.close()
        code = self.process.returncode
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        return EnvError(f"the process that {self._work} has ended ({how}); {self._advice}")
