"""Whether transfer is worth it: steps to the bar of a target task, from scratch and from elsewhere.

    python benchmarks/transfer.py                     # everything that is not done yet
    python benchmarks/transfer.py --only longer_pole  # pairs whose name contains this
    python benchmarks/transfer.py --report            # only write the table and curves again

`transfer.yaml` has the pairs. A run starts from the source of its own seed. It has reached the bar
at the first of two evaluations in a row whose mean is there; if it never is, its length counts. The
steps of the source are not counted.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from string import Template

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

KEPT = RESULTS / "transfer"
SEEDS = 5
SCRATCH = "scratch"


@dataclass(frozen=True)
class Pair:
    """Sources, and a target that is learned in several ways."""

    name: str
    title: str
    bar: float
    sources: dict[str, str]
    """Words of each."""
    target: str
    """Words of every way; `$NAME` is the run of a source."""
    ways: dict[str, str]
    """What is added to them."""

    def before(self) -> list[Experiment]:
        """The sources."""
        return [self._experiment(name, words) for name, words in self.sources.items()]

    def rows(self) -> dict[str, Experiment]:
        """What learns the target, by way."""
        return {
            way: self._experiment(way.replace(",", "").replace(" ", "_"), f"{self.target} {words}")
            for way, words in self.ways.items()
        }

    def _experiment(self, name: str, words: str) -> Experiment:
        places = {source: f"$runs/{self.name}/{source}/s$seed" for source in self.sources}
        given = shlex.split(Template(words).safe_substitute(places))
        return Experiment(f"{self.name}/{name}", tuple(given), SEEDS)

    def steps_to_bar(self, run: StoredRun) -> tuple[float, bool]:
        """Steps until the bar was reached, or all that there were; and whether it was."""
        steps, returns = run.curve("evaluate/return").T
        reached = np.flatnonzero((returns[:-1] + returns[1:]) / 2 >= self.bar)
        return float(steps[reached[0] if len(reached) else -1]), len(reached) > 0


def pairs() -> list[Pair]:
    """Reads `transfer.yaml`."""
    rows = yaml.safe_load((HERE / "transfer.yaml").read_text())
    return [Pair(name, **row) for name, row in rows.items()]


def report() -> None:
    """Writes the table and a picture of each pair."""
    lines = [
        "# Transfer",
        "",
        f"`python benchmarks/transfer.py`: {SEEDS} seeds, means and 95 % bootstrap intervals. Each",
        "run starts from the source of its own seed, whose steps are not counted. `steps to the",
        "bar` is the first of two evaluations in a row whose mean is there, or the whole run where",
        "that never comes (`reached` says of how many); `share` is that of learning from scratch;",
        f"`newest` is the mean of the last {NEWEST} evaluations.",
    ]
    commands: list[str] = []
    for pair in pairs():
        lines += section(pair)
        rows = (*pair.before(), *pair.rows().values())
        commands += [f"neuraxis train {shell(row.words)}  # {row.name}" for row in rows]
    lines += ["", "## Commands", "", "For seeds 0, 1, ...; `$runs` has all runs.", ""]
    lines += ["```", *commands, "```", "", f"{versions()}.", ""]
    (RESULTS / "transfer.md").write_text("\n".join(lines))


def shell(words: tuple[str, ...]) -> str:
    """Words as a shell takes them, which fills in `$runs` and `$seed`."""
    return " ".join(f'"{word}"' if {*word} & {*"${}*[]"} else word for word in words)


def section(pair: Pair) -> list[str]:
    """What the table says of a pair, and its picture; nothing while there are no runs."""
    rows = pair.rows()
    for row in (*pair.before(), *rows.values()):
        keep(row, KEPT)
    found = {way: runs for way, row in rows.items() if (runs := kept(row, KEPT))}
    if SCRATCH not in found:
        return []
    base = float(np.mean([pair.steps_to_bar(run)[0] for run in found[SCRATCH]]))
    plot(pair, found)
    return [
        *("", f"## {pair.title} (`{pair.name}`)", "", f"The bar is {pair.bar:g}.", ""),
        "| way | steps to the bar | share | reached | newest | seeds |",
        "|---|--:|--:|--:|--:|--:|",
        *(line(pair, rows[way], way, runs, base) for way, runs in found.items()),
        *("", f"![curves](transfer_{pair.name}.png)"),
    ]


def line(pair: Pair, row: Experiment, way: str, runs: list[StoredRun], base: float) -> str:
    """A line of the table."""
    steps, reached = zip(*(pair.steps_to_bar(run) for run in runs), strict=True)
    mean, low, high = statistics.estimate(statistics.mean, [np.array(steps)])
    newest = np.mean([evaluations(run, row)[-NEWEST:].mean() for run in runs])
    return (
        f"| {way} | {mean:,.0f} [{low:,.0f}, {high:,.0f}] | {mean / base:.2f} | "
        f"{sum(reached)} of {len(runs)} | {newest:.2f} | {len(runs)} |"
    )


def plot(pair: Pair, found: dict[str, list[StoredRun]]) -> None:
    """Draws the mean evaluation of each way, and between the lowest and the highest seed."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    for way, runs in found.items():
        curves = [run.curve("evaluate/return").T for run in runs]
        steps = np.linspace(max(c[0][0] for c in curves), min(c[0][-1] for c in curves), 60)
        values = np.array([np.interp(steps, *curve) for curve in curves])
        (drawn,) = axes.plot(steps, values.mean(0), label=way, lw=1.8)
        axes.fill_between(steps, values.min(0), values.max(0), color=drawn.get_color(), alpha=0.12)
    axes.axhline(pair.bar, color="0.4", ls="--", lw=1, label="bar")
    axes.set(xlabel="environment steps of the target", ylabel="episode return", title=pair.title)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(RESULTS / f"transfer_{pair.name}.png", dpi=80)
    plt.close(figure)


def main() -> None:
    """Runs what is missing, the sources first, then reports."""
    given = options(__doc__)
    picked = [pair for pair in pairs() if any(part in pair.name for part in given.only)]
    if not given.report:
        run_missing([row for pair in picked for row in pair.before()], given.jobs)
        run_missing([row for pair in picked for row in pair.rows().values()], given.jobs)
    report()


if __name__ == "__main__":
    main()
