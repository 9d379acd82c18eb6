"""The statistics of Stable-Baselines3's VecNormalize, read from its pickle without executing it.

statistics = read(Path("vecnormalize.pkl"))      statistics.observations[""].mean

Arrays of NumPy are built. Objects of Stable-Baselines3, Gymnasium and NumPy become records of their
attributes, and no code of their classes runs. A pickle that names anything else is refused.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ....core.errors import RunError
from ...storage.atomic_files import disk, strange

_KNOWN = "stable_baselines3", "gymnasium", "gym", "numpy", "collections"
_NUMPY = "numpy.core.multiarray", "numpy._core.multiarray"
_KINDS = {name: np.dtype(name) for name in ("f4", "f8", "i4", "i8", "u1", "b1")}
"""The dtypes that statistics and spaces have."""


@dataclass(frozen=True)
class Moments:
    """Running moments."""

    mean: np.ndarray
    variance: np.ndarray
    count: float


@dataclass(frozen=True)
class Statistics:
    """What a VecNormalize has seen."""

    observations: Mapping[str, Moments]
    """By the key of a Dict; `""` for all other observations. {}: they are not normalised."""
    returns: Moments | None
    """Of discounted returns, by whose deviation rewards are divided; None: they are not."""
    epsilon: float
    """Is added to variances."""
    clip_obs: float
    """Limit of a normalised number."""


class Record:
    """An object of the pickle: its attributes, without its class."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Ignores what it would be made of."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


class _Reader(pickle.Unpickler):
    def __init__(self, file: Path, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self.file = file

    def find_class(self, module: str, name: str) -> Any:
        """The class that stands for a name of the pickle; RunError for what is not expected."""
        if module in _NUMPY and name in ("_reconstruct", "scalar"):
            return _Array if name == "_reconstruct" else _scalar
        if (module, name) == ("numpy", "dtype"):
            return _Kind
        if module.partition(".")[0] not in _KNOWN:
            raise RunError(
                f"{self.file}: names {module}.{name}, and no statistics need that; nothing was "
                "executed"
            )
        return dict if name == "OrderedDict" else type(name, (Record,), {"__module__": module})


class _Kind(Record):
    """A dtype of NumPy: its name alone, so that a file cannot say how memory is read."""

    def __init__(self, name: str, *_: Any) -> None:
        self.numbers: Any = _KINDS.get(name)

    def __setstate__(self, state: Any) -> None:
        """Ignores all but the order of the bytes."""
        if self.numbers is not None and state[1] == ">":
            self.numbers = self.numbers.newbyteorder(">")

    def read(self, content: Any) -> np.ndarray:
        """The numbers in bytes. Raises ValueError if they are no plain numbers."""
        if self.numbers is None or not isinstance(content, bytes):
            raise ValueError("expected arrays of plain numbers")
        return np.frombuffer(content, self.numbers)


class _Array(Record):
    """An array of NumPy, whose content follows."""

    def __setstate__(self, state: Any) -> None:
        """Builds it of its bytes; one that holds anything else stays empty."""
        _, shape, kind, columns_first, content = state
        if kind.numbers is not None and isinstance(content, bytes):
            order = "F" if columns_first else "C"
            self.numbers = kind.read(content).reshape(shape, order=order)


def _scalar(kind: Any, content: Any = b"") -> Any:
    return kind.read(content)[0]


def read(file: Path) -> Statistics:
    """Reads the statistics.

    Raises:
        ValueError: No such file, or it is no VecNormalize; nothing of it was executed.
        RunError: The disk refuses.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file; expected what VecNormalize.save wrote")
    with disk(file):
        content = file.read_bytes()
    try:
        with strange(f"{file}: not the file of a VecNormalize"):
            found = vars(_Reader(file, content).load())
            return Statistics(
                _of_observations(found) if found["norm_obs"] else {},
                _moments(found["ret_rms"]) if found["norm_reward"] else None,
                float(found["epsilon"]),
                float(found["clip_obs"]),
            )
    except RunError as error:
        raise ValueError(str(error)) from error


def _of_observations(found: Mapping[str, Any]) -> dict[str, Moments]:
    moments = found["obs_rms"]
    if isinstance(moments, dict):
        return {str(key): _moments(value) for key, value in moments.items()}
    return {"": _moments(moments)}


def _moments(record: Any) -> Moments:
    found = (getattr(record, key) for key in ("mean", "var"))
    mean, variance = (np.array(getattr(one, "numbers", one), np.float64) for one in found)
    if not (np.isfinite(mean).all() and np.isfinite(variance).all() and (variance >= 0).all()):
        raise ValueError("expected finite means, and variances of 0 or more")
    return Moments(mean, variance, float(record.count))
