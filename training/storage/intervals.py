"""What a run does at intervals of steps, and how long these are."""

from __future__ import annotations

from typing import Literal

from ...agents.choices import agent_class
from ...configs.config import Config

Due = Literal["log", "histograms", "eval", "film", "save"]
"""What is due at an interval of steps."""

LEAST = {"eval": 10_000, "save": 50_000}
"""For interval_steps=auto: the least steps between evaluations, and between checkpoints."""
ROLLOUTS = 5
"""And the least rollouts between them, which are many steps with many environments."""
EVALUATIONS = 20
"""The most evaluations in a run. Checkpoints are not limited: a crash costs what came since one."""


def interval(what: Due, cfg: Config, rollout_steps: int = 0) -> int:
    """Steps after which something is due again; 0 is never.

    Args:
        what: What is due.
        cfg: The run's configuration.
        rollout_steps: Of one rollout.
    """
    wanted = {
        "log": cfg.log_interval_steps,
        "histograms": cfg.wandb.histogram_interval_steps,
        "eval": cfg.eval.interval_steps,
        "film": cfg.eval.video_interval_steps,
        "save": cfg.checkpoint.interval_steps,
    }[what]
    if wanted != "auto":
        return wanted
    if what == "eval" and not agent_class(cfg.agent.name).learns_policy:
        return 0
    share = cfg.total_steps // EVALUATIONS if what == "eval" else 0
    return max(LEAST[what], ROLLOUTS * rollout_steps, share)
