"""What `eval.mode=worker` saves where evaluations are long: the time of whole runs, side by side.

    python benchmarks/evaluation_worker.py --rounds 3

Each run is a process of its own, and the two modes take turns. Seconds are those of the run (from
its folder to its summary); the start of the command comes on top, in which the worker starts, too.
CPU seconds are of the training process alone, which other programs on the machine change little.
The rows of both runs of a round must be equal. The table goes to
`benchmarks/results/evaluation_worker.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "evaluation_worker.md"
MODES = "inline", "worker"
STEPS, INTERVAL = 40_000, 5_000
SHARED = (
    *("wandb.mode=disabled", "device=cpu", "compile=false", f"total_steps={STEPS}"),
    *(
        f"eval.interval_steps={INTERVAL}",
        "eval.final_episodes=1",
        "checkpoint.interval_steps=20000",
    ),
)
CASES = {
    "PPO, Acrobot-v1, 10 episodes of up to 500 steps": (
        *("agent=ppo", "env=Acrobot-v1", "eval.episodes=10"),
    ),
    "PPO, Pendulum-v1, 50 episodes of 200 steps": (
        *("agent=ppo", "env=Pendulum-v1", "eval.episodes=50"),
    ),
}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run in the order of their steps, without times."""
    from neuraxis.training.storage.stored_run import read_rows

    return [
        {key: value for key, value in row.items() if not key.startswith("time/")}
        for row in read_rows(folder)
    ]


def measure(case: str, mode: str, folder: Path) -> dict[str, float]:
    """Seconds of a run: of its own, of its process's CPU, and of the whole command."""
    begin = time.monotonic()
    program = str(Path(sys.executable).with_name("neuraxis"))
    words = (*SHARED, *CASES[case], f"eval.mode={mode}", f"run_dir={folder}")
    subprocess.run([program, "train", "-q", *words], check=True)
    summary = json.loads((folder / "summary.json").read_text())
    return {
        "run": summary["seconds"],
        "cpu": summary["cpu_seconds"],
        "command": time.monotonic() - begin,
    }


def compare(case: str, rounds: int) -> str:
    """A line of the table: medians of the rounds."""
    found: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as place:
            order = MODES if number % 2 == 0 else MODES[::-1]
            for mode in order:
                found[mode].append(measure(case, mode, Path(place, mode)))
            inline, worker = (rows_of(Path(place, mode)) for mode in MODES)
            assert inline == worker, f"{case}: the rows differ"
        print(case, {mode: times[-1] for mode, times in found.items()}, flush=True)
    cells = []
    for key in ("run", "cpu", "command"):
        one, other = (statistics.median(t[key] for t in found[mode]) for mode in MODES)
        cells += [f"{one:.1f}", f"{other:.1f}", f"{one / other:.2f}"]
    return f"| {case} | {' | '.join(cells)} |"


def main() -> None:
    """Measures all cases and writes the table."""
    parser = argparse.ArgumentParser(description="Time runs with both modes of evaluation.")
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    before = os.getloadavg()[0]
    rows = [compare(case, rounds) for case in CASES]
    import torch

    RESULTS.write_text(
        "\n".join(
            [
                "# What evaluations in a worker save",
                "",
                f"Seconds of runs of {STEPS:,} steps, an evaluation every {INTERVAL:,}: medians of "
                f"{rounds} rounds in which the modes take turns. *run* is wall time from the "
                "run's folder to its summary, *CPU* that of the training process, *command* the "
                "whole command, its start and that of the worker included. In each round all rows "
                "of both runs were equal, `time/...` left out.",
                "",
                "| | run, inline | worker | ratio | CPU, inline | worker | ratio "
                "| command, inline | worker | ratio |",
                "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
                *rows,
                "",
                f"`python benchmarks/evaluation_worker.py --rounds {rounds}`, torch "
                f"{torch.__version__}, {os.cpu_count()} cores, load average {before:.0f} at the "
                f"start and {os.getloadavg()[0]:.0f} at the end: other programs had most of the "
                "cores, so wall times vary.",
                "",
            ]
        ),
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
