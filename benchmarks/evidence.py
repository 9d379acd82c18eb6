"""Runs of evidence: what is trained on which seeds, and what is kept of it.

A run that was cut off is resumed, a finished one is kept. Runs lie in `benchmarks/runs/` (not
committed); what `neuraxis compare` reads of each is copied to where it is committed: settings,
summary and a few points. Tables are made from these.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from neuraxis.configs import dump
from neuraxis.configs.text import parse
from neuraxis.training.analysis import statistics
from neuraxis.training.storage import stored_run
from neuraxis.training.storage.atomic_files import read_json
from neuraxis.training.storage.stored_run import StoredRun

HERE = Path(__file__).parent
RUNS, RESULTS = HERE / "runs", HERE / "results"
POINTS = {"evaluate/return": 32, "episode/return": 12, "final/return": 1}  # kept of each curve
POINTS |= {"evaluate/success": 32, "episode/success": 12}
COMMON = ("wandb.mode=disabled", "eval.episodes=20")
NEWEST = 3  # evaluations whose mean scores a run
END = 5  # evaluations at the end that show whether the curve stays


@dataclass(frozen=True)
class Experiment:
    """What is trained, on how many seeds, and what it must reach."""

    name: str
    words: tuple[str, ...]
    """Of the program; `$runs` is the folder of all runs, `$seed` the seed."""
    seeds: int
    at_least: float | None = None
    at_most: float | None = None
    published: str | None = None
    """What others have reached, where there is no bar."""
    metric: str = "return"  # or success
    program: str = "train"  # or baseline, which begins again where it was cut off

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
        if self.program == "train" and (folder / "checkpoints" / "last").exists():
            return [*program, "resume", "-q", str(folder)]
        shutil.rmtree(folder, ignore_errors=True)
        own = [Template(word).substitute(runs=RUNS, seed=seed) for word in self.words]
        given = {word.partition("=")[0] for word in own}
        common = [word for word in COMMON if word.partition("=")[0] not in given]
        return [*program, self.program, "-q", *own, *common, f"seed={seed}", f"run_dir={folder}"]


def run(experiment: Experiment, seed: int) -> str:
    """Runs one seed to its end and says what came out."""
    done = subprocess.run(experiment.command(seed), capture_output=True, text=True)
    summary = experiment.summary(seed)
    if summary is None:
        return f"{experiment.name} s{seed}: FAILED {done.stderr.strip()[-300:]}"
    curve = evaluations(stored_run.read(experiment.folder(seed)), experiment)
    return f"{experiment.name} s{seed}: {curve[-NEWEST:].mean():.2f}"


def run_missing(experiments: Sequence[Experiment], jobs: int) -> None:
    """Runs all seeds that are not finished, so many at a time."""
    missing = [(row, s) for row in experiments for s in range(row.seeds) if row.summary(s) is None]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(run, row, seed) for row, seed in missing]
        for number, future in enumerate(concurrent.futures.as_completed(futures), start=1):
            print(f"[{number}/{len(missing)}] {future.result()}", flush=True)


def evaluations(run: StoredRun, row: Experiment) -> np.ndarray:
    """The mean returns, or the shares of successes, of the evaluations during training [E]."""
    return run.curve(f"evaluate/{row.metric}")[:, 1]


def keep(experiment: Experiment, place: Path) -> None:
    """Copies what `neuraxis compare` reads of the finished runs to a folder that is committed."""
    for seed in range(experiment.seeds):
        source, target = experiment.folder(seed), place / experiment.name / f"s{seed}"
        if experiment.summary(seed) is None:
            continue
        target.mkdir(parents=True, exist_ok=True)
        settings = parse((source / "config.yaml").read_text()) | {"run_dir": None}
        text = dump(settings).replace(str(RUNS), "benchmarks/runs")
        (target / "config.yaml").write_text(text)
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


def kept(experiment: Experiment, place: Path) -> list[StoredRun]:
    """The committed runs, by seed."""
    folders = (place / experiment.name / f"s{seed}" for seed in range(experiment.seeds))
    return [stored_run.read(folder) for folder in folders if folder.exists()]


def interval(scores: Sequence[float] | np.ndarray, digits: int = 1) -> str:
    """The mean of seeds and, with enough of them, its 95 % bootstrap interval."""
    found = statistics.estimate(statistics.mean, [np.array(scores, np.float64)])
    mean, low, high = (f"{bound:.{digits}f}" for bound in found)
    return mean if np.isnan(found[1]) else f"{mean} [{low}, {high}]"


def versions() -> str:
    """Versions and machine, in a sentence."""
    import gymnasium
    import torch

    return (
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"gymnasium {gymnasium.__version__}, {platform.machine()}, one thread a run"
    )


def options(doc: str | None) -> argparse.Namespace:
    """The arguments that every runner of evidence takes."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[""], help="parts of experiments' names")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once (default 2)")
    parser.add_argument("--report", action="store_true", help="run nothing, write the results")
    return parser.parse_args()
