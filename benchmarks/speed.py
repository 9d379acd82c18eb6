"""Training speed against Stable-Baselines3: env steps per CPU-second, sides in turn, medians.

    make bench                                         # all cases, five rounds each
    python benchmarks/speed.py --only ppo_cartpole_zoo --rounds 3
    python benchmarks/speed.py --sbx /tmp/sbx/bin/python    # beside SBX (JAX) as well

All sides have the same hyper-parameters, network, environment and one thread; each turn is a
process of its own, which warms up (imports, compilation, first rollouts) before its CPU seconds
are counted. The share of the arithmetic limit is the time that the products alone would take at
this core's peak over the time taken. The table goes to `benchmarks/results/speed.md`.
SBX has a virtual environment of its own: `pip install torch==2.13.0 sbx-rl gymnasium`.
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

from speed_cases import CASES, SBX, Case, model
from speed_report import PARTS, write

THEIRS = {"sb3": ("stable_baselines3", "sb3_contrib"), "sbx": ("sbx",)}
ONE_THREAD = {
    **{"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"},
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


def ours(case: Case, compiled: bool) -> dict[str, float]:
    """Trains with neuraxis."""
    from neuraxis.configs import load
    from neuraxis.training import Callback, prepare

    warm, total = case.steps
    with tempfile.TemporaryDirectory() as folder:
        words = (
            *(*case.words, f"run_dir={folder}", "wandb.mode=disabled", f"total_steps={total}"),
            *("eval.interval_steps=0", "checkpoint.interval_steps=0", "eval.final_episodes=1"),
            *(f"compile={str(compiled).lower()}", "log_interval_steps=1000000"),
        )
        session = prepare(load(words))
        marks: list[tuple[int, float, float]] = []
        spent: list[dict[str, float]] = []

        class Mark(Callback):
            def on_update(self, run: Any, metrics: Any) -> None:
                if run.steps >= warm:
                    marks.append((run.steps, time.process_time(), time.perf_counter()))
                    envs = {"environments": session.source.env_seconds}
                    spent.append({**session.profile.seconds, **envs})

        session.run([Mark()])
    passed = {name: seconds - spent[0][name] for name, seconds in spent[-1].items()}
    return _rates(marks[0], marks[-1]) | shares(passed, marks[-1][2] - marks[0][2])


def shares(seconds: dict[str, float], whole: float) -> dict[str, float]:
    """Shares of the whole wall time by `PARTS`, of what `Profile` and the source measured."""
    envs, learn = seconds["environments"], seconds["learn"]
    acting = seconds["collect"] - envs
    parts = (envs, acting, learn, whole - envs - acting - learn)
    return {name: part / whole for name, part in zip(PARTS, parts, strict=True)}


def theirs(case: Case, modules: tuple[str, ...]) -> dict[str, float]:
    """Trains with Stable-Baselines3, sb3-contrib or SBX."""
    import torch

    torch.set_num_threads(1)
    agent = model(case, modules)
    warm, total = case.steps
    agent.learn(warm)
    begin = (agent.num_timesteps, time.process_time(), time.perf_counter())
    agent.learn(total - warm, reset_num_timesteps=False)
    return _rates(begin, (agent.num_timesteps, time.process_time(), time.perf_counter()))


def _rates(begin: tuple[int, float, float], end: tuple[int, float, float]) -> dict[str, float]:
    steps, cpu, wall = (after - before for before, after in zip(begin, end, strict=True))
    return {"cpu": steps / cpu, "wall": steps / wall}


def limit(case: Case) -> float:
    """Env steps per second if nothing but the products took time, at this core's peak."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from neuraxis.configs import load
    from neuraxis.networks.products import product
    from neuraxis.training import prepare

    torch.set_num_threads(1)
    a = torch.randn(512, 512)
    seconds = []
    for _ in range(20):
        begin = time.perf_counter()
        product(a, a)
        seconds.append(time.perf_counter() - begin)
    peak = 2 * 512**3 / min(seconds)
    with tempfile.TemporaryDirectory() as folder:
        words = (*case.words, f"run_dir={folder}", "wandb.mode=disabled", "compile=false")
        config = load([*words, "total_steps=1000000"])
        session, starts = prepare(config), getattr(config.agent, "learning_starts", 0)
        while session.agent.steps < starts:
            session.agent.learn(session.source.next().to("cpu"))
        own: dict[Any, Any] = {torch.ops.neuraxis.affine: _flops}
        with FlopCounterMode(display=False, custom_mapping=own) as counter:
            rollout = session.source.next()
            session.agent.learn(rollout.to("cpu"))
        return rollout.steps * peak / counter.get_total_flops()


def _flops(x: Any, weight: Any, bias: Any, out_shape: Any = None) -> int:
    """Of `neuraxis::affine`, from shapes."""
    return 2 * x[0] * x[1] * weight[0]


def child(python: str, name: str, side: str) -> dict[str, float]:
    """Runs one measurement in a process of its own."""
    command = [python, __file__, "--child", name, side]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ONE_THREAD)
    if done.returncode:
        raise SystemExit(f"{name} {side} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(names: list[str], rounds: int, sbx: str | None) -> list[dict[str, Any]]:
    """Takes the sides in turn, `rounds` times; returns a row for each case and side.

    Args:
        names: Of the cases.
        rounds: Turns of each side.
        sbx: The Python that has SBX; None: without this side.
    """
    rows = []
    for name in names:
        case = CASES[name]
        sides = (*case.sides, "sbx") if sbx and name in SBX else case.sides
        found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for number in range(rounds):
            for side in sides:
                python = sbx if sbx and side == "sbx" else sys.executable
                found[side].append(child(python, name, side))
                rate = found[side][-1]["cpu"]
                print(f"{name} {number + 1}/{rounds} {side}: {rate:.0f}", flush=True)
        most = child(sys.executable, name, "limit")["cpu"] if "lstm" not in name else None
        for side in sides:
            cpu = statistics.median(rate["cpu"] for rate in found[side])
            wall = statistics.median(rate["wall"] for rate in found[side])
            pairs = zip(found[side], found["sb3"], strict=True)
            ratio = statistics.median(one["cpu"] / other["cpu"] for one, other in pairs)
            parts = [[rate.get(part, float("nan")) for part in PARTS] for rate in found[side]]
            rows.append(
                {"case": name, "side": side, "cpu": cpu, "wall": wall, "ratio": ratio}
                | {"bar": case.bars.get(side), "limit": most and cpu / most}
                | {"parts": [statistics.median(part) for part in zip(*parts, strict=True)]}
            )
    return rows


def memory() -> float:
    """Peak resident MiB of a whole CartPole run from the command line, W&B offline."""
    with tempfile.TemporaryDirectory() as folder:
        program = [
            str(Path(sys.executable).parent / "neuraxis"),
            "train",
            "-q",
            "total_steps=20000",
        ]
        process = subprocess.Popen([*program, f"run_dir={folder}/run"])
        return os.wait4(process.pid, 0)[2].ru_maxrss / 1024


def main() -> None:
    """Measures and writes the table, or is one of its turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sbx", metavar="PYTHON", help="the Python of an environment with SBX")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is None:
        rows = measure(options.only, options.rounds, options.sbx)
        write(rows, memory(), options.rounds)
        return
    name, side = options.child
    case = CASES[name]
    if side in THEIRS:
        print(json.dumps(theirs(case, THEIRS[side])))
    elif side == "limit":
        print(json.dumps({"cpu": limit(case)}))
    else:
        print(json.dumps(ours(case, side == "compiled")))


if __name__ == "__main__":
    main()
