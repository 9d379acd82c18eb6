"""Learning evidence: the newest policy of each experiment and seed, against its bar.

    python benchmarks/learning.py                      # everything that is not done yet
    python benchmarks/learning.py --only cartpole_ppo  # experiments whose name contains this
    python benchmarks/learning.py --report             # only write the tables and curves again

Call it again until nothing is left: a run that was cut off is resumed (see `evidence`).
`benchmarks/results/` has the table, the curves, and in `runs/` what they are made from, so that
`--report` gives them again without the runs.
"""

from __future__ import annotations

import numpy as np
import yaml
from evidence import (
    END,
    HERE,
    NEWEST,
    RESULTS,
    Experiment,
    evaluations,
    interval,
    keep,
    kept,
    options,
    run_missing,
    versions,
)

from neuraxis.training.storage.stored_run import StoredRun

KEPT = RESULTS / "runs"


def experiments() -> list[Experiment]:
    """Reads `learning.yaml`."""
    rows = yaml.safe_load((HERE / "learning.yaml").read_text())
    return [Experiment(name, tuple(row.pop("words").split()), **row) for name, row in rows.items()]


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
        keep(row, KEPT)
        if runs := kept(row, KEPT):
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
    mean = scores.mean()
    bar, holds = row.published or "control", ""
    if row.at_least is not None:
        bar, holds = f">= {row.at_least:g}", "yes" if mean >= row.at_least else "**no**"
    elif row.at_most is not None:
        bar, holds = f"< {row.at_most:g}", "yes" if mean < row.at_most else "**no**"
    lowest = min(evaluations(run, row)[-END:].min() for run in runs)
    best = np.array([run.score(f"best/{row.metric}") for run in runs], np.float64).mean()
    cpu = np.mean([run.summary["cpu_seconds"] for run in runs])
    steps = max(run.summary["steps"] for run in runs)
    digits = 1 if row.metric == "return" else 2
    each = ", ".join(f"{score:.{digits}f}" for score in scores)
    commits = ", ".join(sorted({run.summary.get("commit", "older") for run in runs}))
    return (
        f"| {row.name} | {steps:,} | {interval(scores, 2)} | "
        f"{bar} | {holds} | {lowest:.2f} | {best:.2f} | {cpu:.0f} | {each} | {commits} |"
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
    given, rows = options(__doc__), experiments()
    if not given.report:
        run_missing(
            [row for row in rows if any(part in row.name for part in given.only)], given.jobs
        )
    report(rows)


if __name__ == "__main__":
    main()
