"""The tuned numbers of rl-baselines3-zoo, `hyperparams/ppo.yml` and `sac.yml`, by case.

For Stable-Baselines3 and SBX, and for a library that has documented none of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

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


PPOS = {
    "cartpole": PPO(8, 100_000, 32, 256, 20, 0.98, 0.8, 0.0, 1e-3, linear=True),
    "lunarlander": PPO(16, 1_000_000, 1024, 64, 4, 0.999, 0.98, 0.01, 3e-4),
    "pong": PPO(8, 10_000_000, 128, 256, 4, 0.99, 0.95, 0.01, 2.5e-4, 0.1, linear=True),
}
SAC_STEPS, SAC_LEARNING_RATE = 20_000, 1e-3
"""Of SAC on Pendulum-v1; the rest is as Stable-Baselines3 has it."""
