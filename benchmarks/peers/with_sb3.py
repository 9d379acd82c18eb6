"""Trains with Stable-Baselines3 or SBX: `with_sb3.py MODULE CASE SEED`.

One turn of `time_to_score.py`, with the numbers of rl-baselines3-zoo.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import gymnasium
import zoo
from episodes import Episodes, make
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack


def linear(value: float) -> Callable[[float], float]:
    """Falls from `value` to 0 as the share of the training that remains."""
    return lambda remains: remains * value


def pong(num_envs: int, seed: int) -> VecEnv:
    """The wrappers of the zoo, around an environment that says whole games."""
    import ale_py
    from stable_baselines3.common.atari_wrappers import AtariWrapper

    gymnasium.register_envs(ale_py)

    def game() -> gymnasium.Env:
        return Episodes(gymnasium.make(zoo.ENVS["pong"], frameskip=1), skipped=4)

    return VecFrameStack(make_vec_env(game, num_envs, seed, wrapper_class=AtariWrapper), 4)


def ppo(module: Any, case: str, seed: int) -> None:
    """Trains PPO."""
    numbers = asdict(zoo.PPOS[case])
    num_envs, total = numbers.pop("num_envs"), numbers.pop("total_steps")
    if numbers.pop("linear"):
        numbers |= {name: linear(numbers[name]) for name in ("learning_rate", "clip_range")}
    if case == "pong":
        policy, env = "CnnPolicy", pong(num_envs, seed)
    else:
        policy, env = "MlpPolicy", make_vec_env(lambda: make(zoo.ENVS[case]), num_envs, seed)
    module.PPO(policy, env, seed=seed, **numbers).learn(total)


def sac(module: Any, case: str, seed: int) -> None:
    """Trains SAC."""
    env = make_vec_env(lambda: make(zoo.ENVS[case]), 1, seed)
    rate = zoo.SAC_LEARNING_RATE
    module.SAC("MlpPolicy", env, learning_rate=rate, seed=seed).learn(zoo.SAC_STEPS)


if __name__ == "__main__":
    library, name, number = sys.argv[1:]
    algorithm = sac if name == "pendulum" else ppo
    algorithm(importlib.import_module(library), name, int(number))
