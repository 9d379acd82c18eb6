"""Kill -9 at random moments, resume each time: the same metrics as a run that was never killed.

    python benchmarks/kill_resume.py                   # three runs, five kills each
    python benchmarks/kill_resume.py --kills 20 --only ppo_lstm

Each case trains once undisturbed and once with kills at random moments of its life; then the two
`metrics.jsonl` are compared byte for byte but for the time columns. The table goes to
`benchmarks/results/kill_resume.md`.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
NEURAXIS = str(Path(sys.executable).parent / "neuraxis")
COMMON = ("env=CartPole-v1", "wandb.mode=disabled", "eval.final_episodes=20")
CASES = {
    "ppo_mlp": (
        "agent=ppo",
        "network=mlp",
        "total_steps=150_000",
        "checkpoint.interval_steps=5000",
    ),
    "ppo_lstm": (
        "agent=ppo",
        "network=lstm",
        "total_steps=40_000",
        "checkpoint.interval_steps=2000",
    ),
    "dqn_prioritized": (
        *("agent=dqn", "network=mlp", "agent.prioritized=true", "total_steps=25_000"),
        "checkpoint.interval_steps=1000",
    ),
}


def lines(folder: Path) -> list[str]:
    """The lines of `metrics.jsonl` without their time columns."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        json.dumps({key: value for key, value in row.items() if not key.startswith("time/")})
        for row in rows
    ]


def killed(folder: Path, words: tuple[str, ...], kills: int, seconds: float) -> list[int]:
    """Trains with kills at random moments; returns the steps that each had reached on the disk."""
    reached: list[int] = []
    command = [NEURAXIS, "train", "-q", *words, f"run_dir={folder}"]
    while True:
        before = size(folder)
        process = subprocess.Popen(command)
        if len(reached) < kills:
            while size(folder) == before and process.poll() is None:
                time.sleep(0.01)  # until it has started and learned on
            try:
                process.wait(random.uniform(0.0, seconds / (kills + 1)))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                reached.append(last_step(folder))
                command = [NEURAXIS, "resume", "-q", str(folder)]
                continue
        if process.wait():
            raise SystemExit(f"{' '.join(command)} failed with exit code {process.returncode}")
        return reached


def size(folder: Path) -> tuple[int, bool]:
    """Bytes of `metrics.jsonl`, and whether there is a checkpoint to go on from."""
    file = folder / "metrics.jsonl"
    there = (folder / "checkpoints" / "last").exists()
    return file.stat().st_size if there and file.exists() else 0, there


def last_step(folder: Path) -> int:
    """Steps of the last whole line of `metrics.jsonl`; the kill may have torn one."""
    whole = (folder / "metrics.jsonl").read_text().rpartition("\n")[0]
    return json.loads(whole.splitlines()[-1])["steps"]


def main() -> None:
    """Runs the cases and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--kills", type=int, default=5, help="of each case (default 5)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    options = parser.parse_args()
    random.seed(options.seed)
    rows = []
    for name in options.only:
        with tempfile.TemporaryDirectory() as folder:
            whole, torn = Path(folder, "whole"), Path(folder, "torn")
            words = (*COMMON, *CASES[name])
            begin = time.monotonic()
            subprocess.run([NEURAXIS, "train", "-q", *words, f"run_dir={whole}"], check=True)
            moments = killed(torn, words, options.kills, time.monotonic() - begin)
            expected, found = lines(whole), lines(torn)
            equal = "equal" if expected == found else "**different**"
            at = ", ".join(f"{step:,}" for step in moments)
            rows.append(f"| {name} | {len(moments)} | {at} | {len(expected)} | {equal} |")
            print(rows[-1], flush=True)
    text = [
        "# Killed and resumed",
        "",
        "`metrics.jsonl` of a run killed with SIGKILL at random moments and resumed each time,",
        "against a run that was never killed: byte for byte but for the time columns.",
        "",
        "| case | kills | after the line of step | lines | metrics.jsonl |",
        "|---|--:|---|--:|---|",
        *rows,
        "",
        f"`python benchmarks/kill_resume.py --kills {options.kills} --seed {options.seed}`, with",
        "",
        "```",
        *(f"neuraxis train {' '.join((*COMMON, *CASES[name]))}" for name in options.only),
        "```",
        "",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "kill_resume.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
