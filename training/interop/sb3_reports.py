"""What a model of Stable-Baselines3 says of itself while it learns, in our words."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

METRICS = {
    "policy_gradient_loss": "loss/policy",
    "policy_loss": "loss/policy",
    "actor_loss": "loss/policy",
    "value_loss": "loss/value",
    "critic_loss": "loss/td",
    "approx_kl": "policy/approx_kl",
    "kl_divergence_loss": "policy/approx_kl",
    "clip_fraction": "policy/clip_fraction",
    "ent_coef": "policy/temperature",
    "explained_variance": "value/explained_variance",
    "learning_rate": "train/learning_rate",
}
"""The library's names of metrics, below `train/`, and ours."""


@dataclass
class Between:
    """What a run counts of the steps between two updates; a `Counted`."""

    steps: int
    episodes: np.ndarray
    metrics: dict[str, float]
    seconds: dict[str, float]

    @property
    def rows(self) -> int:
        """Steps; there are no resets among them."""
        return self.steps


class Reports(BaseCallback):
    """Tells a session after each update what came before it.

    Args:
        ending: Whether the run is to end.
        learned: Is told.
    """

    def __init__(self, ending: Callable[[], bool], learned: Callable[[Between], None]) -> None:
        super().__init__()
        self._ending, self._learned = ending, learned
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._steps = 0
        self._episodes: list[tuple[float, ...]] = []
        self._times = [time.perf_counter()]  # when collecting and when learning began

    def _on_rollout_start(self) -> None:
        self._report()

    def _on_step(self) -> bool:
        self._steps += self.training_env.num_envs
        for column, info in enumerate(self.locals["infos"]):
            if (episode := info.get("episode")) is not None:
                success = info.get("is_success", math.nan)
                self._episodes.append((column, episode["r"], episode["l"], success))
        return not self._ending()

    def _on_rollout_end(self) -> None:
        self._times.append(time.perf_counter())

    def _on_training_end(self) -> None:
        self._report()

    def _report(self) -> None:
        """Tells of the steps since the last report, if there are any."""
        if self._steps:
            begin, learned = self._times[0], self._times[-1]
            seconds = {"collect": learned - begin, "learn": time.perf_counter() - learned}
            episodes = np.array(self._episodes, np.float64).reshape(-1, 4)
            metrics = translated(self.logger.name_to_value)
            self.logger.name_to_value.clear()
            self._learned(Between(self._steps, episodes, metrics, seconds))
        self._begin_anew()


def translated(values: Mapping[str, Any]) -> dict[str, float]:
    """The library's metrics under our names; those that we have no name for are left out."""
    theirs = {name.removeprefix("train/"): float(value) for name, value in values.items()}
    found = {METRICS[name]: value for name, value in theirs.items() if name in METRICS}
    if "rollout/exploration_rate" in theirs:
        found["policy/epsilon"] = theirs["rollout/exploration_rate"]
    if "entropy_loss" in theirs:
        found["policy/entropy"] = -theirs["entropy_loss"]
    if "loss" in theirs and "loss/value" not in found:  # DQN, QR-DQN
        found["loss/td"] = theirs["loss"]
    return found
