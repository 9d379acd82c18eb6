"""Training: the loop, its sources, runs on disk, evaluation and the command line."""

from typing import TYPE_CHECKING

from ..core.lazy_names import lazy_names

if TYPE_CHECKING:
    from ..core.errors import EnvError, RunError
    from .api import train
    from .callbacks import Callback
    from .checks.env_check import check_env
    from .distributed.build import build_agent
    from .interop.baseline import baseline as baseline
    from .loop import Session
    from .saved_policy import load
    from .session import prepare
    from .trained_run import TrainedRun

__all__ = [
    "Callback",
    "EnvError",
    "RunError",
    "Session",
    "TrainedRun",
    "build_agent",
    "check_env",
    "load",
    "prepare",
    "train",
]
_MODULES = {
    "Callback": ".callbacks",
    "EnvError": "..core.errors",
    "RunError": "..core.errors",
    "Session": ".loop",
    "TrainedRun": ".trained_run",
    "baseline": ".interop.baseline",
    "build_agent": ".distributed.build",
    "check_env": ".checks.env_check",
    "load": ".saved_policy",
    "prepare": ".session",
    "train": ".api",
}


__getattr__ = lazy_names(__name__, _MODULES, {"baseline": "stable_baselines3"})


def __dir__() -> list[str]:
    """The public names, before they are imported."""
    return [*_MODULES]
