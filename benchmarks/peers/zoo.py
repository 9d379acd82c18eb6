"""The tuned numbers of rl-baselines3-zoo, by case, as our own baselines of it have them.

For Stable-Baselines3 and SBX, and for a library that has documented none of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ENVS = {
    **{"cartpole": "CartPole-v1", "lunarlander": "LunarLander-v3"},
    **{"pendulum": "Pendulum-v1", "pong": "ALE/Pong-v5"},
}


@dataclass(frozen=True)
class PPO:
    """Of proximal policy optimization, under the names of Stable-Baselines3."""

    num_envs: int
    total_steps: int
    n_steps: int
    batch_size: int
    n_epochs: int
    gamma: float
    gae_lambda: float
    ent_coef: float
    learning_rate: float
    clip_range: float = 0.2
    linear: bool = False
    """Whether learning rate and clip range fall linearly to 0."""


def experiment(case: str, algorithm: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What our baseline of a case sets: for the run, and for the algorithm."""
    file = Path(__file__).parents[2] / "configs" / "experiment" / f"{case}_sb3_{algorithm}.yaml"
    words = yaml.safe_load(file.read_text(encoding="utf-8"))
    prefix = "agent.kwargs."
    own = {key.removeprefix(prefix): words[key] for key in words if key.startswith(prefix)}
    return words, own


def ppo(case: str) -> PPO:
    """The numbers of a case; a rate that falls to 0 is `lin_RATE` there."""
    words, own = experiment(case, "ppo")
    falls = [key for key, value in own.items() if str(value).startswith("lin_")]
    own |= {key: float(own[key].removeprefix("lin_")) for key in falls}
    numbers = {"learning_rate": 3e-4, **own}  # Stable-Baselines3's own rate
    return PPO(words["num_envs"], words["total_steps"], **numbers, linear=bool(falls))


PPOS = {
    **{"cartpole": ppo("cartpole"), "lunarlander": ppo("lunarlander")},
    "pong": PPO(8, 10_000_000, 128, 256, 4, 0.99, 0.95, 0.01, 2.5e-4, 0.1, linear=True),
}
_WORDS, _OWN = experiment("pendulum", "sac")
SAC_STEPS, SAC_LEARNING_RATE = _WORDS["total_steps"], _OWN["learning_rate"]
"""Of SAC on Pendulum-v1; the rest is as Stable-Baselines3 has it."""
