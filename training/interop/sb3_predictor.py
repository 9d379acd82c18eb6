"""Our policies inside programs of Stable-Baselines3, its `evaluate_policy` for example.

evaluate_policy(Sb3Predictor(load("runs/first")), env)
"""

from __future__ import annotations

from typing import Any

from ...agents.policies.policy import Policy


class Sb3Predictor:
    """A policy whose `predict` has the library's arguments.

    Args:
        policy: From `load`.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        """`Policy.predict`, whose argument `first` is called `episode_start` there."""
        return self.policy.predict(observation, state, episode_start, deterministic)
