"""What regularizers do for levels that training did not meet.

    python benchmarks/generalization.py                  # everything that is not done yet
    python benchmarks/generalization.py --only sac_L2    # names that contain this
    python benchmarks/generalization.py --report         # only write the table again

`generalization.yaml` has tasks, agents and regularizers. Training meets `env.levels` levels,
evaluations take other seeds: `held-out` is the mean of the newest evaluations, `training` that of
the newest episodes of training, by the policy that explores.
"""

from __future__ import annotations

import shlex
import textwrap
from typing import Any, NamedTuple

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
from scipy import stats

from neuraxis.training.analysis import statistics
from neuraxis.training.storage.stored_run import StoredRun

KEPT = RESULTS / "generalization"


class Score(NamedTuple):
    """How a regularizer did: means over the seeds, and the 95 % interval of the first."""

    each: np.ndarray  # held-out, by seed
    held_out: float
    low: float
    high: float
    training: float
    seeds: int


Scores = dict[str, Score]
"""By regularizer."""
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
        "helps (**+**) or harms (**-**) where p < 0.05 in Dunnett's test of all of them against",
        "`none`.",
        "In the pictures the band is the interval of `none`, and | the return in training.",
    ]
    found = plan()
    for task, words in found["tasks"].items():
        measured: dict[str, Scores] = {}
        for agent in words["agents"]:
            scores = measure(rows(found, task, agent))
            if NONE in scores:
                measured[agent] = scores
                lines += table(f"{words['title']}: {agent}", scores, found["regularizers"])
        if measured:
            plot(task, words["title"], measured)
            lines += ["", f"![{words['title']}](generalization_{task}.png)"]
    lines += ["", f"{versions()}.", ""]
    (RESULTS / "generalization.md").write_text("\n".join(lines))


def measure(experiments: dict[str, Experiment]) -> Scores:
    """The scores of what was run."""
    for experiment in experiments.values():
        keep(experiment, KEPT)
    found = {name: runs for name, row in experiments.items() if (runs := kept(row, KEPT))}
    return {name: score(runs, experiments[name]) for name, runs in found.items()}


def table(title: str, scores: Scores, words: dict[str, str]) -> list[str]:
    """A section."""
    lines = ["", f"## {title}", "", "| regularizer | words | held-out | training | | seeds |"]
    lines.append("|---|---|--:|--:|---|--:|")
    signs = verdicts(scores)
    for name, (_, mean, low, high, seen, seeds) in scores.items():
        lines.append(
            f"| {name} | `{words[name]}` | {mean:.2f} [{low:.2f}, {high:.2f}] | {seen:.2f} | "
            f"{signs.get(name, '')} | {seeds} |"
        )
    return lines


def score(runs: list[StoredRun], row: Experiment) -> Score:
    """The held-out return with its interval, the return in training, and the number of seeds."""
    scores = np.array([evaluations(run, row)[-NEWEST:].mean() for run in runs])
    mean, low, high = statistics.estimate(statistics.mean, [scores])
    seen = np.mean([run.curve("episode/return")[-NEWEST:, 1].mean() for run in runs])
    return Score(scores, mean, low, high, float(seen), len(runs))


def plot(task: str, title: str, measured: dict[str, Scores]) -> None:
    """Draws the held-out returns with their intervals, and those in training, by agent."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(
        ncols=len(measured),
        figsize=(2 + 2.6 * len(measured), 3.8),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    names = list(max(measured.values(), key=len))
    for axes, (agent, scores) in zip(panels[0], measured.items(), strict=True):
        for name, (_, mean, low, high, seen, _) in scores.items():
            place = names.index(name)
            axes.plot([low, high], [place, place], color="C0", lw=2)
            axes.plot(mean, place, "o", color="C0", label="held-out" if not place else None)
            axes.plot(seen, place, "|", color="0.4", ms=10, label="training" if not place else None)
        axes.axvspan(*scores[NONE][2:4], color="C0", alpha=0.12, lw=0)
        axes.set(title=agent, xlabel="episode return")
        axes.set_yticks(range(len(names)), names)
    panels[0][0].invert_yaxis()
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8)
    figure.suptitle("\n".join(textwrap.wrap(title, 22 * len(measured) + 20)), fontsize=10)
    figure.savefig(RESULTS / f"generalization_{task}.png", dpi=80)
    plt.close(figure)


def verdicts(scores: Scores) -> dict[str, str]:
    """Whether each regularizer helps (+) or harms (-), by Dunnett's test against `none`."""
    names = [name for name in scores if name != NONE]
    base = scores[NONE]
    found = stats.dunnett(*(scores[name].each for name in names), control=base.each)
    return {
        name: ("**+**" if scores[name].held_out > base.held_out else "**-**") if p < 0.05 else ""
        for name, p in zip(names, found.pvalue, strict=True)
    }


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
