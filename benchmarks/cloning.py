"""Behaviour cloning against its teacher: 50 recorded episodes, and what the clone reaches.

    python benchmarks/cloning.py                 # everything that is not done yet
    python benchmarks/cloning.py --only cartpole # tasks whose name contains this
    python benchmarks/cloning.py --report        # only write the table again

For each seed a teacher is trained, plays 50 episodes, and is cloned from these alone. The clone is
scored by the mean of its newest evaluations, the teacher by the mean of the episodes that it gave.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from evidence import (
    NEWEST,
    RESULTS,
    Experiment,
    evaluations,
    keep,
    kept,
    options,
    run_missing,
    versions,
)

from neuraxis.training.analysis import statistics
from neuraxis.training.storage.atomic_files import read_json, write_json

SEEDS, EPISODES, BAR = 5, 50, 0.9
TASKS = ("cartpole", "lunarlander", "doorkey")


def teacher(task: str) -> Experiment:
    """What is cloned."""
    return Experiment(f"cloning/{task}/teacher", (f"experiment={task}_ppo",), SEEDS)


def clone(task: str) -> Experiment:
    """What clones it."""
    words = f"experiment={task}_bc", f"agent.dataset=$runs/cloning/{task}/demos/s$seed"
    return Experiment(f"cloning/{task}/clone", words, SEEDS)


def record(task: str) -> None:
    """Lets the teachers play, those that have not."""
    program = Path(sys.executable).parent / "neuraxis"
    for seed in range(SEEDS):
        run = teacher(task).folder(seed)
        place = run.parents[1] / "demos" / f"s{seed}"
        if not place.exists():
            given = ["record", str(run), "--out", str(place), "--episodes", str(EPISODES)]
            subprocess.run([program, *given], check=True, capture_output=True)
        about = {"return_mean": read_json(place / "dataset.json")["return_mean"]}
        kept_place = RESULTS / "cloning" / task / "demos"
        kept_place.mkdir(parents=True, exist_ok=True)
        write_json(kept_place / f"s{seed}.json", about)


def line(task: str) -> str:
    """A line of the table; empty while there are no clones."""
    row = clone(task)
    keep(row, RESULTS)
    if not (runs := kept(row, RESULTS)):
        return ""
    clones = np.array([evaluations(run, row)[-NEWEST:].mean() for run in runs])
    places = [RESULTS / "cloning" / task / "demos" / f"s{run.config['seed']}.json" for run in runs]
    teachers = np.array([read_json(place)["return_mean"] for place in places])
    mean, low, high = statistics.estimate(statistics.mean, [clones / teachers])
    holds = "yes" if mean >= BAR else "**no**"
    each = ", ".join(f"{a:.1f}/{b:.1f}" for a, b in zip(clones, teachers, strict=True))
    return f"| {task} | {mean:.3f} [{low:.3f}, {high:.3f}] | {BAR:g} | {holds} | {each} |"


def report() -> None:
    """Writes the table."""
    lines = [
        "# Behaviour cloning",
        "",
        f"`python benchmarks/cloning.py`: {SEEDS} seeds, each with a teacher of its own, cloned",
        f"from {EPISODES} recorded episodes. The share is the clone's newest return (mean of its",
        f"last {NEWEST} evaluations) over the mean return of these episodes, with a 95 % bootstrap",
        "interval.",
        "",
        "| task | share of the teacher | bar | holds | clone/teacher |",
        "|---|--:|--:|---|---|",
        *filter(None, map(line, TASKS)),
        "",
        f"{versions()}.",
        "",
    ]
    (RESULTS / "cloning.md").write_text("\n".join(lines))


def main() -> None:
    """Runs what is missing, two at a time, then reports."""
    given = options(__doc__)
    tasks = [task for task in TASKS if any(part in task for part in given.only)]
    if not given.report:
        run_missing([teacher(task) for task in tasks], given.jobs)
        for task in tasks:
            record(task)
        run_missing([clone(task) for task in tasks], given.jobs)
    report()


if __name__ == "__main__":
    main()
