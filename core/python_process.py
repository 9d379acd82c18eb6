"""A new Python beside this one, for work that must not stop it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence


def start_main(module: str, files: Sequence[int], options: Sequence[str] = ()) -> subprocess.Popen:
    """Starts a process that calls `main(*files)` of a module. Needs POSIX.

    It is neither a fork, which copies threads and locks, nor a process of multiprocessing, which
    runs the program's main file again. Its modules are searched for where this process finds them.

    Args:
        module: Its dotted name.
        files: Descriptors, which the process inherits.
        options: Of Python.
    """
    count = len(files) + 1
    code = (
        f"import sys; files = sys.argv[1:{count}]; sys.path[:] = sys.argv[{count}:]; "
        f"from {module} import main; main(*map(int, files))"
    )
    return subprocess.Popen(
        [sys.executable, *options, "-c", code, *map(str, files), *sys.path],
        stdin=subprocess.DEVNULL,
        pass_fds=files,
        start_new_session=True,  # Ctrl-C is for the process that started it
    )
