"""What Ray workers print, in the run's folder.

worker                                        driver
a call prints into two files of Ray
Reply(printed=printed_since(read)) ---------> WorkerLogs.add --> RUN/logs/worker_G.log
it dies, and prints why                       WorkerLogs.end reads the rest, if the files are
                                              on this machine
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

MOST_BYTES = 2**16
"""The newest of what was printed in a call, that are kept."""
FILE_BYTES = 2**20
"""Above which a worker's log becomes its old one; the old one of before is lost."""
_RAYS_BYTES = 2**24  # above which a file of Ray is emptied, once it was read
_RAYS_MARKS = re.compile(rb"^:(job_id|actor_name|task_name):.*\n", re.MULTILINE)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Printed:
    """What a worker has printed since it was asked before."""

    text: bytes = b""
    """Its output, then its errors: the newest MOST_BYTES of each."""
    read: Mapping[str, int] = field(default_factory=dict)
    """Bytes of each of its files that were read so far."""


def output_files() -> dict[str, int]:
    """The files that this process prints into, of which nothing was read; none but on Linux."""
    found: dict[str, int] = {}
    for descriptor in (1, 2):
        with suppress(OSError):
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            if os.path.isfile(path):  # a pipe if Ray rotates its logs
                found[path] = 0
    return found


def printed_since(read: Mapping[str, int]) -> Printed:
    """What was printed into these files after so many bytes. A file that is gone has no more."""
    parts, now = [], dict(read)
    for path, begin in read.items():
        with suppress(OSError), open(path, "rb") as file:
            now[path] = file.seek(0, os.SEEK_END)
            skipped = max(now[path] - begin - MOST_BYTES, 0)
            file.seek(begin + skipped)
            if skipped:
                parts.append(b"[neuraxis: %d bytes are left out here]\n" % skipped)
            parts.append(_RAYS_MARKS.sub(b"", file.read(now[path] - begin - skipped)))
    return Printed(b"".join(parts), now)


def own_output(read: Mapping[str, int]) -> Printed:
    """As `printed_since`, of the files of this process, which do not grow without end."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # ValueError: an environment has closed it
            stream.flush()
    new = printed_since(read)
    sizes = dict(new.read)
    for path, size in sizes.items():
        if size > _RAYS_BYTES:
            with suppress(OSError):
                os.truncate(path, 0)
                sizes[path] = 0
    return Printed(new.text, sizes)


class WorkerLogs:
    """A log for each group of columns that has printed something; on the disk once it is opened."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._early: dict[int, bytes] = defaultdict(bytes)
        self._read: dict[int, Mapping[str, int]] = {}

    def open(self, folder: Path) -> None:
        """Keeps the logs in a folder, which is made when there is something to keep."""
        self._folder = folder
        for group, text in self._early.items():
            self._write(group, text)
        self._early.clear()

    def add(self, group: int, printed: Printed) -> None:
        """Appends what a worker sent."""
        self._read[group] = printed.read
        self._write(group, printed.text)

    def end(self, group: int, files: Mapping[str, int]) -> None:
        """Appends what a worker that has ended did not send any more.

        Args:
            group: Whose worker.
            files: That it prints into, with 0: it may not have sent anything.
        """
        read = {**files, **self._read.pop(group, {})}
        self._write(group, printed_since(read).text)

    def hint(self, group: int) -> str:
        """Where to read what a group's workers have printed; an empty text if that is nowhere."""
        file = None if self._folder is None else self._file(self._folder, group)
        return f"; it has printed {file}" if file is not None and file.exists() else ""

    def early(self, group: int) -> str:
        """What was printed while there is no folder."""
        return self._early[group].decode(errors="replace")

    def _write(self, group: int, text: bytes) -> None:
        if self._folder is None:
            self._early[group] = (self._early[group] + text)[-MOST_BYTES:]
        elif text:
            file = self._file(self._folder, group)
            try:
                file.parent.mkdir(exist_ok=True)
                if file.exists() and file.stat().st_size + len(text) > FILE_BYTES:
                    file.replace(file.with_suffix(".old.log"))
                with file.open("ab") as log:
                    log.write(text)
            except OSError as error:
                self._folder = None
                _log.warning("%s: %s; what workers print is not kept", file, error.strerror)

    @staticmethod
    def _file(folder: Path, group: int) -> Path:
        return folder / f"worker_{group}.log"
