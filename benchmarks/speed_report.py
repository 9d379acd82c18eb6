"""The table of `speed.py`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from speed_cases import CASES

RESULTS = Path(__file__).parent / "results"
NAMES = ("model name", "flags")  # of /proc/cpuinfo
PARTS = ("environments", "acting", "learning", "rest")
"""Of the time of a training."""


def write(rows: list[dict[str, Any]], peak_memory: float, rounds: int) -> None:
    """Writes the table."""
    import stable_baselines3
    import torch

    lines = [
        "# Speed against Stable-Baselines3",
        "",
        "Env steps per CPU-second, medians of interleaved turns; ratio: to Stable-Baselines3,",
        "median over the rounds. sbx is Stable-Baselines3 in JAX, after its compilation. Shares of",
        f"our time: {', '.join(PARTS)}. Of the arithmetic limit: what the products",
        "alone would take at this core's peak, over all.",
        "",
        "| case | side | steps/CPU-s | steps/s | ratio | bar | our time, % | of the limit |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        bar = "" if row["bar"] is None else f"{row['bar']:g}"
        share = "" if row["limit"] is None else f"{row['limit']:.2f}"
        lines.append(
            f"| {CASES[row['case']].what} | {row['side']} | {row['cpu']:,.0f} | "
            f"{row['wall']:,.0f} | {row['ratio']:.2f} | {bar} | {time_of(row)} | {share} |"
        )
    lines += [
        "",
        f"Peak memory of a CartPole run, W&B offline: {peak_memory:.0f} MiB (bar 300).",
        "",
        f"`python benchmarks/speed.py --rounds {rounds}`, torch {torch.__version__}, "
        f"stable-baselines3 {stable_baselines3.__version__}, one thread, one core of two: {cpu()}.",
        "",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "speed.md").write_text("\n".join(lines))
    print("\n".join(lines))


def time_of(row: dict[str, Any]) -> str:
    """The percentages of the parts; empty for the other libraries."""
    parts = [100 * part for part in row["parts"]]
    return "" if math.isnan(parts[0]) else " / ".join(f"{part:.0f}" for part in parts)


def cpu() -> str:
    """What the processor says that it is."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    name, flags = (" ".join(fields[key].split()) for key in fields if key.strip() in NAMES)
    widest = next((w for w in ("avx512f", "avx2", "avx") if w in flags.split()), "no AVX")
    return f"{name}, {widest}"
