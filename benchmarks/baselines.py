"""Our agents beside Stable-Baselines3's: the same environments, steps, seeds and machine.

    python benchmarks/baselines.py                     # everything that is not done yet
    python benchmarks/baselines.py --only cartpole     # pairs whose name contains this
    python benchmarks/baselines.py --report            # only write the table and curves again

`baselines.yaml` has the pairs. Ours and theirs run on the same machine, in the same hours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import yaml
from evidence import (
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

from neuraxis.training.analysis import statistics
from neuraxis.training.storage.stored_run import StoredRun

KEPT = RESULTS / "baselines"
OURS, THEIRS = "ours", "Stable-Baselines3"


@dataclass(frozen=True)
class Pair:
    """The same task, learned by our agent and by theirs."""

    name: str
    ours: str
    """Words of `neuraxis train`."""
    theirs: str
    """Words of `neuraxis baseline`."""
    seeds: int = 5

    def sides(self) -> dict[str, Experiment]:
        """What each side runs."""
        ours = Experiment(f"{self.name}/ours", tuple(self.ours.split()), self.seeds)
        words = tuple(self.theirs.split())
        theirs = Experiment(f"{self.name}/theirs", words, self.seeds, program="baseline")
        return {OURS: ours, THEIRS: theirs}


def pairs() -> list[Pair]:
    """Reads `baselines.yaml`."""
    rows = yaml.safe_load((HERE / "baselines.yaml").read_text())
    return [Pair(name, **row) for name, row in rows.items()]


def report() -> None:
    """Writes the table and a picture of all pairs."""
    found = {pair: runs for pair in pairs() if all((runs := kept_of(pair)).values())}
    lines = [
        "# Our agents and Stable-Baselines3's",
        "",
        "`python benchmarks/baselines.py`: each side has its presets (theirs: rl-baselines3-zoo's",
        "numbers); environment, steps, seeds and evaluations are the same. A score is the mean of",
        f"the last {NEWEST} evaluations of a seed, of the newest weights. Below: mean over seeds,",
        "with five of them its 95 % bootstrap interval, and the test of Games and Howell at",
        f"{1 - statistics.CONFIDENCE:.0%}. CPU and wall seconds are means of a run, evaluations",
        "included; two runs at a time shared the machine's two cores with other work, so CPU",
        "seconds say more.",
        "",
        "| task | steps | ours | Stable-Baselines3 | verdict | CPU s | wall s | seeds |",
        "|---|--:|--:|--:|---|--:|--:|--:|",
        *(line(pair, runs) for pair, runs in found.items()),
        "",
        "![curves](baselines.png)",
        *("", "## Commands", "", "For seeds 0, 1, ...", "", "```"),
    ]
    lines += [
        f"neuraxis {row.program} {' '.join(row.words)}  # {row.name}"
        for pair in found
        for row in pair.sides().values()
    ]
    (RESULTS / "baselines.md").write_text("\n".join([*lines, "```", "", f"{versions()}.", ""]))
    plot(found)


def kept_of(pair: Pair) -> dict[str, list[StoredRun]]:
    """The committed runs of both sides."""
    for row in pair.sides().values():
        keep(row, KEPT)
    return {side: kept(row, KEPT) for side, row in pair.sides().items()}


def line(pair: Pair, runs: dict[str, list[StoredRun]]) -> str:
    """A line of the table."""
    scores = [
        np.array([evaluations(run, row)[-NEWEST:].mean() for run in runs[side]])
        for side, row in pair.sides().items()
    ]
    steps, cpu, wall = (
        [np.mean([run.summary[key] for run in own]) for own in runs.values()]
        for key in ("steps", "cpu_seconds", "seconds")
    )
    return (
        f"| {pair.name} | {max(steps):,.0f} | {interval(scores[0])} | {interval(scores[1])} | "
        f"{verdict(*scores)} | {cpu[0]:.0f} / {cpu[1]:.0f} | {wall[0]:.0f} / {wall[1]:.0f} | "
        f"{min(map(len, scores))} |"
    )


def verdict(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Which side is above, if the seeds show it."""
    if min(len(ours), len(theirs)) < statistics.FEW:
        return "too few seeds"

    for side, x, y in ((OURS, ours, theirs), (THEIRS, theirs, ours)):
        if statistics.p_above([x], [y], groups=2) < 1 - statistics.CONFIDENCE:
            return f"{side} above"
    return "no difference shown"


def plot(found: dict[Pair, dict[str, list[StoredRun]]]) -> None:
    """Draws the curves of all seeds, ours and theirs, a panel for each pair."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    across = 4
    down = max(1, -(-len(found) // across))
    figure, panels = plt.subplots(
        down, across, figsize=(4 * across, 2.8 * down), layout="constrained", squeeze=False
    )
    for panel, (pair, runs) in zip(panels.flat, found.items(), strict=False):
        for number, own in enumerate(runs.values()):
            for run in own:
                panel.plot(*run.curve("evaluate/return").T, color=f"C{number}", lw=1, alpha=0.8)
        panel.set_title(pair.name, fontsize=10)
        panel.ticklabel_format(axis="x", style="sci", scilimits=(3, 4))
    for panel in panels.flat[len(found) :]:
        panel.axis("off")
    handles = [Line2D([], [], color=f"C{number}") for number in range(2)]
    figure.legend(handles, [OURS, THEIRS], loc="outside upper right", ncols=2)
    figure.supxlabel("environment steps")
    figure.supylabel("return of the newest weights")
    figure.savefig(RESULTS / "baselines.png", dpi=80)
    plt.close(figure)


def main() -> None:
    """Runs what is missing, both sides of a seed after each other, then reports."""
    given = options(__doc__)
    picked = [pair for pair in pairs() if any(part in pair.name for part in given.only)]
    if not given.report:
        run_missing([row for pair in picked for row in pair.sides().values()], given.jobs)
    report()


if __name__ == "__main__":
    main()
