"""What W&B costs training, with a server that is healthy and with one that fails.

    python benchmarks/wandb_logging.py --rounds 12 --fault-rounds 3

Each turn is a process that trains PPO on CartPole-v1 and logs at the default interval, measured
from WARM_STEPS to the end of training. Steps per second are compared with the `disabled` turn of
the same round. CPU seconds differ by more than the bar between two turns of one side, so their
cost is taken within a turn: what W&B's threads and processes use, and by how much dearer the
training thread's steps are while W&B's threads work than just before and after. The server is the
tests' and runs in this process; it fails when half of the steps are done, or from the start. The
table goes to `benchmarks/results/logging.md`. (A file named logging.py would hide Python's own.)
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "logging.md"
WARM_STEPS, TOTAL_STEPS = 20_000, 120_000
SLOWER, COST = 0.10, 0.03  # bars: loss of steps per second; CPU seconds more
AT_WORK_SECONDS = 1e-3  # of W&B's threads in a rollout that counts as held up by them
NEIGHBOURS = 15  # rollouts on each side, with which those are compared
# side: wandb.mode, how the server fails, whether from the start
SIDES: dict[str, tuple[str, Any, bool]] = {
    "disabled": ("disabled", "", True),
    "offline": ("offline", "", True),
    "online": ("online", "", True),
    "online, server stopped midway": ("online", "stop", False),
    "online, server answers 500 midway": ("online", "error", False),
    "online, server hangs midway": ("online", "hang", False),
    "online, server hangs from the start": ("online", "hang", True),
    "online, key refused": ("online", "refuse", True),
}
WORDS = (
    *("env=CartPole-v1", "agent=ppo", "num_envs=8", f"total_steps={TOTAL_STEPS}", "compile=false"),
    *("eval.interval_steps=0", "eval.final_episodes=1", "checkpoint.interval_steps=0"),
)


def train(mode: str) -> None:
    """One turn, in a process of its own: prints `half` when it is there, at last what it found."""
    import psutil

    from neuraxis.configs import load
    from neuraxis.training import Callback, prepare

    marks: list[tuple[float, ...]] = []

    class Watch(Callback):
        half = False

        def on_update(self, run: Any, metrics: Any) -> None:
            if run.steps >= WARM_STEPS:
                others = psutil.Process().children(recursive=True)
                apart = sum(sum(child.cpu_times()[:2]) for child in others)
                own, cpu = time.thread_time(), time.process_time()
                marks.append((run.steps, own, cpu - own, apart, time.perf_counter()))
            if not self.half and run.steps >= TOTAL_STEPS / 2:
                self.half = True
                print("half", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        session = prepare(load([*WORDS, f"wandb.mode={mode}", f"run_dir={folder}/run"]))
        session.run([Watch()])
        ended = time.perf_counter()
        rows = len(Path(folder, "run", "metrics.jsonl").read_text().splitlines())
    steps, own, threads, apart, wall = np.diff(np.array(marks), axis=0).T
    held = held_up(own / steps, threads > AT_WORK_SECONDS) @ steps
    shares = np.array((threads.sum(), held, apart.sum())) / (own.sum() - held)
    found = {"rate": steps.sum() / wall.sum(), "rows": rows, "end": ended - marks[-1][-1]}
    print(json.dumps(found | dict(zip(("threads", "held", "apart"), shares, strict=True))))


def held_up(cost: np.ndarray, at_work: np.ndarray) -> np.ndarray:
    """By how much dearer steps were in the rollouts in which W&B worked, and in the next ones.

    Args:
        cost: (rollouts,) CPU seconds of the training thread per step.
        at_work: (rollouts,) whether W&B's threads have worked.

    Returns:
        (rollouts,) seconds per step, 0 where nothing held them up.
    """
    near = at_work.copy()
    near[1:] |= at_work[:-1]  # caches are still cold
    more = np.zeros_like(cost)
    for index in np.flatnonzero(near):
        around = slice(max(0, index - NEIGHBOURS), index + NEIGHBOURS + 1)
        undisturbed = cost[around][~near[around]]
        if undisturbed.size:
            more[index] = cost[index] - undisturbed.mean()
    return more


def turn(side: str) -> dict[str, float]:
    """Trains on one side, with a server of its own that fails as the side says."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.wandb_server import KEY, Server

    mode, fault, at_once = SIDES[side]
    with Server() as server:
        if fault and at_once:
            server.fail(fault)
        one = {"OMP_NUM_THREADS": "1", "WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
        command = [sys.executable, __file__, "--child", mode]
        process = subprocess.Popen(
            command, env=os.environ | one, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        with process:
            assert process.stdout is not None and process.stderr is not None
            line = process.stdout.readline()
            if fault and not at_once:
                server.fail(fault)
            output, errors = process.communicate()
        if process.returncode or line != "half\n":
            raise SystemExit(f"{side} failed:\n{errors[-2000:]}")
    found = json.loads(output.splitlines()[-1])
    return found | {"warnings": sum("wandb:" in text for text in errors.splitlines())}


def table(found: dict[str, list[dict[str, float]]], command: str) -> str:
    """The results, in Markdown."""
    lines = [
        "# What logging to W&B costs",
        "",
        f"PPO on CartPole-v1, {TOTAL_STEPS:,} steps, a row every 1,000; medians of rounds in which"
        " the sides take turns, ratios to the `disabled` turn of the same round.",
        "",
        f"Bars: at least {1 - SLOWER:.2f} of disabled's steps/s, at most {COST:.0%} more CPU time.",
        "",
        "| W&B | rounds | steps/s | of disabled | threads | held up | processes | CPU-s | end, s"
        " | warnings | bars |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for side, turns in found.items():
        pairs = list(zip(turns, found["disabled"], strict=False))
        speed = statistics.median(one["rate"] / other["rate"] for one, other in pairs)
        rate, end = (statistics.median(one[key] for one in turns) for key in ("rate", "end"))
        parts = [[one[key] for one in turns] for key in ("threads", "held", "apart")]
        total = [math.fsum(values) for values in zip(*parts, strict=True)]
        cost, error = statistics.mean(total), standard_error(total)
        spent = f"{cost:.1%}" + (f" ± {2 * error:.1%}" if len(turns) > 1 else "")
        said = "/".join(str(n) for n in sorted({round(one["warnings"]) for one in turns}))
        cells = (
            *(side, f"{len(turns)}", f"{rate:,.0f}", f"{speed:.2f}"),
            *(f"{statistics.mean(part):.1%}" for part in parts),
            *(spent, f"{end:.1f}", said, verdict(speed, cost, error)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    same = len({one["rows"] for turns in found.values() for one in turns}) == 1
    return "\n".join(
        [
            *lines,
            "",
            "Threads: CPU seconds of W&B's threads in the training process, as a share of"
            " training's. Held up: what training's own thread takes more while they work and in"
            " the rollout after. Processes: W&B's own. CPU-s: the three together, mean of rounds"
            " and two standard errors. End: from the last step to the end of the run, one episode"
            " of evaluation and the upload included.",
            f"Rows in metrics.jsonl: {'the same in every turn' if same else 'NOT the same'}.",
            "",
            f"`{command}`, wandb {version()}, one thread on a machine with two cores.",
            "",
        ]
    )


def standard_error(values: list[float]) -> float:
    """Of the mean; of one value, which says nothing, infinite."""
    if len(values) < 2:
        return float("inf")
    return statistics.stdev(values) / len(values) ** 0.5


def verdict(speed: float, cost: float, error: float) -> str:
    """Whether the bars are met; undecided where the cost may be on either side of its bar."""
    if speed < 1 - SLOWER or cost - 2 * error > COST:
        return "missed"
    return "met" if cost + 2 * error <= COST else "undecided"


def version() -> str:
    """Of W&B's client."""
    from importlib import metadata

    return metadata.version("wandb")


def main() -> None:
    """Measures and writes the table, or is one of the turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--fault-rounds", type=int, default=3, help="of them, with faulty servers")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        train(options.child)
        return
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for number in range(options.rounds):
        faulty = number < options.fault_rounds
        names = [side for side, (_, fault, _) in SIDES.items() if faulty or not fault]
        shift = 3 * number % len(names)  # no side always follows the same one
        for side in names[shift:] + names[:shift]:
            found[side].append(turn(side))
            print(f"{number + 1}/{options.rounds} {side}: {found[side][-1]}", flush=True)
    rounds = f"--rounds {options.rounds} --fault-rounds {options.fault_rounds}"
    RESULTS.write_text(table(found, f"python benchmarks/wandb_logging.py {rounds}"))
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
