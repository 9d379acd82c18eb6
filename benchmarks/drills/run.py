"""Drills: workers, nodes and drivers are killed while PPO learns CartPole through Ray.

    python benchmarks/drills/run.py                               # each drill once
    python benchmarks/drills/run.py --repeats 20 --jobs 2         # the evidence
    python benchmarks/drills/run.py --only kill_worker hang

Each repeat is a line of `benchmarks/results/drills.jsonl`; what stands there is not done again, so
a command that was cut off is given again. A repeat passes if training ends by itself in time, with
exit code 0 and the bar reached, with the restarts that it must have had, and no process is left;
what is resumed must also equal, line by line but for `time/...` and `ray/...`, a run that nobody
disturbed. The table goes to `benchmarks/results/drills.md`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from drills import COMMON, DRILLS, HERE, Drills
from driver import Failed
from machines import obstacle

from neuraxis.training.storage.atomic_files import read_json

RESULTS = HERE.parent / "results" / "drills.md"
RECORDS = RESULTS.with_suffix(".jsonl")
BAR = 475.0


@dataclass(frozen=True)
class Repeat:
    """What came of one repeat of a drill."""

    drill: str
    passed: bool
    said: str
    seconds: float
    commit: str


def repeat(drills: Drills, name: str, folder: Path) -> Repeat:
    """Does a drill once."""
    random.seed(folder.name)
    begin = time.monotonic()
    try:
        said = getattr(drills, name)(folder)
        summary = read_json(folder / "summary.json")
        status, score = summary.get("status"), summary.get("evaluate/return", math.nan)
        if status != "finished" or not score >= BAR:
            raise Failed(f"status {status}, return {score:.1f}; the bar is {BAR:g}")
        passed, said = True, f"{said}, return {score:.1f}"
    except Failed as failure:
        passed, said = False, str(failure)
    git = read_json(folder / "meta.json").get("git") or {}
    commit = git.get("commit", "unknown")[:7]
    return Repeat(name, passed, said, round(time.monotonic() - begin), commit)


def recorded() -> list[Repeat]:
    """The repeats that were done."""
    text = RECORDS.read_text() if RECORDS.exists() else ""
    return [Repeat(**json.loads(line)) for line in text.splitlines()]


def main() -> None:
    """Does the drills that are missing and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=DRILLS, default=DRILLS)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="drills at a time")
    options = parser.parse_args()
    if "network" in options.only and (reason := obstacle()):
        parser.error(f"network: {reason}; name the others after --only")
    begun = Counter(done.drill for done in recorded())
    due = [
        (name, number)
        for number in range(options.repeats)
        for name in options.only
        if number >= begun[name]
    ]
    with tempfile.TemporaryDirectory() as home:
        drills = Drills(Path(home))
        drills.undisturbed({name for name, _ in due})
        with ProcessPoolExecutor(options.jobs) as pool:
            turns = [
                pool.submit(repeat, drills, name, Path(home, f"{name}-{number}"))
                for name, number in due
            ]
            for turn in as_completed(turns):
                done = turn.result()
                with RECORDS.open("a") as file:
                    file.write(json.dumps(asdict(done)) + "\n")
                result = "passed" if done.passed else "FAILED"
                print(f"{done.drill}: {result}, {done.said}, {done.seconds:.0f} s", flush=True)
                RESULTS.write_text(report(recorded()))
    if not all(done.passed for done in recorded()):
        sys.exit(1)


def report(done: list[Repeat]) -> str:
    """The table, in Markdown."""
    rows, failures = [], [f"- {one.drill}: {one.said}" for one in done if not one.passed]
    for name in DRILLS:
        if own := [one for one in done if one.drill == name]:
            good = f"{sum(one.passed for one in own)} of {len(own)}"
            what = " ".join((getattr(Drills, name).__doc__ or "").split())
            median = statistics.median(one.seconds for one in own)
            rows.append(f"| {name} | {what} | {good} | {median:.0f} | {own[-1].said} |")
    commits = ", ".join(dict.fromkeys(one.commit for one in done))
    return "\n".join(
        [
            "# Drills",
            "",
            f"PPO learns CartPole-v1 (60,000 steps, bar {BAR:g}) with Ray workers while something",
            "is killed, raises or hangs. A repeat passes if the run ends by itself with exit code",
            "0, reaches the bar, had its restarts and leaves no process; a resumed run must also",
            "equal the undisturbed one, line by line but for `time/...` and `ray/...`.",
            "",
            "| drill | what happens | passed | median s | the last one |",
            "|---|---|--:|--:|---|",
            *rows,
            "",
            *(["Failures:", "", *failures, ""] if failures else []),
            f"By `python benchmarks/drills/run.py` at commits {commits}, one or two at a time,",
            f"Python {platform.python_version()}, {os.cpu_count()} CPU cores, shared. Each repeat",
            "is a line of [drills.jsonl](drills.jsonl). Every run is",
            "",
            "```",
            f"neuraxis train {' '.join(COMMON)} ray.workers=2",
            "```",
            "",
        ]
    )


if __name__ == "__main__":
    main()
