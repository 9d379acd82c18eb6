"""A person's files: paths as people write them, small files, and keys that nobody else may read."""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

MOST_BYTES = 1_000_000
"""The size limit of a small file, such as settings or a summary; usual ones have some thousands."""


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with `~` as the home folder: Python, and shells after a `=`, leave it as it is."""
    return Path(os.path.expanduser(path))


def read_small(path: Path) -> str:
    """The text of a file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is longer than `MOST_BYTES`, or is not UTF-8.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"longer than {MOST_BYTES:,} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None


def private_key(path: Path) -> str:
    """The text of a key file; a missing one is made, with a random text that nobody else may read.

    Raises:
        OSError: It cannot be written or read.
    """
    if path.exists():
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        return path.read_text()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, whole = tempfile.mkstemp(dir=path.parent)  # private
    try:
        with open(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        with suppress(FileExistsError):  # another process has just made one, which all share
            os.link(whole, path)
    finally:
        os.unlink(whole)
    return path.read_text()
