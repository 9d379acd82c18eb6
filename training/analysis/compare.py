"""Several runs side by side: groups, their statistics, and whether the seeds suffice to decide.

    comparison = compare(["runs/ppo", "runs/dqn"])
    for row in comparison.rows:
        print(row.group, row.environment, row.iqm, row.improvement)

Runs whose settings agree but for the seed are a group; a group's runs in one environment are a
cell. A group of several environments has one stratum each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import nearest, require
from ..storage.stored_run import StoredRun
from . import grouping
from .select import select
from .table import Cells, Row, conclude, scores_of, some, tabulate

PACKAGES = "scipy", "matplotlib", "jinja2", "plotly"
"""Of the table, and of the report that may be made of it."""
METRIC = "evaluate/return"
"""Of the newest policy; `of_best` gives that of checkpoint `best`."""


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        metric: what was compared.
        cells: the runs by (group, environment), both labels.
        rows: the table.
        verdicts: what can be decided and what cannot, a sentence each.
        notes: what to know about the numbers, a sentence each.
        differences: each group's values of each setting that differs, {key: {group: text}}.
    """

    metric: str
    cells: Cells
    rows: list[Row]
    verdicts: list[str]
    notes: list[str]
    differences: dict[str, dict[str, str]]

    @property
    def groups(self) -> list[str]:
        """Labels of the groups, in the order in which they were given."""
        return list(dict.fromkeys(group for group, _ in self.cells))

    @property
    def environments(self) -> list[str]:
        """Labels of the environments, likewise."""
        return list(dict.fromkeys(environment for _, environment in self.cells))


def compare(
    selections: Iterable[str | Path],
    metric: str = METRIC,
    by: Sequence[str] = (),
    mixed: bool = False,
) -> Comparison:
    """Compares runs that have finished, or were stopped by a callback.

    Args:
        selections: folders and W&B projects, see `select`.
        metric: a number of summary.json, else the newest one of metrics.jsonl.
        by: keys of the settings that tell groups apart; none: all that differ within an
            environment but the seed.
        mixed: allow several environments, and leave out runs without the metric.

    Raises:
        ValueError: no run, none that has finished, another environment or metric, an unknown key,
            or the extra `plots` is not installed.
        RunError: all runs are damaged, or W&B does not answer.
    """
    require("neuraxis compare", *PACKAGES)
    notes: list[str] = []
    found, damaged = select(selections, metric)
    if damaged:
        notes.append(f"Left out, damaged: {some(damaged)}.")
    found = _finished(found, notes)
    found = _measured(found, metric, mixed, notes)
    configs = [run.config for run in found]
    grouping.check(configs, by)
    keys = grouping.differing(configs)
    problem = [key for key in keys if grouping.is_environment(key, by)]
    environments = grouping.labels(configs, problem, always=["env.id"])
    _refuse_several(environments, mixed)
    rest = [key for key in keys if key not in problem]
    groups = grouping.labels(configs, () if by else rest, by, environments)
    cells = _cells(zip(groups, environments, found, strict=True), notes)
    _note_unfair(cells, rest, notes)
    if made := sorted({str(c["env.id"]) for c in configs if grouping.by_a_program(c)}):
        notes.append(f"{some(made)}: programs made these, so nothing but their names is compared.")
    rows = tabulate(cells, metric)
    verdicts = list(conclude(rows))
    return Comparison(metric, cells, rows, verdicts, notes, _differences(cells, rest))


UNEQUAL = 1.1
"""Ratio of the steps of two groups above which a note says so; the last rollout is whole."""


def of_best(metric: str) -> str:
    """The metric of checkpoint `best` that is like one of the newest policy.

    Raises:
        ValueError: There is none.
    """
    if not metric.startswith("evaluate/"):
        raise ValueError(f"--policy best: expected a metric evaluate/..., got --metric {metric}")
    return metric.replace("evaluate/", "best/")


def _finished(found: Sequence[StoredRun], notes: list[str]) -> list[StoredRun]:
    """The runs that have had their final evaluation; says which have not."""
    kept = [run for run in found if run.status in ("finished", "stopped")]
    others = [f"{run.name} ({run.status})" for run in found if run not in kept]
    if not kept:
        raise ValueError(f"none of these runs has finished: {some(others)}")
    if others:
        notes.append(f"Left out, not finished: {some(others)}.")
    if stopped := [run.name for run in kept if run.status == "stopped"]:
        notes.append(f"Were stopped before total_steps: {some(stopped)}.")
    ended = [run for run in kept if run.status == "finished"]
    if early := [run.name for run in ended if run.summary.get("reason")]:
        notes.append(f"Their final evaluation was ended by Ctrl-C: {some(early)}.")
    if cut := [run.name for run in kept if run.summary.get("evaluate/cut")]:
        notes.append(f"Their final evaluation cut episodes (eval.max_episode_steps): {some(cut)}.")
    if any(run.status == "failed" for run in found):
        notes.append("Runs that failed are not counted, so their group looks better than it is.")
    return kept


def _measured(
    found: Sequence[StoredRun], metric: str, mixed: bool, notes: list[str]
) -> list[StoredRun]:
    """The runs that have the metric. Raises ValueError if one has not, or with `mixed` if all."""
    kept = [run for run in found if run.score(metric) is not None]
    lacking = [run.name for run in found if run.score(metric) is None]
    if lacking and not (mixed and kept):
        known = set[str]().union(*(run.metrics for run in found))
        hint = nearest(metric, known - {metric})
        choices = "" if hint else f" (they have: {', '.join(sorted(known))})"
        rest = "; --mixed leaves them out" if kept else ""
        raise ValueError(f"{metric}: not measured by {some(lacking)}{hint}{choices}{rest}")
    if lacking:
        notes.append(f"Left out, without {metric}: {some(lacking)}.")
    return kept


def _refuse_several(environments: Sequence[str], mixed: bool) -> None:
    names = list(dict.fromkeys(environments))
    if len(names) > 1 and not mixed:
        counted = [f"{name} ({environments.count(name)})" for name in names]
        raise ValueError(
            f"runs of {len(names)} environments: {some(counted)}; their returns cannot be "
            "compared: give those of one, or --mixed"
        )


def _cells(found: Iterable[tuple[str, str, StoredRun]], notes: list[str]) -> Cells:
    """Runs by group and environment; of the same settings and seed only the last one counts."""
    cells: dict[tuple[str, str], dict[Any, StoredRun]] = defaultdict(dict)
    doubles = []
    for group, environment, run in found:
        ignored = [name for name in grouping.IGNORED if name != "seed"]
        same = tuple((k, v) for k, v in run.config.items() if not grouping.below(k, ignored))
        if same in cells[group, environment]:
            doubles.append(cells[group, environment][same].name)
        cells[group, environment][same] = run
    if doubles:
        notes.append(f"Left out, since a later run has its seed and settings: {some(doubles)}.")
    return {cell: list(runs.values()) for cell, runs in cells.items()}


def _note_unfair(cells: Cells, keys: Sequence[str], notes: list[str]) -> None:
    """Says where a group's runs are not repetitions, and where groups had different budgets."""
    for (group, environment), runs in cells.items():
        mixed = [key for key in grouping.differing([run.config for run in runs]) if key in keys]
        if mixed:
            notes.append(f"{group} in {environment}: its runs differ in {some(mixed)}, too.")
    for environment in dict.fromkeys(name for _, name in cells):
        own = {group: runs for (group, name), runs in cells.items() if name == environment}
        totals = {group: {run.config.get("total_steps", 0) for run in own[group]} for group in own}
        told = {group: " and ".join(f"{n:,}" for n in sorted(totals[group])) for group in own}
        taken = {group: float(scores_of(runs, "steps").mean()) for group, runs in own.items()}
        if len(set(told.values())) > 1:
            what = "had different total_steps"
        elif max(taken.values()) > UNEQUAL * min(taken.values()):
            told = {group: f"{steps:,.0f}" for group, steps in taken.items()}
            what = "took different numbers of steps"
        else:
            continue
        each = [f"{group} {steps}" for group, steps in told.items()]
        notes.append(f"{environment}: the groups {what}: {some(each)}.")


def _differences(cells: Cells, keys: Sequence[str]) -> dict[str, dict[str, str]]:
    configs: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for (group, _), runs in cells.items():
        configs[group] += [run.config for run in runs]
    return {
        key: {
            group: some(list(dict.fromkeys(grouping.show(c[key]) for c in own if key in c)))
            for group, own in configs.items()
        }
        for key in keys
    }
