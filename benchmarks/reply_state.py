"""What it costs that each reply of a Ray worker says where its environments stand.

    python benchmarks/reply_state.py

CPU milliseconds to collect a rollout, to make its state and to pickle it, medians; and the sizes of
both. The table goes to `benchmarks/results/reply_state.md`.
"""

from __future__ import annotations

import pickle
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from neuraxis.configs import load
from neuraxis.training.distributed.build import build_agent
from neuraxis.training.distributed.groups import open_group
from neuraxis.training.distributed.process import configure_process

RESULTS = Path(__file__).parent / "results" / "reply_state.md"
COMMON = ("device=cpu", "wandb.mode=disabled", "compile=false")
LONG = 700
"""Rollouts of 128 steps after which an episode without a limit has nearly 100,000."""
CASES = {
    "CartPole-v1, 8 environments": ("agent=ppo",),
    "CartPole-v1, 64": ("agent=ppo", "num_envs=64"),
    "CartPole-v1, 64, LSTM": ("agent=ppo", "num_envs=64", "network=lstm"),
    "CartPole-v1, 8, Transformer": ("agent=ppo", "network=transformer"),
    "Pendulum-v1, 8": ("agent=ppo", "env=Pendulum-v1"),
    f"Pendulum-v1, 8, episodes of {LONG * 128:,} steps": (
        *("agent=ppo", "env=Pendulum-v1", "env.time_limit=1_000_000"),
    ),
    "HalfCheetah-v5, 8": ("agent=ppo", "env=HalfCheetah-v5"),
    "Pong, 8": ("agent=ppo", "env=atari", "network=cnn"),
    "CartPole-v1, 8, DQN, rollouts of 8": ("agent=dqn",),
}


def measure(name: str, words: tuple[str, ...], rounds: int = 11) -> str:
    """A row of the table."""
    cfg = load([*COMMON, *words])
    agent = build_agent(cfg)
    collector, _ = open_group(cfg, agent.policy, agent.rollout_length, 0)
    for _ in range(LONG if "time_limit" in " ".join(words) else 25):
        collector.collect()
    rollout, pickled = None, b""
    times: list[list[float]] = []
    for _ in range(rounds):
        rollout, collecting = timed(collector.collect)
        state, making = timed(collector.state_dict)
        pickled, sending = timed(lambda state=state: pickle.dumps(state, protocol=5))
        times.append([1000 * seconds for seconds in (collecting, making, sending)])
    collector.envs.close()
    collect, make, send = (statistics.median(column) for column in zip(*times, strict=True))
    sizes = [len(pickle.dumps(rollout, protocol=5)) / 1000, len(pickled) / 1000]
    share = (make + send) / collect
    return (
        f"| {name} | {collect:.2f} | {make:.3f} | {send:.3f} | {share:.1%} "
        f"| {sizes[0]:,.1f} | {sizes[1]:,.1f} |"
    )


def timed(function: Any) -> tuple[Any, float]:
    """What a function returns, and its CPU seconds."""
    begin = time.process_time()
    return function(), time.process_time() - begin


def main() -> None:
    """Measures and writes the table."""
    configure_process(1)
    rows = []
    for name, words in CASES.items():
        rows.append(measure(name, words))
        print(rows[-1], flush=True)
    text = [
        "# What the state in a worker's reply costs",
        "",
        "CPU ms to collect a rollout (T=128), to make the state and to pickle it; kB of both:",
        "",
        "| | collect | make | pickle | share | rollout, kB | state, kB |",
        "|---|--:|--:|--:|--:|--:|--:|",
        *rows,
        "",
        f"`python benchmarks/reply_state.py`, medians; PyTorch {torch.__version__}, Python "
        f"{platform.python_version()}.",
        "",
    ]
    RESULTS.write_text("\n".join(text))


if __name__ == "__main__":
    main()
