"""The trackers of a configuration: what copies a run to other programs while it trains."""

from __future__ import annotations

from ...configs import Config
from ...core.errors import installed
from ..callbacks import Callback
from .prometheus_tracker import PrometheusTracker
from .tensorboard_tracker import TensorBoardTracker
from .wandb_tracker import WandbTracker


def trackers(cfg: Config) -> list[Callback]:
    """Those that the configuration asks for. Raises ValueError if one cannot be had."""
    found: list[Callback] = []
    if cfg.wandb.mode != "disabled" and installed("wandb"):
        found.append(WandbTracker())
    if cfg.tensorboard.enabled:
        found.append(TensorBoardTracker())
    if cfg.prometheus.port is not None:
        found.append(PrometheusTracker(cfg.prometheus))
    return found
