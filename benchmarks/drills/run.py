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
import secrets
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from driver import Failed, Training, comparable, restarts
from machines import machines, obstacle

from neuraxis.training.files import read_json

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "drills.md"
RECORDS = RESULTS.with_suffix(".jsonl")
BAR = 475.0
PAUSE = 5.0, 10.0  # seconds between kills; a worker takes 3 to start, more on a busy machine
COMMON = (
    *("experiment=cartpole_ppo", "total_steps=60_000", "wandb.mode=disabled"),
    *("eval.interval_steps=10_000", "eval.final_episodes=20", "checkpoint.interval_steps=5_000"),
    *("ray.max_restarts=10_000", "ray.timeout_seconds=60"),
)
TROUBLED = "env=troubled:Troubled-v0"


class Drills:
    """The drills; each trains in `folder` and raises Failed, or returns what it did."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = {
            **os.environ,
            "PYTHONPATH": str(HERE),
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_AUTH_MODE": "token",
        }
        self.whole = home / "whole"

    def undisturbed(self) -> None:
        """The run that a resumed one must equal."""
        run = self.train(self.whole)
        run.end()
        run.alone()

    def train(self, folder: Path, *words: str, machine: tuple[str, ...] = ()) -> Training:
        """Starts a run with two workers."""
        keys = {"ray.workers": "2"} | dict(word.split("=", 1) for word in (*COMMON, *words))
        named = [f"{key}={value}" for key, value in keys.items()]
        return Training(folder, ("train", "-q", *named, f"run_dir={folder}"), self.env, machine)

    def kill_worker(self, folder: Path) -> str:
        """Kill -9 of a random worker, every few seconds once the run has learned since."""
        run = self.train(folder)
        kills, steps, moment = 0, 0, 0.0
        while run.running():
            if time.monotonic() < moment or run.steps() == steps or not (workers := run.look()):
                continue  # a worker that is killed before it has begun leads nowhere
            random.choice(workers).kill()
            kills += 1
            steps, moment = run.steps(), time.monotonic() + random.uniform(*PAUSE)
        run.end()
        run.alone()
        return f"{kills} kills, {restarts(folder, min(1, kills))} restarts"

    def raises(self, folder: Path) -> str:
        """An environment that raises with probability 1e-3 in each step."""
        run = self.train(folder, TROUBLED, "env.kwargs.raising=1e-3")
        run.end()
        run.alone()
        return f"{restarts(folder, 20)} restarts"

    def hang(self, folder: Path) -> str:
        """Environments that hang, each after 3,000 steps: killed after 30 seconds."""
        words = (TROUBLED, "env.kwargs.hang_after=3_000", "ray.timeout_seconds=30")
        run = self.train(folder, *words)
        run.end()
        run.alone()
        return f"{restarts(folder, 4)} restarts"

    def node(self, folder: Path) -> str:
        """Kill -9 of one of two nodes, with half of the four workers."""
        os.environ |= {key: self.env[key] for key in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE")}
        from ray.cluster_utils import Cluster  # Ray reads the mode when it is imported

        node = {"num_cpus": 2, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        try:
            second = cluster.add_node(num_cpus=2)
            cluster.wait_for_nodes()
            words = ("ray.workers=4", f"ray.address={cluster.address}")
            run = self.train(folder, *words)
            run.until(lambda: run.steps() > 10_000)
            cluster.remove_node(second, allow_graceful=False)
            run.end()
            run.alone()
        finally:
            cluster.shutdown()
        return f"{restarts(folder, 1)} restarts"

    def network(self, folder: Path) -> str:
        """One of two machines, which are network namespaces, is cut off and ends."""
        with machines(self.home / f"r{os.getpid()}", self.env) as both:
            words = ("ray.workers=4", f"ray.address={both.address}", "ray.timeout_seconds=30")
            run = self.train(folder, *words, machine=both.at(0))
            run.until(lambda: run.steps() > 10_000)
            both.lose(1)
            run.end()
            run.alone()
        return f"{restarts(folder, 1)} restarts"

    def sigterm(self, folder: Path) -> str:
        """SIGTERM to the driver at a random moment, as a pre-empted node gets it, then resume."""
        return self._resumed(folder, signal.SIGTERM, 130)

    def kill_driver(self, folder: Path) -> str:
        """Kill -9 of the driver at a random moment, then resume."""
        return self._resumed(folder, signal.SIGKILL, -signal.SIGKILL)

    def _resumed(self, folder: Path, number: signal.Signals, code: int) -> str:
        run = self.train(folder)
        moment = random.randint(6_000, 55_000)
        run.until(lambda: run.steps() >= moment and (folder / "checkpoints" / "last").exists())
        run.look()
        run.process.send_signal(number)
        run.end(code)
        reached = run.steps()
        resumed = Training(folder, ("resume", "-q", str(folder)), self.env)
        resumed.end()
        for ended in (run, resumed):
            ended.alone()
        if comparable(folder) != comparable(self.whole):
            raise Failed("metrics.jsonl differs from that of the undisturbed run")
        return f"at step {reached:,}, equal"


DRILLS = ("kill_worker", "raises", "hang", "node", "network", "sigterm", "kill_driver")


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
        if {"sigterm", "kill_driver"} & dict(due).keys():
            drills.undisturbed()
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
