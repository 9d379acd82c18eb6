"""Learning evidence: each experiment over its seeds, 100 greedy episodes each, against its bar.

    python benchmarks/learning.py                      # everything that is not done yet
    python benchmarks/learning.py --only cartpole_ppo  # experiments whose name contains this
    python benchmarks/learning.py --report             # only write the tables and curves again

A run that was cut off is resumed, a finished one is kept: call it again until nothing is left.
Runs lie in `benchmarks/runs/` (not committed), tables and curves in `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
RUNS, RESULTS = HERE / "runs", HERE / "results"
QUIET = ("wandb.mode=disabled",)


@dataclass(frozen=True)
class Experiment:
    """A row of `learning.yaml`: what is trained, on how many seeds, and what it must reach."""

    name: str
    words: tuple[str, ...]
    seeds: int
    at_least: float | None = None
    at_most: float | None = None

    def folder(self, seed: int) -> Path:
        """Where the run of a seed lies."""
        return RUNS / self.name / f"s{seed}"

    def summary(self, seed: int) -> dict[str, Any] | None:
        """Of the finished run of a seed; None while there is none."""
        path = self.folder(seed) / "summary.json"
        summary = json.loads(path.read_text()) if path.exists() else {}
        return summary if summary.get("status") == "finished" else None

    def command(self, seed: int) -> list[str]:
        """Trains a seed, or goes on where it was cut off."""
        folder = self.folder(seed)
        program = [str(Path(sys.executable).parent / "neuraxis")]
        if (folder / "checkpoints" / "last").exists():
            return [*program, "resume", "-q", str(folder)]
        shutil.rmtree(folder, ignore_errors=True)
        words = (*self.words, *QUIET, f"seed={seed}", f"run_dir={folder}")
        return [*program, "train", "-q", *words]


def experiments() -> list[Experiment]:
    """Reads `learning.yaml`."""
    rows = yaml.safe_load((HERE / "learning.yaml").read_text())
    return [Experiment(name, tuple(row.pop("words").split()), **row) for name, row in rows.items()]


def run(experiment: Experiment, seed: int) -> str:
    """Runs one seed to its end and says what came out."""
    done = subprocess.run(experiment.command(seed), capture_output=True, text=True)
    summary = experiment.summary(seed)
    if summary is None:
        return f"{experiment.name} s{seed}: FAILED {done.stderr.strip()[-300:]}"
    return f"{experiment.name} s{seed}: {summary['evaluate/return']:.2f}"


def interval(values: list[float]) -> float:
    """Half-width of the 95 % interval of the mean (Student's t)."""
    import numpy as np
    from scipy import stats

    if len(values) < 2:
        return float("nan")
    return float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)) if np.ptp(values) else 0.0


def last_return(experiment: Experiment, seed: int) -> float:
    """Return of the last evaluation during training, of the newest weights (few episodes)."""
    lines = (experiment.folder(seed) / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [row["evaluate/return"] for row in rows if "evaluate/return" in row][-1]


def report(rows: list[Experiment]) -> None:
    """Writes the table and a picture of the learning curves of each experiment."""
    RESULTS.mkdir(exist_ok=True)
    lines = [
        "# Learning results",
        "",
        "Mean and 95 % interval over seeds; each seed is the mean of 100 greedy episodes of",
        "checkpoint `best`, in environments seeded apart from those of training and of the",
        "evaluations that chose it. `newest` is the last evaluation during training, of the",
        "newest weights.",
        "",
        "| experiment | seeds | steps | return | bar | holds | newest | CPU s | seeds' means |",
        "|---|--:|--:|--:|--:|---|--:|--:|---|",
    ]
    for row in rows:
        found = [(seed, row.summary(seed)) for seed in range(row.seeds)]
        done = [(seed, summary) for seed, summary in found if summary is not None]
        if not done:
            continue
        values = [summary["evaluate/return"] for _, summary in done]
        mean = sum(values) / len(values)
        bar, holds = "control", ""
        if row.at_least is not None:
            bar, holds = f">= {row.at_least:g}", "yes" if mean >= row.at_least else "**no**"
        elif row.at_most is not None:
            bar, holds = f"< {row.at_most:g}", "yes" if mean < row.at_most else "**no**"
        newest = sum(last_return(row, seed) for seed, _ in done) / len(done)
        cpu = sum(summary["cpu_seconds"] for _, summary in done) / len(done)
        each = ", ".join(f"{value:.1f}" for value in values)
        steps = max(summary["steps"] for _, summary in done)
        lines.append(
            f"| {row.name} | {len(done)} | {steps:,} | {mean:.2f} ± {interval(values):.2f} | "
            f"{bar} | {holds} | {newest:.2f} | {cpu:.0f} | {each} |"
        )
        plot(row, [seed for seed, _ in done])
    lines += [
        "",
        "Commands (seeds 0, 1, ...), all from `python benchmarks/learning.py`:",
        "",
        "```",
    ]
    lines += [f"neuraxis train {' '.join(row.words)}  # {row.name}" for row in rows]
    lines += ["```", "", f"{versions()}.", ""]
    (RESULTS / "learning.md").write_text("\n".join(lines))


def versions() -> str:
    """Versions and machine, in a sentence."""
    import gymnasium
    import torch

    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE
    ).stdout.strip()
    return (
        f"Commit {commit}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"gymnasium {gymnasium.__version__}, {platform.machine()}, one thread a run"
    )


def plot(row: Experiment, seeds: list[int]) -> None:
    """Draws evaluation and training returns of all seeds against steps."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for seed in seeds:
        text = (row.folder(seed) / "metrics.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        styles: dict[str, Any] = {"episode/return": {"alpha": 0.25}, "evaluate/return": {"lw": 1.8}}
        for key, style in styles.items():
            points = [(line["steps"], line[key]) for line in lines if key in line]
            if points:
                label = f"seed {seed}" if key == "evaluate/return" else None
                steps, returns = zip(*points, strict=True)
                axes.plot(steps, returns, color=f"C{seed}", label=label, **style)
    if row.at_least is not None:
        axes.axhline(row.at_least, color="0.4", ls="--", lw=1, label="bar")
    axes.set(xlabel="environment steps", ylabel="episode return", title=row.name)
    axes.legend(fontsize=8)
    figure.savefig(RESULTS / f"{row.name}.png", dpi=80)
    plt.close(figure)


def main() -> None:
    """Runs what is missing, two at a time, then reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=[""], help="parts of experiments' names")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once (default 2)")
    parser.add_argument("--report", action="store_true", help="run nothing, write the results")
    options = parser.parse_args()
    rows = experiments()
    if not options.report:
        picked = [row for row in rows if any(part in row.name for part in options.only)]
        missing = [(row, s) for row in picked for s in range(row.seeds) if row.summary(s) is None]
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            futures = [pool.submit(run, row, seed) for row, seed in missing]
            for number, future in enumerate(concurrent.futures.as_completed(futures), start=1):
                print(f"[{number}/{len(missing)}] {future.result()}", flush=True)
    report(rows)


if __name__ == "__main__":
    main()
