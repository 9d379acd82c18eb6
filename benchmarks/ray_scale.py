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
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
import torch

from neuraxis.configs import Config, RayConfig, load
from neuraxis.training.distributed import ray_cluster
from neuraxis.training.distributed.build import build_agent
from neuraxis.training.distributed.process import configure_process
from neuraxis.training.session import open_source

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
        runs[name] = agent, open_source(cfg, agent.policy, agent.rollout_length)
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
    rows = ["| workers | steps/s | of N times one | CPU cores used |", "|--:|--:|--:|--:|"]
    one = 0.0
    for count in counts:
        cfg = config(*SLOW, f"num_envs={count}", "agent.batch_size=128", f"ray.workers={count}")
        agent = build_agent(cfg)
        source = open_source(cfg, agent.policy, agent.rollout_length)
        source.next()
        rates = []
        before = cpu_seconds()
        begin = time.perf_counter()
        for _ in range(rounds):
            start = time.perf_counter()
            steps = source.next().steps
            source.publish(agent.policy)
            rates.append(steps / (time.perf_counter() - start))
        used = (cpu_seconds() - before) / (time.perf_counter() - begin)
        source.close()
        rate = statistics.median(rates)
        one = one or rate / count
        rows.append(f"| {count} | {rate:,.0f} | {rate / (one * count):.0%} | {used:.2f} |")
        print(rows[-1], flush=True)
    return rows


def cpu_seconds() -> float:
    """Of this process, its workers and Ray's own processes."""
    driver = psutil.Process()
    times = [process.cpu_times() for process in (driver, *driver.children(recursive=True))]
    return sum(spent.user + spent.system for spent in times)


class Taker:
    """Holds weights, and copies them as a worker does."""

    def take(self, packed: np.ndarray) -> int:
        """Copies them out of the object store."""
        self.held = packed
        return packed.copy().nbytes

    def drop(self) -> None:
        """Holds them no longer."""
        self.held = None


def weights(megabytes: int, actors: list[Any], rounds: int) -> str:
    """A row: weights of this size to all actors, in one object and in an argument each."""
    packed = np.zeros(megabytes << 20, np.uint8)
    cells = [f"{megabytes} MB"]
    for shared in (True, False):
        seconds, before = [], stored()
        argument: Any = None
        for _ in range(rounds):
            begin = time.perf_counter()
            argument = ray.put(packed) if shared else packed
            ray.get([actor.take.remote(argument) for actor in actors])
            seconds.append(time.perf_counter() - begin)
        if shared:  # and in the hands of all actors
            cells.append(f"{(stored() - before) / (1 << 20):.0f} MB")
        cells.append(f"{1000 * statistics.median(seconds):.0f} ms")
        del argument
        ray.get([actor.drop.remote() for actor in actors])
    return f"| {' | '.join(cells)} |"


def stored() -> float:
    """Bytes in Ray's object store, once the news of the last change is there."""
    time.sleep(3)
    kind = "object_store_memory"
    return ray.cluster_resources()[kind] - ray.available_resources().get(kind, 0.0)


def requests(actors: list[Any], rounds: int) -> float:
    """Requests per second through one driver, with weights of 50 KB inline and no answer."""
    packed = np.zeros(50_000, np.uint8)
    begin = time.perf_counter()
    waiting = {actor.take.remote(packed): actor for actor in actors}
    for _ in range(rounds):
        ready, _ = ray.wait(list(waiting))
        for reference in ready:
            ray.get(reference)
            actor = waiting.pop(reference)
            waiting[actor.take.remote(packed)] = actor
    rate = rounds / (time.perf_counter() - begin)
    ray.get(list(waiting))
    return rate


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
    configure_process(1)
    ray_cluster.start(RayConfig(), cpus=max(options.workers))
    kept = one_worker(options.rounds)
    print("\n".join(kept), flush=True)
    takers: list[Any] = [ray.remote(num_cpus=0)(Taker).remote() for _ in range(16)]
    sent = [weights(megabytes, takers, options.rounds) for megabytes in (1, 50)]
    print("\n".join(sent), flush=True)
    rate = requests(takers, 2000)
    print(f"{rate:.0f} requests/s", flush=True)
    for taker in takers:
        ray.kill(taker)
    slow = slow_environments(options.workers, options.rounds)
    ray_cluster.stop()
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
        "| weights | in the store | one object | 16 arguments |",
        "|---|--:|--:|--:|",
        *sent,
        "",
        f"Requests through one driver, 50 KB of weights inline, 16 actors: {rate:,.0f} a second.",
        "",
        f"`python benchmarks/ray_scale.py --rounds {options.rounds}`, medians; Ray "
        f"{ray.__version__}, PyTorch {torch.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} CPU cores, "
        f"on which {os.getloadavg()[2]:.0f} processes were waiting to run (load average): each",
        "hand-over between processes takes its share of that, and less on a machine of one's own.",
        "",
    ]
    RESULTS.write_text("\n".join(text))


if __name__ == "__main__":
    main()
