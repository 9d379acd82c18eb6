"""What several learners save, and what they cost: the time of one `learn` with 1 and 2 of them.

    python benchmarks/learners.py --rounds 3

Each turn is a process that learns from ROLLOUTS rollouts on one thread a learner; the sides take
turns. Its numbers are medians of `learn`, request and answers included: wall milliseconds, and CPU
milliseconds of the first learner, which other programs on the machine change little. The table goes
to `benchmarks/results/learners.md`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "learners.md"
ROLLOUTS, COUNTS = 8, (1, 2)
LARGE = "network.blocks.0.sizes=[1024,1024]"
SHARED = ("wandb.mode=disabled", "compile=false", "eval.interval_steps=0", "eval.final_episodes=1")
PPO = ("agent=ppo", "num_envs=16", "agent.n_steps=128", "agent.n_epochs=4")
DQN = ("agent=dqn", "agent.learning_starts=100", "agent.gradient_steps=8", "agent.batch_size=512")
CASES: dict[str, tuple[str, ...]] = {
    "ppo, mlp [64, 64], minibatches of 256": PPO,
    "ppo, mlp [1024, 1024], minibatches of 1,024": (*PPO, LARGE, "agent.batch_size=1024"),
    "ppo, lstm 512, 16 sequences of 128": (
        *PPO,
        "network=lstm",
        "network.blocks.1.size=512",
        "agent.batch_size=2048",
    ),
    "dqn, mlp [1024, 1024], minibatches of 512": (*DQN, LARGE),
}


def turn(case: str, count: int) -> None:
    """One turn, in a process of its own: prints milliseconds of `learn`, wall and CPU."""
    from neuraxis.configs import load
    from neuraxis.training import prepare

    with tempfile.TemporaryDirectory() as folder:
        words = (*SHARED, *CASES[case], f"run_dir={folder}/run", f"learner.count={count}")
        session = prepare(load(words, total_steps=10**7))
        learn, times = session.learner.learn, []

        def timed(rollout: Any) -> Any:
            before = time.perf_counter(), time.process_time()
            metrics = learn(rollout)
            after = time.perf_counter(), time.process_time()
            times.append([1_000 * (b - a) for a, b in zip(before, after, strict=True)])
            if len(times) == ROLLOUTS:
                session.interrupt()
            return metrics

        session.learner.learn = timed
        session.run()
    print(*(statistics.median(column) for column in zip(*times[2:], strict=True)))


def measure(case: str, count: int) -> list[float]:
    """The numbers of a turn."""
    command = [sys.executable, __file__, "--turn", case, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(number) for number in done.stdout.split()]


def main() -> None:
    """Measures all cases and writes the table."""
    parser = argparse.ArgumentParser(description="Time `learn` with 1 and 2 learners.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turn", nargs=2, metavar=("CASE", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn:
        turn(options.turn[0], int(options.turn[1]))
        return
    rows = []
    for case in CASES:
        rounds = [[measure(case, count) for count in COUNTS] for _ in range(options.rounds)]
        wall, walls = (statistics.median(t[side][0] for t in rounds) for side in range(2))
        cpu, cpus = (statistics.median(t[side][1] for t in rounds) for side in range(2))
        cells = f"{wall:,.0f} | {walls:,.0f} | {wall / walls:.2f}"
        rows.append(f"| {case} | {cells} | {cpu:,.0f} | {cpus:,.0f} | {cpu / cpus:.2f} |")
        print(rows[-1], flush=True)
    import torch

    RESULTS.write_text(
        "\n".join(
            [
                "# What several learners save",
                "",
                "Milliseconds of one `learn` on CartPole-v1, one thread a learner: medians of "
                f"{options.rounds} rounds in which the sides take turns. Wall time, and CPU time "
                "of the first learner, without its waits for the others: the least that wall time "
                "can be.",
                "",
                "| agent | wall, 1 | wall, 2 | ratio | CPU, 1 | CPU, 2 | ratio |",
                "|---|--:|--:|--:|--:|--:|--:|",
                *rows,
                "",
                f"`python benchmarks/learners.py --rounds {options.rounds}`, torch "
                f"{torch.__version__}, gloo, {os.cpu_count()} cores, load average at the end "
                f"{os.getloadavg()[1]:.0f}.",
                "",
            ]
        ),
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
