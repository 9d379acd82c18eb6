"""How an episode is seen, and its film."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ..core.errors import EnvError, RunError
from ..core.files import expanded
from .storage.atomic_files import disk

ENDINGS = ".mp4", ".gif"
"""Of the files that a film can be written to."""
GIF = "fps=min(25\\,source_fps),split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=none"
"""How ffmpeg makes one: at most 25 frames a second, and 256 colours that are its own."""


def check_ending(video: Path, name: str = "video") -> None:
    """Raises ValueError, which begins with `name`, if a film cannot be written to such a file."""
    if video.suffix.lower() not in ENDINGS:
        raise ValueError(f"{name} {video}: expected a file that ends in {' or '.join(ENDINGS)}")


class View(NamedTuple):
    """How the first environment of an evaluation is seen; by default not at all."""

    video: str | Path | None = None
    """File for its first episode; see `ENDINGS`."""
    window: bool = False
    """Shows all episodes in a window, one after the other."""
    values: bool = False
    """Draws what the policy computes beside the pictures."""

    @property
    def drawn(self) -> bool:
        """Whether it is seen at all."""
        return self.window or self.video is not None


UNSEEN = View()


@contextmanager
def filming(video: str | Path | None) -> Iterator[str | None]:
    """Gives `envs.make` a folder for its videos, and moves the first episode's to `video`.

    Raises:
        ValueError: `video` has none of the `ENDINGS`.
    """
    if video is None:
        yield None
        return
    target = expanded(video)
    check_ending(target)
    with disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=".video-", dir=target.parent)
    with folder:
        films = Path(folder.name, "films")  # gymnasium warns of a folder that exists
        yield str(films)
        film = next(films.glob("*episode-0.mp4"), None)
        if film is None:
            raise EnvError(f"{target}: no film was written; the warning above has the cause")
        if target.suffix.lower() == ".gif":
            film = write_gif(film, Path(folder.name, "film.gif"))
        with disk(target):
            shutil.move(film, target)


def write_gif(film: Path, gif: Path) -> Path:
    """Writes an MP4 file again as a GIF; returns where. Raises RunError."""
    from moviepy.config import FFMPEG_BINARY  # an extra

    # As MP4 whatever is in it: other forms may name further files, and a run may be of others.
    words = ["-v", "error", "-f", "mp4", "-i", str(film), "-vf", GIF, str(gif)]
    with disk(gif):
        done = subprocess.run([FFMPEG_BINARY, *words], capture_output=True, text=True)
    if done.returncode:
        raise RunError(f"{film}: ffmpeg: {' '.join(done.stderr.split())}")
    return gif
