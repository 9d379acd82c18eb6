"""What it saves and costs to send and keep the frames of stacks once.

    python benchmarks/frames.py

Pong, 8 environments, rollouts of 128 steps. The tables go to `benchmarks/results/frames.md`.
"""

from __future__ import annotations

import os
import pickle
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuraxis.agents.replay.frame_ring import FrameRing
from neuraxis.agents.replay.replay import Replay
from neuraxis.configs import load
from neuraxis.core.frames import packed, unpacked
from neuraxis.core.rollout import Rollout
from neuraxis.core.tree import leaves
from neuraxis.envs.collector import Collector
from neuraxis.networks.observation import frames_of
from neuraxis.training.distributed.build import build_agent
from neuraxis.training.distributed.groups import open_group
from neuraxis.training.distributed.process import configure_process

RESULTS = Path(__file__).parent / "results" / "frames.md"
WORDS = ("device=cpu", "wandb.mode=disabled", "compile=false", "agent=ppo", "env=atari")
FORMS = ("stacks", "frames", "frames, zlib")
ROUNDS = 15
CAPACITY, FILLED, BATCH = 80_000, 12_000, 32


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What a function returns, and its CPU milliseconds."""
    begin = time.process_time()
    return function(), 1000 * (time.process_time() - begin)


def sending(collector: Collector, sizes: list[int]) -> list[str]:
    """The table of what a rollout's pictures take on their way."""
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in FORMS}
    collecting = []
    for _ in range(ROUNDS):
        rollout, taken = timed(collector.collect)
        collecting.append(taken)
        for name in FORMS:
            found[name].append(_sent(rollout, name, sizes))
    steps = collector.length * collector.envs.num_envs
    rows = []
    for name, measured in found.items():
        size, packing, unpacking = (statistics.median(one) for one in zip(*measured, strict=True))
        rows.append(f"| {name} | {size / steps:,.0f} | {packing:.1f} | {unpacking:.1f} |")
    return [
        f"Bytes of the pictures of a step, and CPU ms to pack and unpack {steps:,} steps; to "
        f"collect them takes {statistics.median(collecting):.0f} ms:",
        "",
        "| sent as | bytes a step | pack | unpack |",
        "|---|--:|--:|--:|",
        *rows,
    ]


def _sent(rollout: Rollout[np.ndarray], name: str, sizes: list[int]) -> tuple[float, ...]:
    """Bytes of a rollout's pictures, and what it takes to pack and unpack them."""
    if name == FORMS[0]:
        return len(pickle.dumps(rollout.obs, protocol=5)), 0.0, 0.0
    small, packing = timed(lambda: packed(rollout, sizes, name == FORMS[2]))
    found, unpacking = timed(lambda: unpacked(small))
    assert np.array_equal(found.obs, rollout.obs)
    return len(pickle.dumps(small.obs, protocol=5)), packing, unpacking


def keeping(collector: Collector, sizes: list[int]) -> list[str]:
    """The table of what a replay takes."""
    replays = {name: _replay(given) for name, given in zip(FORMS, ([1], sizes), strict=False)}
    adding: dict[str, list[float]] = {name: [] for name in replays}
    gathering: dict[str, list[float]] = {name: [] for name in replays}
    while len(replays[FORMS[0]]) < FILLED:
        rollout = collector.collect().to("cpu")
        for name, replay in replays.items():
            adding[name].append(timed(partial(replay.add, rollout))[1])
    for _ in range(40 * ROUNDS):
        drawn = replays[FORMS[0]].draw(BATCH)
        samples = []
        for name, replay in replays.items():
            sample, taken = timed(partial(replay.gather, *drawn))
            gathering[name].append(taken)
            samples.append(sample.obs)
        assert torch.equal(*samples)
    rows = []
    for name, replay in replays.items():
        ring = replay.steps
        stored = ring.frames.trees if isinstance(ring, FrameRing) else ring.trees["obs"]
        size = sum(leaf.nbytes for leaf in leaves(stored)) / CAPACITY
        add, gather = (statistics.median(times[name]) for times in (adding, gathering))
        rows.append(f"| {name} | {size:,.0f} | {add:.2f} | {gather:.2f} |")
    return [
        f"A replay of {CAPACITY:,} transitions, bytes of the pictures of each; CPU ms to add "
        f"{collector.length * collector.envs.num_envs} transitions, and to gather {BATCH} windows "
        "of one:",
        "",
        "| kept as | bytes a transition | add | gather |",
        "|---|--:|--:|--:|",
        *rows,
    ]


def _replay(sizes: list[int]) -> Replay:
    cpu, rng = torch.device("cpu"), np.random.default_rng(0)
    settings = {"window": 1, "stride": 1, "length": 4, "rng": rng, "device": cpu}
    return Replay(CAPACITY, 8, **settings, frames=sizes)


def opened(length: int) -> tuple[Collector, list[int]]:
    """A collector in the midst of its episodes, and the frames of its observations."""
    cfg = load(list(WORDS))
    collector, _ = open_group(cfg, build_agent(cfg).policy, length, 0)
    for _ in range(5):
        collector.collect()
    return collector, frames_of(collector.envs.observation_space, cfg.env.stacked)


def main() -> None:
    """Measures and writes the tables."""
    configure_process(1)
    sender, keeper = opened(128), opened(4)
    text = [
        "# What it saves to send and keep the frames of stacks once",
        "",
        *sending(*sender),
        "",
        *keeping(*keeper),
        "",
        f"`python benchmarks/frames.py`, medians of {ROUNDS}; Pong, 8 environments, T=128, a "
        f"policy that has not learned; PyTorch {torch.__version__}, "
        f"Python {platform.python_version()}, {os.cpu_count()} CPU cores with a load average of "
        f"{os.getloadavg()[0]:.0f}.",
        "",
    ]
    for collector, _ in (sender, keeper):
        collector.envs.close()
    RESULTS.write_text("\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
