"""The records of `time_to_score.py`, and the table that is made from them."""

from __future__ import annotations

import json
import os
import platform
import statistics
from typing import Any

import numpy as np
from evidence import RESULTS, RUNS
from speed_report import cpu
from time_to_score_cases import CASES, SIDES

from neuraxis.training.analysis.statistics import estimate, median

RECORDS = RUNS / "time_to_score.jsonl"
REPORT = RESULTS / "time_to_score.md"
HEAD = """\
# Wall time until it scores

Seconds by the clock from the start of a program, imports and compilation included, until the mean
return of its newest 20 training episodes has reached the bar: the median over seeds and its 95 %
bootstrap interval. Each turn is a process that has two cores and its library's own number of
threads; the sides take turns, seed by seed. A seed that never got there counts with the time at
which it gave up, and a number that may be larger has a `>`. CPU seconds and environment steps are
medians, too. Each library trains as its authors, or those of rl-baselines3-zoo, tuned it for this
environment; where nobody did, with its defaults.

| case | side | seconds | CPU seconds | steps | seeds that scored |
|---|---|--:|--:|--:|--:|"""


def read() -> list[dict[str, Any]]:
    """The turns that are done."""
    if not RECORDS.exists():
        return []
    return [json.loads(line) for line in RECORDS.read_text("utf-8").splitlines()]


def line(case: str, side: str, turns: list[dict[str, Any]]) -> str:
    """A line of the table."""
    missed = min((turn["seconds"] for turn in turns if not turn["reached"]), default=np.inf)
    scored = sum(turn["reached"] for turn in turns)

    def said(seconds: float) -> str:
        return f"{'> ' * bool(seconds >= missed)}{seconds:.1f}"

    value, low, high = estimate(median, [np.array([turn["seconds"] for turn in turns])])
    time = said(value) if np.isnan(low) else f"{said(value)} [{said(low)}, {said(high)}]"
    cpu_seconds, steps = (
        statistics.median(turn[key] for turn in turns) for key in ("cpu", "steps")
    )
    bar = f"{CASES[case].env} >= {CASES[case].bar:g}"
    return (
        f"| {bar} | {side} | {time} | {cpu_seconds:.1f} | {steps:,.0f} | {scored} of {len(turns)} |"
    )


def write() -> None:
    """Writes the table of all turns that are done."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in read():
        found.setdefault((row["case"], row["side"]), []).append(row)
    if not found:
        raise SystemExit(f"{RECORDS}: no turn is done")
    pairs = [(case, side) for case in CASES for side in SIDES if (case, side) in found]
    lines = [HEAD, *(line(*pair, found[pair]) for pair in pairs), "", "What each trained:", ""]
    for side in SIDES:
        own = [case for case, other in pairs if other == side]
        if not own:
            continue
        made = {
            f"{name} {number}"
            for case in own
            for row in found[case, side]
            for name, number in row["versions"].items()
        }
        runs = "; ".join(f"{case}: {SIDES[side].runs[case]}" for case in own)
        lines.append(f"- {side} ({', '.join(sorted(made))}). {runs}.")
    limits = ", ".join(
        f"{case} {CASES[case].seconds:,} s or {CASES[case].steps:,} steps"
        for case in dict.fromkeys(case for case, _ in pairs)
    )
    lines += [
        "",
        f"A side gave up where its own training ends, at the latest after: {limits}.",
        "CleanRL needs an older Gymnasium, whose LunarLander-v2 differs from v3 in its wind, which",
        "is off here. Its Pong is PongNoFrameskip-v4, which never repeats an action by chance, as",
        "the others' ALE/Pong-v5 does.",
        "",
        "All by `python benchmarks/time_to_score.py --cleanrl CLONE`; one turn alone, for example:",
        "`python benchmarks/peers/with_sb3.py sbx cartpole SEED`, or CleanRL's own script.",
        f"Python {platform.python_version()}, {os.cpu_count()} cores: {cpu()}.",
        "",
    ]
    RESULTS.mkdir(exist_ok=True)
    REPORT.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))
