"""Configuration: the strict `Config`, the YAML groups beside it, and `load`, which joins them.

`Config` is imported on first use: it brings PyTorch, and `neuraxis list` must not wait for that.
"""

from typing import TYPE_CHECKING, Any

from .loader import load, load_file
from .resumed import load_resumed
from .text import dump

if TYPE_CHECKING:
    from .config import Config
    from .sections import (
        CheckpointConfig,
        EvalConfig,
        LearnerConfig,
        PrometheusConfig,
        RayConfig,
        TensorBoardConfig,
        WandbConfig,
    )

__all__ = [
    "CheckpointConfig",
    "Config",
    "EvalConfig",
    "LearnerConfig",
    "PrometheusConfig",
    "RayConfig",
    "TensorBoardConfig",
    "WandbConfig",
    "dump",
    "load",
    "load_file",
    "load_resumed",
]


def __getattr__(name: str) -> Any:
    """Give `Config` and the classes of its sections, importing them at the first question."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import config

    return getattr(config, name)
