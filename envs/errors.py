"""What other people's code raises, told in one line."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType

from gymnasium.error import DependencyNotInstalled

_log = logging.getLogger(__name__)

EXTRAS = {
    "ale_py": "atari",
    "cv2": "atari",
    "opencv": "atari",
    "minigrid": "minigrid",
    "mujoco": "mujoco",
    "box2d": "box2d",
    "moviepy": "video",
    "pygame": "video",
}
"""Which extra of neuraxis installs what, by a word of the import error."""


class EnvError(RuntimeError):
    """An environment raised: the message names it, its column, seed, phase and the cause."""


class Guard:
    """Context manager that turns any exception of user code into one line.

    Args:
        where: asked for the place ("Foo-v0, column 3, seed 7, step") when something is raised.
        raises: ValueError while environments are made, EnvError while they run.
    """

    def __init__(
        self, where: Callable[[], str], raises: type[EnvError] | type[ValueError] = EnvError
    ) -> None:
        self._where = where
        self._raises = raises

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, EnvError):
            raise self._raises(f"{self._where()}: {one_line(error)}{_hint(error)}") from error


def close(closing: Callable[[], None], where: str) -> None:
    """Closes an environment; its failure is only logged: it must not hide an earlier one."""
    try:
        with Guard(lambda: f"{where}, close"):
            closing()
    except EnvError as error:
        _log.warning("%s", error)


def one_line(error: BaseException) -> str:
    """Class and message of an exception, without line breaks."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")


def _hint(error: Exception) -> str:
    if not isinstance(error, ImportError | DependencyNotInstalled):
        return ""
    words = str(error).lower()
    extra = next((EXTRAS[word] for word in EXTRAS if word in words), None)
    return f"; pip install 'neuraxis[{extra}]'" if extra else ""
