"""Files that are written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ...core.errors import Guard, RunError, shorten
from ...core.files import read_small


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Turns a failure of the file system into a RunError that names the path and the reason."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise RunError(f"{path}: {reason}") from error


@contextmanager
def strange(what: str) -> Iterator[None]:
    """Turns any error that a file's content causes into a RunError, except for out of memory."""
    try:
        with Guard(lambda: what, RunError):
            yield
    except RunError as error:
        if isinstance(error.__cause__, MemoryError):
            raise error.__cause__ from None
        raise RunError(shorten(error, 400)) from error


def write_text(path: Path, text: str) -> None:
    """Writes a small file, which replaces an existing one. Raises RunError."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """As `write_text`."""
    temporary = temporary_of(path)
    with disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            fsync(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        fsync(path.parent)


def temporary_of(path: Path) -> Path:
    """Where a file is written before it takes its place; a process that is killed leaves it."""
    return path.with_name(f".{path.name}.tmp")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a small JSON object. Raises RunError."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Returns a small JSON object, {} if there is no such file. Raises RunError."""
    with disk(path):
        try:
            text = read_small(path) if path.exists() else "{}"
        except ValueError as error:
            raise RunError(f"{path}: damaged, {error}") from error
    return json_object(text, path)


def json_object(text: str, path: Path) -> dict[str, Any]:
    """Returns the JSON object that `text` from the file `path` is. Raises RunError."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: damaged, not JSON ({shorten(error)})") from error
    if not isinstance(content, dict):
        raise RunError(f"{path}: damaged, not a JSON object")
    return content


def fsync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk; Windows opens no folders."""
    folder = path.is_dir()
    if folder and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)  # Windows asks for the right
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
