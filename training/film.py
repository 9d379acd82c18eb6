"""The film of an episode."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..core.errors import EnvError
from ..core.files import expanded
from .storage.atomic_files import disk


@contextmanager
def filming(video: str | Path | None) -> Iterator[str | None]:
    """Gives `envs.make` a folder for its videos, and moves the first episode's to `video`."""
    if video is None:
        yield None
        return
    target = expanded(video)
    with disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=".video-", dir=target.parent)
    with folder:
        films = Path(folder.name, "films")  # gymnasium warns of a folder that exists
        yield str(films)
        film = next(films.glob("*episode-0.mp4"), None)
        if film is None:
            raise EnvError(f"{target}: no film was written; the warning above has the cause")
        with disk(target):
            shutil.move(film, target)
