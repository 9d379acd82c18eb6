"""What regularizers do for levels and dynamics beyond those of training.

    python benchmarks/generalization.py                  # everything that is not done yet
    python benchmarks/generalization.py --only levels    # names that contain this, as levels_dqn_l2
    python benchmarks/generalization.py --report         # only write the table again

`generalization.yaml` has tasks, agents and regularizers. Training meets `env.levels` levels,
evaluations take other seeds: `held-out` is the mean of the newest evaluations, `training` that of
the newest episodes of training, by the policy that explores.
"""

from __future__ import annotations

import shlex
from typing import Any

import numpy as np
import yaml
from evidence import (
    HERE,
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
from neuraxis.training.storage.stored_run import StoredRun

KEPT = RESULTS / "generalization"
SEEDS = 5
NONE = "none"
COMMON = ("eval.episodes=50", "eval.final_episodes=1")


def plan() -> dict[str, Any]:
    """Reads `generalization.yaml`."""
    return yaml.safe_load((HERE / "generalization.yaml").read_text())


def rows(found: dict[str, Any], task: str, agent: str) -> dict[str, Experiment]:
    """What a plan trains for an agent on a task, by regularizer."""
    words = found["tasks"][task]
    return {
        name: Experiment(
            "_".join((task, agent, name.replace(" ", "_"))),
            (*shlex.split(f"{words['agents'][agent]} {words['words']} {more}"), *COMMON),
            SEEDS,
        )
        for name, more in found["regularizers"].items()
    }


def report() -> None:
    """Writes the table of every task and agent that has runs."""
    lines = [
        "# Generalization",
        "",
        f"`python benchmarks/generalization.py`: {SEEDS} seeds, means, 95 % bootstrap intervals.",
        f"`held-out`: the last {NEWEST} evaluations, of 50 episodes each with other seeds",
        "than training's levels have; `training`: the newest episodes of training. A regularizer",
        "helps (**+**) or harms (**-**) where its interval and that of `none` are apart.",
    ]
    found = plan()
    for task, words in found["tasks"].items():
        for agent in words["agents"]:
            experiments = rows(found, task, agent)
            lines += table(f"{words['title']}: {agent}", experiments, found["regularizers"])
    lines += ["", f"{versions()}.", ""]
    (RESULTS / "generalization.md").write_text("\n".join(lines))


def table(title: str, experiments: dict[str, Experiment], words: dict[str, str]) -> list[str]:
    """A section; nothing while there are no runs without a regularizer."""
    for experiment in experiments.values():
        keep(experiment, KEPT)
    found = {name: runs for name, row in experiments.items() if (runs := kept(row, KEPT))}
    if NONE not in found:
        return []
    held_out = {name: interval(found[name], experiments[name]) for name in found}
    lines = ["", f"## {title}", "", "| regularizer | words | held-out | training | | seeds |"]
    lines.append("|---|---|--:|--:|---|--:|")
    for name, runs in found.items():
        mean, low, high = held_out[name]
        seen = np.mean([run.curve("episode/return")[-NEWEST:, 1].mean() for run in runs])
        apart = verdict((low, high), held_out[NONE][1:])
        lines.append(
            f"| {name} | `{words[name]}` | {mean:.2f} [{low:.2f}, {high:.2f}] | {seen:.2f} | "
            f"{apart} | {len(runs)} |"
        )
    return lines


def interval(runs: list[StoredRun], row: Experiment) -> tuple[float, float, float]:
    """The mean held-out return and its interval."""
    scores = np.array([evaluations(run, row)[-NEWEST:].mean() for run in runs])
    return statistics.estimate(statistics.mean, [scores])


def verdict(own: tuple[float, float], base: tuple[float, ...]) -> str:
    """Whether an interval lies above or below another."""
    if own[0] > base[1]:
        return "**+**"
    return "**-**" if own[1] < base[0] else ""


def main() -> None:
    """Runs what is missing, two at a time, then reports."""
    given = options(__doc__)
    if not given.report:
        found = plan()
        every = [
            row
            for task, words in found["tasks"].items()
            for agent in words["agents"]
            for row in rows(found, task, agent).values()
        ]
        picked = [row for row in every if any(part in row.name for part in given.only)]
        run_missing(picked, given.jobs)
    report()


if __name__ == "__main__":
    main()
