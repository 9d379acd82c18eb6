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
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuraxis.configs import load
from neuraxis.core.frames import packed, unpacked
from neuraxis.core.rollout import Rollout
from neuraxis.envs.collector import Collector
from neuraxis.training.distributed.build import build_agent
from neuraxis.training.distributed.groups import frames, open_group
from neuraxis.training.distributed.process import configure_process

RESULTS = Path(__file__).parent / "results" / "frames.md"
WORDS = ("device=cpu", "wandb.mode=disabled", "compile=false", "agent=ppo", "env=atari")
FORMS = ("stacks", "frames", "frames, zlib")
ROUNDS = 15


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


def main() -> None:
    """Measures and writes the tables."""
    configure_process(1)
    cfg = load(list(WORDS))
    collector, _ = open_group(cfg, build_agent(cfg).policy, 128, 0)
    for _ in range(5):
        collector.collect()
    text = [
        "# What it saves to send the frames of stacks once",
        "",
        *sending(collector, frames(cfg, collector)),
        "",
        f"`python benchmarks/frames.py`, medians of {ROUNDS}; Pong, 8 environments, T=128, a "
        f"policy that has not learned; PyTorch {torch.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} CPU cores with a load average of {os.getloadavg()[0]:.0f}.",
        "",
    ]
    collector.envs.close()
    RESULTS.write_text("\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
