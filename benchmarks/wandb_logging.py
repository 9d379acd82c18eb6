"""What W&B costs training, with a server that is healthy and with one that fails.

    python benchmarks/wandb_logging.py --rounds 12 --fault-rounds 3

Each turn is a process that trains PPO on CartPole-v1 and logs at the default interval; the sides
take turns, and each is compared with the `disabled` turn of its round. Steps, CPU seconds of the
training process and wall seconds are counted from WARM_STEPS to the end of training; W&B's own
processes and the wait at the end of the run stand apart. The server is the tests' and runs in this
process; it fails when half of the steps are done, or from the start. The table goes to
`benchmarks/results/logging.md`. (A file named logging.py would hide Python's own module.)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "logging.md"
WARM_STEPS, TOTAL_STEPS = 20_000, 120_000
SLOWER, COST = 0.10, 0.03  # bars: loss of steps per second; CPU seconds more
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
    from neuraxis.training import prepare

    marks: list[tuple[float, ...]] = []
    half = False

    def watch(run: Any) -> None:
        nonlocal half
        if run.steps >= (WARM_STEPS if not marks else TOTAL_STEPS):
            others = psutil.Process().children(recursive=True)
            apart = sum(sum(child.cpu_times()[:2]) for child in others)
            cpu, own = time.process_time(), time.thread_time()
            marks.append((run.steps, cpu, time.perf_counter(), cpu - own, apart))
        if not half and run.steps >= TOTAL_STEPS / 2:
            half = True
            print("half", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        session = prepare(load([*WORDS, f"wandb.mode={mode}", f"run_dir={folder}/run"]))
        session.run(watch)
        ended = time.perf_counter()
        rows = len(Path(folder, "run", "metrics.jsonl").read_text().splitlines())
    steps, cpu, wall, threads, apart = (end - begin for begin, end in zip(*marks, strict=True))
    found = {"rate": steps / wall, "cpu": cpu / steps, "rows": rows, "end": ended - marks[1][2]}
    print(json.dumps(found | {"threads": threads / cpu, "apart": apart / cpu}))


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
        f"Bars: steps/s at least {1 - SLOWER:.2f} of disabled; CPU seconds of the training process"
        f" at most {COST:.0%} more.",
        "",
        "| W&B | rounds | steps/s | of disabled | CPU-s | threads | processes | end, s | warnings"
        " | bars |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for side, turns in found.items():
        pairs = list(zip(turns, found["disabled"], strict=False))
        speed = statistics.median(one["rate"] / other["rate"] for one, other in pairs)
        ratios = [one["cpu"] / other["cpu"] - 1 for one, other in pairs]
        cost, error = statistics.mean(ratios), standard_error(ratios)
        spent = f"{cost:+.1%}" + (f" ± {2 * error:.1%}" if len(turns) > 1 else "")
        rate, threads, apart, end = (
            statistics.median(one[key] for one in turns)
            for key in ("rate", "threads", "apart", "end")
        )
        said = "/".join(str(n) for n in sorted({round(one["warnings"]) for one in turns}))
        met = verdict(speed, cost, error)
        cells = (
            f"{len(turns)}",
            f"{rate:,.0f}",
            f"{speed:.2f}",
            spent,
            f"{threads:.1%}",
            f"{apart:.1%}",
        )
        lines.append(f"| {' | '.join((side, *cells, f'{end:.1f}', said, met))} |")
    same = len({one["rows"] for turns in found.values() for one in turns}) == 1
    return "\n".join(
        [
            *lines,
            "",
            "CPU-s: of the training process, more than disabled: mean of rounds and two standard"
            " errors; threads: what W&B's threads have taken, counted by the system; the rest is"
            " noise between turns and what sharing costs; processes:"
            " CPU seconds of W&B's own ones, likewise as a share. End: from the last step to the"
            " end of the run, one episode of evaluation and the upload included.",
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
