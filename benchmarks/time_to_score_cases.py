"""What `time_to_score.py` measures: cases, sides, and how a side is started.

A side's program prints a line for each finished episode; the files in `peers/` do so for all but
CleanRL, whose scripts print it themselves and run unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PEERS = Path(__file__).parent / "peers"
TORCH = ("torch", "gymnasium")


@dataclass(frozen=True)
class Case:
    """What is to be reached, and when a side has missed it."""

    env: str
    bar: float
    steps: int
    """At most; a side whose own training is shorter stops where it ends."""
    seconds: float
    """At most, by the clock."""


CASES = {
    "cartpole": Case("CartPole-v1", 475, 500_000, 300),
    "lunarlander": Case("LunarLander-v3", 200, 1_500_000, 1_200),
    "pendulum": Case("Pendulum-v1", -160, 100_000, 300),
    "pong": Case("ALE/Pong-v5", 18, 10_000_000, 18_000),
}


@dataclass(frozen=True)
class Side:
    """A library.

    Attributes:
        packages: Whose versions are noted; if one is missing, the side is skipped.
        runs: By case: what it trains, for the report.
        command: Of a case and a seed: what follows the interpreter.
    """

    packages: tuple[str, ...]
    runs: dict[str, str]
    command: Callable[[str, int], list[str]]


def program(*words: str) -> Callable[[str, int], list[str]]:
    """A file of `peers/` that takes its words, the case and the seed."""
    return lambda case, seed: [str(PEERS / words[0]), *words[1:], case, str(seed)]


SCRIPTS = {
    "cartpole": ("ppo.py",),
    "lunarlander": ("ppo.py", "--env-id", "LunarLander-v2", "--total-timesteps", "1500000"),
    "pendulum": ("sac_continuous_action.py", "--env-id", "Pendulum-v1"),
    "pong": ("ppo_atari.py", "--env-id", "PongNoFrameskip-v4"),
}
"""Of CleanRL."""


def script(case: str, seed: int) -> list[str]:
    """CleanRL's script of a case, unpacked into `cleanrl/` where it runs."""
    name, *words = SCRIPTS[case]
    starter = [str(PEERS / "with_cleanrl.py")] if case == "pong" else []
    return [*starter, f"cleanrl/{name}", *words, "--seed", str(seed)]


ZOO = "rl-baselines3-zoo's numbers"
SIDES = {
    "neuraxis": Side(
        TORCH,
        {
            "cartpole": "PPO, `experiment=cartpole_ppo`",
            "lunarlander": "PPO, `experiment=lunarlander_ppo overlap=true`",
            "pendulum": "SAC, `experiment=pendulum_sac total_steps=20_000`",
            "pong": "PPO, `experiment=pong_ppo overlap=true`",
        },
        program("with_neuraxis.py"),
    ),
    "sb3": Side(
        ("stable_baselines3", *TORCH),
        {case: f"{'SAC' if case == 'pendulum' else 'PPO'}, {ZOO}" for case in CASES},
        program("with_sb3.py", "stable_baselines3"),
    ),
    "sbx": Side(
        ("sbx-rl", "jax", "stable_baselines3", "gymnasium"),
        {"cartpole": f"PPO, {ZOO}", "lunarlander": f"PPO, {ZOO}", "pendulum": f"SAC, {ZOO}"},
        program("with_sb3.py", "sbx"),
    ),
    "cleanrl": Side(
        ("tyro", *TORCH),
        {case: f"`{' '.join(words)}`, its other defaults" for case, words in SCRIPTS.items()},
        script,
    ),
    "tianshou": Side(
        ("tianshou", *TORCH),
        {
            "cartpole": "PPO, the numbers of its `test_ppo_discrete.py`",
            "lunarlander": f"PPO, {ZOO}",
            "pendulum": "SAC, the numbers of its `test_sac_with_il.py`",
        },
        program("with_tianshou.py"),
    ),
    "torchrl": Side(
        ("torchrl", "tensordict", *TORCH),
        {
            **{"cartpole": f"PPO, {ZOO}", "lunarlander": f"PPO, {ZOO}"},
            "pendulum": f"SAC, {ZOO}, but ten updates after every ten steps",
        },
        program("with_torchrl.py"),
    ),
}
