"""Drills: workers, nodes and drivers are killed while PPO learns CartPole through Ray.

    python benchmarks/drills/run.py                               # each drill once
    python benchmarks/drills/run.py --repeats 20 --jobs 2         # the evidence
    python benchmarks/drills/run.py --only kill_worker hang

A repeat passes if training ends by itself in time, with exit code 0 and the bar reached, with the
restarts that it must have had, and no process is left; what is resumed must also equal, line by
line but for `time/...` and `ray/...`, a run that nobody disturbed. The table goes to
`benchmarks/results/drills.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "drills.md"
NEURAXIS = str(Path(sys.executable).parent / "neuraxis")
BAR = 475.0
SECONDS = 900.0  # after which a run counts as hung
ENDING_SECONDS = 20.0  # that processes have to end after their driver
AGENT_SECONDS = 90.0  # that two agents of Ray's own have, if the driver was killed
PAUSE = 5.0, 10.0  # seconds between kills; a worker takes 3 to start, more on a busy machine
COMMON = (
    *("experiment=cartpole_ppo", "total_steps=60_000", "wandb.mode=disabled"),
    *("eval.interval_steps=10_000", "eval.final_episodes=20", "checkpoint.interval_steps=5_000"),
    *("ray.max_restarts=10_000", "ray.timeout_seconds=60"),
)
TROUBLED = "env=troubled:Troubled-v0"


class Failed(Exception):
    """What a repeat did not keep to."""


@dataclass
class Training:
    """A `neuraxis` process, and all that it has started."""

    folder: Path
    words: tuple[str, ...]
    env: dict[str, str]
    started: float = field(default_factory=time.monotonic)
    family: dict[psutil.Process, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen([NEURAXIS, *self.words], env=self.env)

    def look(self) -> list[psutil.Process]:
        """The workers that are at work; takes note of every process."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        found = []
        for child in children:
            try:
                self.family[child] = name = child.name()
            except psutil.NoSuchProcess:
                continue
            if name.startswith("ray::Worker"):
                found.append(child)
        return found

    def running(self) -> bool:
        """Whether it still runs; takes note of its processes. Raises Failed if it hangs."""
        self.look()
        if self.process.poll() is not None:
            return False
        if time.monotonic() > self.started + SECONDS:
            self.process.kill()
            raise Failed(f"it hung for {SECONDS:g} s")
        time.sleep(0.05)
        return True

    def until(self, done: Callable[[], bool]) -> None:
        """Waits until something is so. Raises Failed if the run ends or hangs before."""
        while not done():
            if not self.running():
                raise Failed(f"it ended with exit code {self.process.returncode}, too early")

    def end(self, expected: int = 0) -> None:
        """Waits for the end. Raises Failed if it is another one."""
        while self.running():
            pass
        if self.process.returncode != expected:
            raise Failed(f"exit code {self.process.returncode} instead of {expected}")

    def alone(self) -> None:
        """Raises Failed if a process is left."""
        agents = {p for p, name in self.family.items() if name.endswith("Agent")}
        _, left = psutil.wait_procs(self.family.keys() - agents, timeout=ENDING_SECONDS)
        _, late = psutil.wait_procs(agents, timeout=AGENT_SECONDS)
        if left or late:
            names = sorted(self.family[process] for process in [*left, *late])
            raise Failed(f"left behind: {', '.join(names)}")

    def steps(self) -> int:
        """Of the last line of metrics.jsonl."""
        rows = lines(self.folder)
        return rows[-1]["steps"] if rows else 0


def lines(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl."""
    file = folder / "metrics.jsonl"
    whole, _, _ = file.read_text().rpartition("\n") if file.exists() else ("", "", "")
    return [json.loads(line) for line in whole.splitlines()]


def comparable(folder: Path) -> list[dict[str, Any]]:
    """The lines without what depends on clocks and faults."""
    hidden = ("time/", "ray/")
    return [{k: v for k, v in row.items() if not k.startswith(hidden)} for row in lines(folder)]


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

    def train(self, folder: Path, *words: str) -> Training:
        """Starts a run with two workers."""
        keys = {"ray.workers": "2"} | dict(word.split("=", 1) for word in (*COMMON, *words))
        named = [f"{key}={value}" for key, value in keys.items()]
        return Training(folder, ("train", "-q", *named, f"run_dir={folder}"), self.env)

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


def restarts(folder: Path, at_least: int) -> int:
    """How many there were. Raises Failed if they were too few: that was no drill."""
    found = round(max(row.get("ray/restarts", 0) for row in lines(folder)))
    if found < at_least:
        raise Failed(f"{found} restarts, expected at least {at_least}")
    return found


DRILLS = ("kill_worker", "raises", "hang", "node", "sigterm", "kill_driver")


def repeat(drills: Drills, name: str, folder: Path) -> tuple[bool, str, float]:
    """One repeat of a drill: whether it passed, what it did, and its seconds."""
    random.seed(folder.name)
    begin = time.monotonic()
    try:
        said = getattr(drills, name)(folder)
        summary = json.loads((folder / "summary.json").read_text())
        score = summary["evaluate/return"]
        if summary["status"] != "finished" or score < BAR:
            raise Failed(f"status {summary['status']}, return {score:.1f}; the bar is {BAR:g}")
        return True, f"{said}, return {score:.1f}", time.monotonic() - begin
    except Failed as failure:
        return False, str(failure), time.monotonic() - begin


def main() -> None:
    """Runs the drills and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=DRILLS, default=DRILLS)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="drills at a time")
    options = parser.parse_args()
    found: dict[str, list[tuple[bool, str, float]]] = {name: [] for name in options.only}
    with tempfile.TemporaryDirectory() as home:
        drills = Drills(Path(home))
        if {"sigterm", "kill_driver"} & found.keys():
            drills.undisturbed()
        with ProcessPoolExecutor(options.jobs) as pool:
            turns = {
                pool.submit(repeat, drills, name, Path(home, f"{name}-{number}")): name
                for number in range(options.repeats)
                for name in options.only
            }
            for turn in as_completed(turns):
                results = found[turns[turn]]
                results.append(turn.result())
                passed, said, seconds = results[-1]
                result = "passed" if passed else "FAILED"
                print(
                    f"{turns[turn]} {len(results)}: {result}, {said}, {seconds:.0f} s", flush=True
                )
                RESULTS.write_text(report(found, options))
    if not all(passed for results in found.values() for passed, _, _ in results):
        sys.exit(1)


def report(found: dict[str, list[tuple[bool, str, float]]], options: argparse.Namespace) -> str:
    """The table, in Markdown."""
    rows = []
    for name, results in found.items():
        if results:
            good = sum(passed for passed, _, _ in results)
            what = " ".join((getattr(Drills, name).__doc__ or "").split())
            median = statistics.median(seconds for _, _, seconds in results)
            cells = (name, what, f"{good} of {len(results)}", f"{median:.0f}", results[-1][1])
            rows.append("| " + " | ".join(cells) + " |")
    failures = [
        f"- {name} {number}: {said}"
        for name, results in found.items()
        for number, (passed, said, _) in enumerate(results)
        if not passed
    ]
    command = f"python benchmarks/drills/run.py --only {' '.join(found)}"
    command += f" --repeats {options.repeats} --jobs {options.jobs}"
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
            f"`{command}`, Python {platform.python_version()}, {os.cpu_count()} CPU cores, shared.",
            "",
            "```",
            f"neuraxis train {' '.join(COMMON)} ray.workers=2",
            "```",
            "",
        ]
    )


if __name__ == "__main__":
    main()
