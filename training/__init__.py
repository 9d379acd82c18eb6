"""Training: the loop, its sources, runs on disk, evaluation and the command line."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loop import Session, build_agent, load, prepare, train

__all__ = ["Session", "build_agent", "load", "prepare", "train"]


def __getattr__(name: str) -> Any:
    """Gives the names of `loop.py`, which imports PyTorch, at the first question."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import loop

    return getattr(loop, name)
