"""Reinforcement learning: one neural backbone, every agent, any scale.

from neuraxis import load, train

This folder is the package `neuraxis` itself, and the folders of the repository's root are its
subpackages (pyproject.toml maps them). It does not stand in the root under its own name: Python
started there would find it before the installed package, and in it no `neuraxis.agents`.
"""

from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuraxis.training import load, train

__all__ = ["__version__", "load", "train"]
__version__ = metadata.version("neuraxis")


def __getattr__(name: str) -> Any:
    """Gives `train` and `load` at the first question, for their module imports PyTorch."""
    if name not in ("load", "train"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from neuraxis import training

    return getattr(training, name)
