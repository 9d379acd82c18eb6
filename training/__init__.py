"""Training: the loop, its sources, runs on disk, evaluation and the command line."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..core.errors import require

if TYPE_CHECKING:
    from .api import train
    from .callbacks import Callback
    from .distributed.build import build_agent
    from .interop.baseline import baseline
    from .loop import Session
    from .saved_policy import load
    from .session import prepare

__all__ = ["Callback", "Session", "baseline", "build_agent", "load", "prepare", "train"]
_MODULES = {
    "Callback": "callbacks",
    "Session": "loop",
    "baseline": "interop.baseline",
    "build_agent": "distributed.build",
    "load": "saved_policy",
    "prepare": "session",
    "train": "api",
}


def __getattr__(name: str) -> Any:
    """Gives a public name at the first question, for its module imports PyTorch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "baseline":
        require("neuraxis.training.baseline", "stable_baselines3")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
