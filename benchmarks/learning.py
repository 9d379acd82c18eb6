"""Learning evidence: the newest policy of each experiment and seed, against its bar.

    python benchmarks/learning.py                      # everything that is not done yet
    python benchmarks/learning.py --only cartpole_ppo  # experiments whose name contains this
    python benchmarks/learning.py --report             # only write the tables and curves again

A run that was cut off is resumed, a finished one is kept: call it again until nothing is left.
Runs lie in `benchmarks/runs/` (not committed). `benchmarks/results/` has the table, the curves, and
in `runs/` what `neuraxis compare` reads of each run: settings, summary and a few points. The table
is made from these, so `--report` gives it again without the runs.
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

import numpy as np
import yaml

from neuraxis.configs import dump
from neuraxis.configs.text import parse
from neuraxis.training.analysis import statistics
from neuraxis.training.storage import stored_run
from neuraxis.training.storage.atomic_files import read_json
from neuraxis.training.storage.stored_run import StoredRun

HERE = Path(__file__).parent
RUNS, RESULTS = HERE / "runs", HERE / "results"
KEPT = RESULTS / "runs"
POINTS = {"evaluate/return": 24, "episode/return": 12, "final/return": 1}  # kept of each curve
POINTS |= {"evaluate/success": 24, "episode/success": 12}
COMMON = ("wandb.mode=disabled", "eval.episodes=20")
NEWEST = 3  # evaluations whose mean scores a run
END = 5  # evaluations at the end that show whether the curve stays


@dataclass(frozen=True)
class Experiment:
    """A row of `learning.yaml`: what is trained, on how many seeds, and what it must reach."""

    name: str
    words: tuple[str, ...]
    seeds: int
    at_least: float | None = None
    at_most: float | None = None
    metric: str = "return"  # or success

    def folder(self, seed: int) -> Path:
        """Where the run of a seed lies."""
        return RUNS / self.name / f"s{seed}"

    def summary(self, seed: int) -> dict[str, Any] | None:
        """Of the finished run of a seed; None while there is none."""
        summary = read_json(self.folder(seed) / "summary.json")
        return summary if summary.get("status") == "finished" else None

    def command(self, seed: int) -> list[str]:
        """Trains a seed, or goes on where it was cut off."""
        folder = self.folder(seed)
        program = [str(Path(sys.executable).parent / "neuraxis")]
        if (folder / "checkpoints" / "last").exists():
            return [*program, "resume", "-q", str(folder)]
        shutil.rmtree(folder, ignore_errors=True)
        words = (*self.words, *COMMON, f"seed={seed}", f"run_dir={folder}")
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
    newest = evaluations(stored_run.read(experiment.folder(seed)), experiment)[-NEWEST:].mean()
    return f"{experiment.name} s{seed}: {newest:.2f}"


def evaluations(run: StoredRun, row: Experiment) -> np.ndarray:
    """The mean returns, or the shares of successes, of the evaluations during training [E]."""
    return run.curve(f"evaluate/{row.metric}")[:, 1]


def keep(experiment: Experiment) -> None:
    """Copies what `neuraxis compare` reads of the finished runs to where it is committed."""
    for seed in range(experiment.seeds):
        source, target = experiment.folder(seed), KEPT / experiment.name / f"s{seed}"
        if experiment.summary(seed) is None:
            continue
        target.mkdir(parents=True, exist_ok=True)
        settings = parse((source / "config.yaml").read_text()) | {"run_dir": None}
        (target / "config.yaml").write_text(dump(settings))
        commit = read_json(source / "meta.json")["git"]["commit"]
        summary = read_json(source / "summary.json") | {"commit": commit[:7]}
        (target / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        lines = [json.dumps(row) + "\n" for row in thin(stored_run.read_rows(source))]
        (target / "metrics.jsonl").write_text("".join(lines))


def thin(rows: list[dict[str, Any]]) -> list[dict[str, float]]:
    """About POINTS of each curve, the first and the last END among them, with five digits."""
    kept: dict[int, dict[str, float]] = {}
    for key, points in POINTS.items():
        own = [row for row in rows if row.get(key) is not None]
        places = np.linspace(len(own) - 1, 0, min(points, len(own))).round().astype(int)
        newest = range(max(0, len(own) - min(points, END)), len(own))
        for row in (own[place] for place in {*places.tolist(), *newest}):
            few = {name: float(f"{row[name]:.5g}") for name in ("time/seconds", key)}
            kept.setdefault(row["steps"], {"steps": row["steps"]}).update(few)
    return [kept[steps] for steps in sorted(kept)]


def kept(experiment: Experiment) -> list[StoredRun]:
    """The committed runs, by seed."""
    folders = (KEPT / experiment.name / f"s{seed}" for seed in range(experiment.seeds))
    return [stored_run.read(folder) for folder in folders if folder.exists()]


def report(rows: list[Experiment]) -> None:
    """Writes the table and a picture of the learning curves of each experiment."""
    RESULTS.mkdir(exist_ok=True)
    lines = [
        "# Learning results",
        "",
        f"`newest` scores a run: the mean of its last {NEWEST} evaluations in training, of 20",
        "greedy episodes each, of the weights as they were then; here the mean over seeds and its",
        f"95 % bootstrap interval. `lowest` is the lowest of the last {END} evaluations of a seed:",
        "whether the curve stays where it ends. `best` is checkpoint `best` in 100 episodes of",
        "other seeds: a checkpoint to deploy, but no evidence, as the best of many evaluations.",
        "Environments with goals are scored by their share of successes.",
        "`seeds` are the newest means of each seed; `commit` trained them. CPU seconds were taken",
        "on a machine that did other work, too.",
        "",
        "| experiment | steps | newest | bar | holds | lowest | best | CPU s | seeds | commit |",
        "|---|--:|--:|--:|---|--:|--:|--:|---|---|",
    ]
    for row in rows:
        keep(row)
        if runs := kept(row):
            lines.append(line(row, runs))
            plot(row, runs)
    lines += [
        "",
        "Commands (seeds 0, 1, ...), all from `python benchmarks/learning.py`:",
        "",
        "```",
    ]
    lines += [f"neuraxis train {' '.join(row.words)}  # {row.name}" for row in rows]
    lines += ["```", "", f"{versions()}.", ""]
    (RESULTS / "learning.md").write_text("\n".join(lines))


def line(row: Experiment, runs: list[StoredRun]) -> str:
    """A line of the table."""
    scores = np.array([evaluations(run, row)[-NEWEST:].mean() for run in runs])
    mean, low, high = statistics.estimate(statistics.mean, [scores])
    bar, holds = "control", ""
    if row.at_least is not None:
        bar, holds = f">= {row.at_least:g}", "yes" if mean >= row.at_least else "**no**"
    elif row.at_most is not None:
        bar, holds = f"< {row.at_most:g}", "yes" if mean < row.at_most else "**no**"
    lowest = min(evaluations(run, row)[-END:].min() for run in runs)
    interval = f"[{low:.2f}, {high:.2f}]" if len(runs) > 1 else "(one seed)"
    best = np.mean([run.summary[f"evaluate/{row.metric}"] for run in runs])
    cpu = np.mean([run.summary["cpu_seconds"] for run in runs])
    steps = max(run.summary["steps"] for run in runs)
    digits = 1 if row.metric == "return" else 2
    each = ", ".join(f"{score:.{digits}f}" for score in scores)
    commits = ", ".join(sorted({run.summary.get("commit", "older") for run in runs}))
    return (
        f"| {row.name} | {steps:,} | {mean:.2f} {interval} | "
        f"{bar} | {holds} | {lowest:.2f} | {best:.2f} | {cpu:.0f} | {each} | {commits} |"
    )


def versions() -> str:
    """Versions and machine, in a sentence."""
    import gymnasium
    import torch

    return (
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"gymnasium {gymnasium.__version__}, {platform.machine()}, one thread a run"
    )


def plot(row: Experiment, runs: list[StoredRun]) -> None:
    """Draws evaluation and training returns of all seeds against steps."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for run in runs:
        seed = run.config["seed"]
        axes.plot(*run.curve(f"episode/{row.metric}").T, color=f"C{seed}", alpha=0.25)
        evaluated = run.curve(f"evaluate/{row.metric}")
        axes.plot(*evaluated.T, color=f"C{seed}", lw=1.8, label=f"seed {seed}")
    if row.at_least is not None:
        axes.axhline(row.at_least, color="0.4", ls="--", lw=1, label="bar")
    axes.set(xlabel="environment steps", ylabel=f"episode {row.metric}", title=row.name)
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
