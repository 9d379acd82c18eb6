"""Errors: those that neuraxis raises, and what other people's code raises, told in one line."""

from __future__ import annotations

import difflib
import importlib.util
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType

from .secret_values import redacted

_log = logging.getLogger(__name__)

EXTRAS = {
    "ray": "ray",
    "wandb": "wandb",
    "matplotlib": "plots",
    "scipy": "plots",
    "jinja2": "plots",
    "plotext": "plots",
    "plotly": "plots",
    "stable_baselines3": "sb3",
    "sb3_contrib": "sb3",
    "optuna": "optuna",
    "ale_py": "atari",
    "cv2": "atari",
    "opencv": "atari",
    "minari": "offline",
    "h5py": "offline",
    "minatar": "minatar",
    "minigrid": "minigrid",
    "mujoco": "mujoco",
    "box2d": "box2d",
    "PIL": "video",
    "moviepy": "video",
    "pygame": "video",
    "tensorboard": "tensorboard",
    "prometheus_client": "prometheus",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
}
"""The extra of neuraxis that installs a package, by a word of the import error."""


LIBRARIES = {"neuraxis", "gymnasium", "numpy", "torch", "cloudpickle"} | sys.stdlib_module_names
"""Top-level modules whose code is not the person's own, wherever they lie."""
_INSTALLED = re.compile(r"[/\\](site|dist)-packages[/\\]")


class EnvError(RuntimeError):
    """An environment raised: the message names it, its column, seed, phase and the cause."""


class RunError(RuntimeError):
    """A run cannot go on, or its folder cannot be read or written; the message is one line."""


class Guard:
    """Context manager that turns any exception of user code into one line, with its file and line.

    It also turns `sys.exit()`, at which Python would end without a message.

    Args:
        where: called when something is raised; returns the place ("Foo-v0, column 3, step").
        raises: ValueError while environments are made, EnvError while they run, RunError for
            callbacks. EnvError and RunError, which are one line already, pass as they are.
    """

    def __init__(self, where: Callable[[], str], raises: type[Exception] = EnvError) -> None:
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
        if error is None:  # as after most steps
            return
        raised = isinstance(error, Exception | SystemExit)
        if raised and not isinstance(error, EnvError | RunError):
            what = f"{one_line(error)}{_own_line(trace)}{_hint(error, self._raises)}"
            raise self._raises(f"{self._where()}: {what}") from error


def installed(package: str) -> bool:
    """Whether a package can be imported; it is not imported. A mere folder of its name is none."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


def require(purpose: str, *packages: str) -> None:
    """Refuses what an extra of neuraxis is needed for, if that is not installed.

    Args:
        purpose: What needs the packages; it opens the message.
        packages: Keys of `EXTRAS`.

    Raises:
        ValueError: One of them is missing; says how to install it.
    """
    for package in packages:
        if not installed(package):
            raise ValueError(
                f"{purpose}: {package} is not installed; pip install 'neuraxis[{EXTRAS[package]}]'"
            )


def close(closing: Callable[[], None], where: str) -> None:
    """Closes an environment; its failure is only logged: it must not hide an earlier one."""
    try:
        with Guard(lambda: f"{where}, close"):
            closing()
    except EnvError as error:
        _log.warning("%s", error)


def one_line(error: BaseException) -> str:
    """Class and message of an exception, without line breaks and secrets."""
    return redacted(f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": "))


def shorten(value: object, length: int = 100) -> str:
    """The text of a value, in one line of at most `length` characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= length else f"{text[: length - 4]} ..."


def nearest(name: str, candidates: Iterable[str], likeness: float = 0.6) -> str:
    """Returns `; did you mean X?` for the candidate most like the name, or an empty string."""
    return did_you_mean(similar(name, candidates, 1, likeness))


def similar(
    name: str, candidates: Iterable[str], most: int = 1, likeness: float = 0.6
) -> list[str]:
    """Returns the candidates that look like a name, the most similar first; case is ignored.

    Args:
        name: What was asked for.
        candidates: What there is.
        most: How many to return at most.
        likeness: The least that is similar enough, in (0, 1]: the ratio of `difflib`.
    """
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(name.lower(), by_lower, most, likeness)
    return [by_lower[match] for match in found]


def did_you_mean(names: Sequence[str]) -> str:
    """Returns `; did you mean A, B?`, or an empty string if there are no names."""
    return f"; did you mean {', '.join(names)}?" if names else ""


def listed(names: Iterable[str], length: int = 300) -> str:
    """Joins names as `a, b, c`, up to about `length` characters, and says how many are left."""
    rest = list(names)
    shown = rest.pop(0) if rest else ""
    while rest and len(shown) + len(rest[0]) < length:
        shown += f", {rest.pop(0)}"
    return f"{shown}, and {len(rest)} more" if rest else shown


def _own_line(trace: TracebackType | None) -> str:
    """The last line of the person's own code in a traceback: ` (my_env.py:42)`, or no text.

    A line of an installed package counts only if there is no other one.
    """
    own = installed = ""
    for frame, line in traceback.walk_tb(trace):
        if str(frame.f_globals.get("__name__")).partition(".")[0] in LIBRARIES:
            continue
        file = frame.f_code.co_filename
        place = f" ({file.removeprefix(os.getcwd() + os.sep)}:{line})"
        own, installed = (own, place) if _INSTALLED.search(file) else (place, installed)
    return own or installed


def _hint(error: BaseException, raises: type[Exception]) -> str:
    from gymnasium.error import DependencyNotInstalled  # here: `neuraxis list` starts without it

    if isinstance(error, ModuleNotFoundError):
        missing = str(error.name).partition(".")[0].lower()
    elif isinstance(error, DependencyNotInstalled):
        missing = str(error).lower()
    elif raises is EnvError and re.search(r"values to unpack \(expected 5\b", str(error)):
        return "; step must return observation, reward, terminated, truncated, info"
    else:
        return ""
    extra = next((EXTRAS[word] for word in EXTRAS if re.search(rf"\b{word}\b", missing)), None)
    return f"; pip install 'neuraxis[{extra}]'" if extra else ""
