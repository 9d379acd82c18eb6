"""Run folders as training leaves them, made by hand."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neuraxis.configs import load


@functools.cache
def _config(words: tuple[str, ...]) -> dict[str, Any]:
    return load(words).model_dump(mode="json")


def write_run(
    folder: Path,
    score: float | None = None,
    *words: str,
    curve: Sequence[float] = (1.0, 2.0, 3.0),
    status: str = "finished",
) -> Path:
    """Writes the folder of a run that ended with `score`.

    Its evaluations `curve` came every 1,000 steps and 2 seconds; `status` may be "" for a run that
    goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total = 1_000 * len(curve) or 1
    config = _config(words) | {"run_dir": str(folder), "total_steps": total}
    _put(folder / "config.yaml", json.dumps(config))  # JSON is YAML, and faster
    rows: list[dict[str, Any]] = [
        {
            "steps": 1_000 * number,
            "time/seconds": 2.0 * number,
            "time/steps_per_second": 500.0,
            "episode/return": value - 0.5,
            "evaluate/return": value,
        }
        for number, value in enumerate(curve, start=1)
    ]
    _put(folder / "metrics.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    seconds = 2.0 * len(curve)
    cost = {"steps": total, "best/steps": total, "seconds": seconds, "cpu_seconds": seconds / 2}
    ending = {"status": status, **cost} | ({} if score is None else {"evaluate/return": score})
    if status:
        _put(folder / "summary.json", json.dumps(ending))
    return folder


def _put(path: Path, text: str) -> None:
    """Writes a file at once, for it may be read meanwhile."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def write_group(folder: Path, scores: Sequence[float], *words: str) -> Path:
    """Writes a run for each score, with seeds 0, 1, ..."""
    for seed, score in enumerate(scores):
        write_run(folder / f"s{seed}", score, f"seed={seed}", *words)
    return folder
