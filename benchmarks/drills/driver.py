"""A run of `neuraxis` as the drills see it: its process, all that this started, and its folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from neuraxis.training.storage.stored_run import read_rows

NEURAXIS = str(Path(sys.executable).parent / "neuraxis")
SECONDS = 900.0  # after which a run counts as hung
TERM_SECONDS = 10.0  # that a process has after SIGTERM, until it is often killed
ENDING_SECONDS = 20.0  # that processes have to end after their driver
AGENT_SECONDS = 90.0  # that two agents of Ray's own have, if the driver was killed


class Failed(Exception):
    """What a repeat did not keep to."""


@dataclass
class Training:
    """A `neuraxis` process, and all that it has started."""

    folder: Path
    words: tuple[str, ...]
    env: dict[str, str]
    machine: tuple[str, ...] = ()
    started: float = field(default_factory=time.monotonic)
    family: dict[psutil.Process, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen([*self.machine, NEURAXIS, *self.words], env=self.env)

    def look(self) -> list[psutil.Process]:
        """The workers that are at work; takes note of every process."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        found = []
        for child in children:
            try:
                self.family[child] = name = child.name()
            except psutil.NoSuchProcess:
                continue
            if name.startswith("ray::Worker"):
                found.append(child)
        return found

    def running(self) -> bool:
        """Whether it still runs; takes note of its processes. Raises Failed if it hangs."""
        self.look()
        if self.process.poll() is not None:
            return False
        if time.monotonic() > self.started + SECONDS:
            self.process.kill()
            raise Failed(f"it hung for {SECONDS:g} s")
        time.sleep(0.05)
        return True

    def until(self, done: Callable[[], bool]) -> None:
        """Waits until something is so. Raises Failed if the run ends or hangs before."""
        while not done():
            if not self.running():
                raise Failed(f"it ended with exit code {self.process.returncode}, too early")

    def processes(self) -> list[psutil.Process]:
        """It and all that it has started."""
        self.look()
        return [psutil.Process(self.process.pid), *filter(psutil.Process.is_running, self.family)]

    def end_soon(self, expected: int) -> float:
        """As `end`, after SIGTERM; returns the seconds. Raises Failed if they are too many."""
        begin = time.monotonic()
        self.end(expected)
        seconds = time.monotonic() - begin
        if seconds > TERM_SECONDS:
            raise Failed(f"it took {seconds:.1f} s to end")
        return seconds

    def end(self, expected: int = 0) -> None:
        """Waits for the end. Raises Failed if it is another one."""
        while self.running():
            pass
        if self.process.returncode != expected:
            raise Failed(f"exit code {self.process.returncode} instead of {expected}")

    def alone(self) -> None:
        """Raises Failed if a process is left."""
        agents = {p for p, name in self.family.items() if name.endswith("Agent")}
        _, left = psutil.wait_procs(self.family.keys() - agents, timeout=ENDING_SECONDS)
        _, late = psutil.wait_procs(agents, timeout=AGENT_SECONDS)
        if left or late:
            names = sorted(self.family[process] for process in [*left, *late])
            raise Failed(f"left behind: {', '.join(names)}")

    def steps(self) -> int:
        """Of the last line of metrics.jsonl."""
        rows = read_rows(self.folder)
        return rows[-1]["steps"] if rows else 0


def comparable(folder: Path) -> list[dict[str, Any]]:
    """The lines without what depends on clocks and faults."""
    hidden = ("time/", "ray/")
    return [{k: v for k, v in row.items() if not k.startswith(hidden)} for row in read_rows(folder)]


def through_zip(folder: Path) -> None:
    """Puts what comes out of a zip file in the folder's place: it has no links and no locks."""
    archive = shutil.make_archive(str(folder), "zip", folder)
    shutil.rmtree(folder)
    shutil.unpack_archive(archive, folder)
    if any(path.is_symlink() for path in folder.rglob("*")):
        raise Failed("a link is left")


def restarts(folder: Path, at_least: int) -> int:
    """How many there were. Raises Failed if they were too few: that was no drill."""
    found = round(max(row.get("ray/restarts", 0) for row in read_rows(folder)))
    if found < at_least:
        raise Failed(f"{found} restarts, expected at least {at_least}")
    return found
