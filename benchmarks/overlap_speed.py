"""How much faster `overlap=true` trains on two cores than the same training on one: wall time.

    python benchmarks/overlap_speed.py [--only pong] [--rounds 5]

Without overlap a run has one core, with overlap two; each has one thread a process. The sides take
turns, each turn a process of its own, and a turn's rate is that between two of its updates: start
and compilation are before the first. Collecting and learning side by side take at least as long as
the longer of the two: the limit is the speedup if nothing else took time. The table goes to
`benchmarks/results/overlap_speed.md`. Nothing else may run on the machine.
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
from typing import Any

from evidence import RESULTS, versions

from neuraxis.configs import load
from neuraxis.training import Callback, prepare

CASES = {
    "cartpole": ("experiment=cartpole_ppo", 20_000, 100_000),
    "lunarlander": ("experiment=lunarlander_ppo", 50_000, 250_000),
    "pong": ("experiment=pong_ppo", 3_000, 13_000),
}
"""Words of `neuraxis train`, and the steps between which the rate is taken."""
CORES = {"false": "0", "true": "0,1"}
"""Of a run with this `overlap`."""
QUIET = (
    *("wandb.mode=disabled", "eval.interval_steps=0", "eval.final_episodes=1"),
    *("checkpoint.interval_steps=0", "log_interval_steps=1000000"),
)


def turn(case: str, overlap: str) -> dict[str, float]:
    """Trains; returns steps per second by the clock, and the limit of overlap by its parts."""
    words, warm, total = CASES[case]
    marks: list[tuple[int, float]] = []

    class Mark(Callback):
        def on_update(self, run: Any, metrics: Any) -> None:
            if run.steps >= warm:
                marks.append((run.steps, time.perf_counter()))

    with tempfile.TemporaryDirectory() as folder:
        settings = (f"overlap={overlap}", f"total_steps={total}", f"run_dir={folder}/run")
        session = prepare(load((words, *settings, *QUIET)))
        session.run([Mark()])
    (first, begin), (last, end) = marks[0], marks[-1]
    parts = [session.profile.seconds[part] for part in ("collect", "learn")]
    return {"rate": (last - first) / (end - begin), "limit": sum(parts) / max(parts)}


def child(case: str, overlap: str) -> dict[str, float]:
    """A turn in a process of its own, on its cores."""
    command = [sys.executable, __file__, "--child", case, overlap]
    done = subprocess.run(
        ["taskset", "-c", CORES[overlap], *command],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure(case: str, rounds: int) -> str:
    """A line of the table."""
    found: dict[str, list[dict[str, float]]] = {overlap: [] for overlap in CORES}
    for _ in range(rounds):
        for overlap, turns in found.items():
            turns.append(child(case, overlap))
            print(f"{case} overlap={overlap}: {turns[-1]['rate']:,.0f}", flush=True)
    one, two = ([turn["rate"] for turn in turns] for turns in found.values())
    ratios = [after / before for before, after in zip(one, two, strict=True)]
    limit = statistics.median(turn["limit"] for turn in found["false"])
    return (
        f"| {case} | {statistics.median(one):,.0f} | {statistics.median(two):,.0f} | "
        f"{statistics.median(ratios):.2f}x | {min(ratios):.2f} to {max(ratios):.2f} | "
        f"{limit:.2f}x |"
    )


def main() -> None:
    """Measures, and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.child is not None:
        print(json.dumps(turn(*parsed.child)))
        return
    file = RESULTS / "overlap_speed.md"
    written = file.read_text("utf-8").splitlines() if file.exists() else []
    rows = {case: line for line in written for case in CASES if line.startswith(f"| {case} |")}
    rows |= {case: measure(case, parsed.rounds) for case in parsed.only}
    lines = [
        "# Two cores by overlap",
        "",
        "PPO, steps per second by the clock: medians of turns; speedup: the median over the",
        "rounds, and its range. Limit: collecting and learning, timed on one core, over the longer",
        "of the two.",
        "",
        "| experiment | one core | two cores, `overlap=true` | speedup | range | limit |",
        "|---|--:|--:|--:|--:|--:|",
        *(rows[case] for case in CASES if case in rows),
        "",
        f"`python benchmarks/overlap_speed.py --rounds {parsed.rounds}`, {versions()}.",
        "",
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
