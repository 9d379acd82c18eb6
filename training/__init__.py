"""Training: the loop, its sources, runs on disk, evaluation and the command line."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import load, train
    from .build import build_agent
    from .loop import Session, prepare

__all__ = ["Session", "build_agent", "load", "prepare", "train"]
_MODULES = {
    "Session": "loop",
    "build_agent": "build",
    "load": "api",
    "prepare": "loop",
    "train": "api",
}


def __getattr__(name: str) -> Any:
    """Gives a public name at the first question, for its module imports PyTorch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
