"""What Ray costs, and how far its workers scale on this machine.

    python benchmarks/ray_scale.py                   # all of it
    python benchmarks/ray_scale.py --workers 1 2 4   # fewer workers for the slow environment

One worker against none: collectors of 64 columns of CartPole-v1 and T=128, in turn, medians. Slow
environments: one that sleeps 5 ms a step per worker, T=128. Weights: one object to 16 actors.
The tables go to `benchmarks/results/ray_scale.md`.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray._private.internal_api import memory_summary

from neuraxis.configs import Config, RayConfig, load
from neuraxis.training import ray_start
from neuraxis.training.loop import build_agent
from neuraxis.training.machine import tune
from neuraxis.training.sources import build_source

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "ray_scale.md"
COMMON = ("agent=ppo", "agent.n_steps=128", "device=cpu", "wandb.mode=disabled", "compile=false")
SLOW = ("env=troubled:Troubled-v0", "env.kwargs.seconds=0.005")


def config(*words: str) -> Config:
    """A configuration of the benchmark."""
    return load([*COMMON, *words])


def one_worker(rounds: int) -> list[str]:
    """Steps per second with one worker, as a share of those without Ray."""
    words = ("env=CartPole-v1", "num_envs=64", "agent.batch_size=256", "agent.n_epochs=4")
    found: dict[str, list[tuple[float, float]]] = {}
    runs = {}
    for name, more in (("local", ()), ("Ray, one worker", ("ray.workers=1",))):
        cfg = config(*words, *more)
        agent = build_agent(cfg)
        runs[name] = agent, build_source(cfg, agent.policy, agent.rollout_length)
        found[name] = []
    for number in range(rounds + 2):
        for name, (agent, source) in runs.items():
            begin = time.perf_counter()
            rollout = source.next()
            collected = time.perf_counter()
            agent.learn(rollout.to("cpu"))
            source.publish(agent.policy)
            seconds = collected - begin, time.perf_counter() - begin
            if number >= 2:  # the first ones warm caches up
                found[name].append(tuple(rollout.steps / second for second in seconds))
    for _, source in runs.values():
        source.close()
    rows = ["| | collecting, steps/s | training, steps/s |", "|---|--:|--:|"]
    medians = {name: np.median(rates, 0) for name, rates in found.items()}
    rows += [f"| {name} | {c:,.0f} | {t:,.0f} |" for name, (c, t) in medians.items()]
    local, remote = medians.values()
    return [*rows, f"| kept | {remote[0] / local[0]:.0%} | {remote[1] / local[1]:.0%} |"]


def slow_environments(counts: list[int], rounds: int) -> list[str]:
    """Steps per second of 1 to 32 workers with an environment that sleeps 5 ms a step."""
    rows = ["| workers | steps/s | of N times one | CPU cores busy |", "|--:|--:|--:|--:|"]
    one = 0.0
    for count in counts:
        cfg = config(*SLOW, f"num_envs={count}", "agent.batch_size=128", f"ray.workers={count}")
        agent = build_agent(cfg)
        source = build_source(cfg, agent.policy, agent.rollout_length)
        source.next()
        rates = []
        busy = idle_seconds()
        begin = time.perf_counter()
        for _ in range(rounds):
            start = time.perf_counter()
            steps = source.next().steps
            source.publish(agent.policy)
            rates.append(steps / (time.perf_counter() - start))
        share = (os.cpu_count() or 1) - (idle_seconds() - busy) / (time.perf_counter() - begin)
        source.close()
        rate = statistics.median(rates)
        one = one or rate / count
        rows.append(f"| {count} | {rate:,.0f} | {rate / (one * count):.0%} | {share:.2f} |")
        print(rows[-1], flush=True)
    return rows


def idle_seconds() -> float:
    """Of all processors together, since the machine was started."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


class Taker:
    """Copies weights, as a worker does."""

    def take(self, packed: np.ndarray) -> int:
        """Copies them out of the object store."""
        return packed.copy().nbytes


def weights(megabytes: int, actors: list[Any], rounds: int) -> str:
    """A row: weights of this size to all actors, in one object and in an argument each."""
    packed = np.zeros(megabytes << 20, np.uint8)
    objects = stored()
    reference = ray.put(packed)
    ray.get([actor.take.remote(reference) for actor in actors])
    found = [now - before for now, before in zip(stored(), objects, strict=True)]
    shared, apart = [], []
    for _ in range(rounds):
        begin = time.perf_counter()
        reference = ray.put(packed)
        ray.get([actor.take.remote(reference) for actor in actors])
        shared.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        ray.get([actor.take.remote(packed) for actor in actors])
        apart.append(time.perf_counter() - begin)
    one, each = (1000 * statistics.median(times) for times in (shared, apart))
    size = found[1] / (1 << 20)
    return f"| {megabytes} MB | {found[0]:.0f} | {size:.0f} MB | {one:.0f} ms | {each:.0f} ms |"


def stored() -> tuple[int, float]:
    """Objects in Ray's store, and their bytes."""
    text = memory_summary(stats_only=True)
    found = re.search(r"Plasma memory usage (\d+) MiB, (\d+) objects", text)
    assert found, text
    return int(found[2]), int(found[1]) * (1 << 20)


def main() -> None:
    """Measures and writes the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workers", nargs="*", type=int, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(HERE / "drills")
    sys.path.append(str(HERE / "drills"))
    tune(1)
    ray_start.start(RayConfig(), cpus=max(options.workers))
    kept = one_worker(options.rounds)
    print("\n".join(kept), flush=True)
    takers: list[Any] = [ray.remote(num_cpus=0)(Taker).remote() for _ in range(16)]
    sent = [weights(megabytes, takers, options.rounds) for megabytes in (1, 50)]
    print("\n".join(sent), flush=True)
    for taker in takers:
        ray.kill(taker)
    slow = slow_environments(options.workers, options.rounds)
    ray_start.stop()
    text = [
        "# What Ray costs",
        "",
        "One worker against none, CartPole-v1 with 64 columns, T=128 (8,192 steps a rollout):",
        "",
        *kept,
        "",
        "An environment that sleeps 5 ms a step, one a worker, T=128:",
        "",
        *slow,
        "",
        "Weights to 16 workers of one machine: in one object, as `RaySource` does above 100 KB,",
        "and as an argument of each call:",
        "",
        "| weights | objects | in the store | one object | 16 arguments |",
        "|---|--:|--:|--:|--:|",
        *sent,
        "",
        f"`python benchmarks/ray_scale.py --rounds {options.rounds}`, medians; Ray "
        f"{ray.__version__}, PyTorch {torch.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} CPU cores.",
        "",
    ]
    RESULTS.write_text("\n".join(text))


if __name__ == "__main__":
    main()
