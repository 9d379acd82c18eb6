"""Two machines in one: Ray nodes in network namespaces of their own, joined by a cable."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from driver import ENDING_SECONDS

RAY = str(Path(sys.executable).parent / "ray")
ADDRESSES = "10.77.0.1", "10.77.0.2"
PORT = 6379


def obstacle() -> str | None:
    """Why there can be no such machines here; None if there can be."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "network namespaces need root and iproute2's `ip`"
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True)
    return "the kernel gives no network namespace" if tried.returncode else None


@contextmanager
def machines(folder: Path, env: dict[str, str]) -> Iterator[Machines]:
    """Builds the two nodes and takes them down.

    Args:
        folder: For Ray's files; a short path, for that of a socket has 107 characters at most.
        env: Of the nodes, with Ray's token.
    """
    both = Machines()
    try:
        both.build(folder, env)
        yield both
    finally:
        both.raze()


class Machines:
    """Two nodes of two CPUs each; the first has the cluster's head and runs the driver."""

    address = f"{ADDRESSES[0]}:{PORT}"

    def __init__(self) -> None:
        self.names = [f"drill{os.getpid()}{side}" for side in "ab"]

    def at(self, number: int) -> tuple[str, ...]:
        """What makes a command run on a machine."""
        return ("ip", "netns", "exec", self.names[number])

    def lose(self, number: int) -> None:
        """The cable is pulled, then all processes end: nobody gets to say that it ends."""
        _ip("-n", self.names[number], "link", "set", "cable", "down")
        self._kill(number)

    def build(self, folder: Path, env: dict[str, str]) -> None:
        """Joins two namespaces and starts a node in each."""
        for name in self.names:
            _ip("netns", "add", name)
        first, second = self.names
        end = ("type", "veth", "peer", "name", "cable", "netns", second)
        _ip("link", "add", "cable", "netns", first, *end)
        for name, address in zip(self.names, ADDRESSES, strict=True):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "set", "cable", "up")
        options = ("--num-cpus=2", "--object-store-memory=200000000", "--disable-usage-stats")
        head = ("--head", f"--port={PORT}", "--include-dashboard=false")
        head += (f"--temp-dir={folder}",)
        for number, role in enumerate((head, (f"--address={self.address}",))):
            node = f"--node-ip-address={ADDRESSES[number]}"
            command = (*self.at(number), RAY, "start", node, *role, *options)
            subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)

    def raze(self) -> None:
        """Ends what runs in the namespaces, and these; they may be there in part."""
        for number, name in enumerate(self.names):
            self._kill(number)
            until = time.monotonic() + ENDING_SECONDS
            while self._processes(number) and time.monotonic() < until:
                time.sleep(0.1)
            subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL)

    def _kill(self, number: int) -> None:
        for pid in self._processes(number):
            os.kill(pid, signal.SIGKILL)

    def _processes(self, number: int) -> list[int]:
        found = subprocess.run(
            ["ip", "netns", "pids", self.names[number]], capture_output=True, text=True
        )
        return [int(pid) for pid in found.stdout.split()]


def _ip(*words: str) -> None:
    subprocess.run(("ip", *words), check=True)
