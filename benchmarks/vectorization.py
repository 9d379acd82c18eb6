"""Which way to step environments is fastest, by what a step costs: `env.vectorization`, and Ray.

    python benchmarks/vectorization.py    # 7 minutes at a load of 11 on two cores

Eight environments that wait (1 to 100 ms a step), or that compute in Python (10 us to 10 ms).
Rollouts are collected with a small policy; the ways take turns, and the medians count. Waiting is
measured by the clock. Computing is measured by CPU time, because the machine is shared: a rollout
takes, on cores that are free, the learner's CPU time and that of the busiest process, or all of
them spread over the cores if that is more.

The tables go to `benchmarks/results/vectorization.md`. `native` is not in them: it is there for
environments that bring a vector form, and not for these.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import psutil
import torch
from gymnasium import spaces

from neuraxis.configs import RayConfig, load
from neuraxis.training.distributed import ray_cluster
from neuraxis.training.distributed.build import build_agent
from neuraxis.training.distributed.process import configure_process
from neuraxis.training.distributed.source import Source
from neuraxis.training.session import open_source

RESULTS = Path(__file__).parent / "results" / "vectorization.md"
NUM_ENVS = 8
WAYS = {
    "sync": ("env.vectorization=sync",),
    "async, 2": ("env.vectorization=async", "env.processes=2"),
    "async, 4": ("env.vectorization=async", "env.processes=4"),
    "async, 8": ("env.vectorization=async", "env.processes=8"),
    "Ray, 2": ("env.vectorization=sync", "ray.workers=2", "ray.cpus_per_worker=0.1"),
}
"""By the number of their processes."""
CORES = {"sync": 1, "async, 2": 2, "async, 4": 4, "async, 8": 8, "Ray, 2": 2}
COMPUTES, WAITS = (1e-5, 1e-4, 3e-4, 1e-3, 1e-2), (1e-3, 1e-2, 1e-1)
COMMON = ("env=CartPole-v1", f"num_envs={NUM_ENVS}", "wandb.mode=disabled", "device=cpu")
TURN_SECONDS = 0.4
"""What a rollout of sync takes, about: it has 4 to 128 steps."""
CASE_SECONDS = 5.0
"""What the turns of a row take together, about; there are at least three."""


class Costly(gymnasium.Env[np.ndarray, np.int64]):
    """Its step takes a time: `loops` turns of a loop in Python, and `seconds` of sleep."""

    observation_space = spaces.Box(-1, 1, (4,))
    action_space = spaces.Discrete(2)

    def __init__(self, loops: int, seconds: float) -> None:
        self.loops, self.seconds = loops, seconds

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, Any]:
        """Opens an episode that never ends."""
        super().reset(seed=seed)
        return np.zeros(4, np.float32), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Takes its time."""
        for _ in range(self.loops):
            pass
        if self.seconds:
            time.sleep(self.seconds)
        return np.zeros(4, np.float32), 1.0, False, False, {}


def loops_per_second() -> float:
    """Turns of an empty loop in a CPU second."""
    begin, loops = time.process_time(), 5_000_000
    for _ in range(loops):
        pass
    return loops / (time.process_time() - begin)


def source_of(way: str, length: int, loops: int, seconds: float) -> Source:
    """A source of rollouts of `length` steps."""
    rollout = (f"agent.n_steps={length}", f"agent.batch_size={length * NUM_ENVS}")
    cfg = load([*COMMON, *rollout, *WAYS[way]])
    costly = cfg.env.made_by(lambda render_mode=None: Costly(loops, seconds))
    cfg = cfg.model_copy(update={"env": costly})
    agent = build_agent(cfg)
    return open_source(cfg, agent.policy, agent.rollout_length)


def cpu_seconds() -> dict[int, float]:
    """CPU time of this process and of all below it, by their numbers."""
    found = {}
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with suppress(FileNotFoundError, ProcessLookupError):
            threads = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
            found[process.pid] = sum(int(file.read_text().split()[0]) for file in threads) / 1e9
    return found


def turn(source: Source, cores: int) -> tuple[float, float]:
    """Seconds that a rollout takes: by the clock, and by CPU time on so many free cores."""
    before, begin = cpu_seconds(), time.perf_counter()
    source.next()
    clock, after = time.perf_counter() - begin, cpu_seconds()
    spent = {pid: after[pid] - before.get(pid, 0.0) for pid in after}
    learner = spent.pop(os.getpid())
    others = spent.values()
    return clock, learner + max(max(others, default=0.0), sum(others) / cores)


def measured(cost: float, loops: int, seconds: float) -> dict[str, np.ndarray]:
    """Medians of `turn` for each way."""
    length = int(np.clip(TURN_SECONDS / (NUM_ENVS * cost), 4, 128))
    with ExitStack() as stack:
        opened = {way: source_of(way, length, loops, seconds) for way in WAYS}
        times: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        for source in opened.values():
            stack.callback(source.close)
            source.next()
        end = time.perf_counter() + CASE_SECONDS
        while len(times["sync"]) < 3 or time.perf_counter() < end:
            for way, source in opened.items():
                times[way].append(turn(source, CORES[way]))
    return {way: np.median(found, 0) for way, found in times.items()}


def table(costs: Iterable[float], speed: float | None) -> str:
    """A row for each cost: how many times as fast as sync each way is.

    Args:
        costs: Seconds of a step.
        speed: Loops in a second of environments that compute; None: they wait.
    """
    heads = [
        way if way == "sync" or speed is None else f"{way} on {CORES[way]} cores" for way in WAYS
    ]
    rows = [f"| a step | {' | '.join(heads)} |", f"|--:|{'--:|' * len(WAYS)}"]
    for cost in costs:
        loops, seconds = (0, cost) if speed is None else (round(cost * speed), 0.0)
        column = 0 if speed is None else 1
        found = measured(cost, loops, seconds)
        cells = [f"{found['sync'][column] / times[column]:.2f}x" for times in found.values()]
        name = f"{cost * 1e6:g} us" if cost < 1e-3 else f"{cost * 1e3:g} ms"
        rows.append(f"| {name} | {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    return "\n".join(rows)


def main() -> None:
    """Measures, and writes the page."""
    configure_process(1)
    ray_cluster.start(RayConfig(workers=2), 2)
    before = os.getloadavg()[0]
    computes, waits = table(COMPUTES, loops_per_second()), table(WAITS, None)
    ray_cluster.stop()
    versions = f"Python {platform.python_version()}, PyTorch {torch.__version__}"
    page = f"""# {NUM_ENVS} environments, by what a step of one costs

How many times as fast as sync rollouts are collected. The numbers beside the names are processes.

Environments that compute, from CPU times: what it would be on cores that nobody else uses, but for
the time that the kernel takes to wake a process.

{computes}

Environments that wait, by the clock; all on {os.cpu_count()} cores:

{waits}

`python benchmarks/vectorization.py`, {os.cpu_count()} CPU cores, {versions},
gymnasium {gymnasium.__version__}; medians of turns, {CASE_SECONDS:g} s for each row. Load average
{before:.1f} before and {os.getloadavg()[0]:.1f} after: other programs ran on the same cores.
"""
    RESULTS.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
