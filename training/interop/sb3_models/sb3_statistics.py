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
            return _empty if name == "_reconstruct" else _scalar
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if module.partition(".")[0] not in _KNOWN:
            raise RunError(
                f"{self.file}: names {module}.{name}, and no statistics need that; nothing was "
                "executed"
            )
        return dict if name == "OrderedDict" else type(name, (Record,), {"__module__": module})


def _empty(*_: Any) -> np.ndarray:
    """An array whose content follows."""
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _scalar(kind: Any, content: bytes = b"") -> Any:
    return np.frombuffer(content, kind)[0]


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
    mean, variance = (np.asarray(getattr(record, key), np.float64) for key in ("mean", "var"))
    if not (np.isfinite(mean).all() and np.isfinite(variance).all() and (variance >= 0).all()):
        raise ValueError("expected finite means, and variances of 0 or more")
    return Moments(mean, variance, float(record.count))
