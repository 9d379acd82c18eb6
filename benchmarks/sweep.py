"""A sweep that is killed and resumed against the same sweep undisturbed, and what it finds.

    python benchmarks/sweep.py               # 8 trials x 2 seeds, killed when half of it is done

The two sweeps try the same values; their runs' `metrics.jsonl` are compared byte for byte but for
the time columns. The table goes to `benchmarks/results/sweep.md`, the picture beside it.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from kill_resume import NEURAXIS, RESULTS, lines

from neuraxis.training.sweeps.trials import Sweep

VERSIONS = ", ".join(f"{name} {version(name)}" for name in ("neuraxis", "ray", "torch"))
WORDS = ("experiment=cartpole_ppo", "sweep=ppo", "total_steps=20_000", "wandb.mode=disabled")


def finished(folder: Path) -> int:
    """How many runs of the sweep have ended."""
    return len(list(folder.glob("trial_*/s*/summary.json")))


def command(*words: str) -> str:
    """Runs neuraxis and returns what it prints."""
    return subprocess.run([NEURAXIS, *words], check=True, capture_output=True, text=True).stdout


def killed(words: list[str], folder: Path, runs: int) -> int:
    """Starts the sweep, kills it with SIGKILL after so many runs; returns how many had begun."""
    process = subprocess.Popen([NEURAXIS, *words, f"run_dir={folder}"], stderr=subprocess.DEVNULL)
    while finished(folder) < runs:
        if process.poll() is not None:
            raise SystemExit(f"the sweep ended with code {process.returncode} before the kill")
        time.sleep(0.01)
    process.kill()
    process.wait()
    return len(list(folder.glob("trial_*/s*/config.yaml")))


def main() -> None:
    """Runs the two sweeps and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    words = ["sweep", *WORDS, "sweep.scheduler=none"]
    words += [f"sweep.trials={options.trials}", f"sweep.seeds={options.seeds}"]
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        whole, torn = Path("whole"), Path("torn")
        begin = time.monotonic()
        command(*words, f"run_dir={whole}")
        seconds = time.monotonic() - begin
        begun = killed(words, torn, options.trials * options.seeds // 2)
        done = finished(torn)
        found = command("sweep", "--resume", str(torn))
        report = command("compare", str(torn), "--out", "report")
        shutil.copy("report/scores.png", RESULTS / "sweep.png")
        rows = []
        for trial in Sweep.open(torn).trials():
            runs = sorted(trial.place.glob("s*"))
            same = all(
                lines(run) == lines(whole / run.relative_to(torn.absolute())) for run in runs
            )
            counts = ", ".join(str(len(lines(run))) for run in runs)
            rows.append(f"| {trial.name} | {counts} | {'equal' if same else '**different**'} |")
    text = [
        "# A sweep, killed and resumed",
        "",
        f"`neuraxis {shlex.join(words)}`",
        f"ran to its end in {seconds:.0f} s, {os.cpu_count()} trials at a time. Again, it was",
        f"killed (SIGKILL) when {done} of its {begun} runs that had begun were at their end, and",
        f"resumed with `neuraxis sweep --resume` ({VERSIONS}):",
        "",
        "```text",
        *(line.rstrip() for line in found.splitlines()),
        "```",
        "",
        "Each run's `metrics.jsonl` against that of the sweep that was never killed, byte for byte",
        "but for the time columns:",
        "",
        "| trial | lines by seed | metrics.jsonl |",
        "|---|--:|---|",
        *rows,
        "",
        "`neuraxis compare`, two seeds a group, says that these are too few to decide:",
        "",
        "```text",
        *(line.rstrip() for line in report.splitlines()),
        "```",
        "",
        "![scores of the runs](sweep.png)",
        "",
        f"`python benchmarks/sweep.py --trials {options.trials} --seeds {options.seeds}`",
        "",
    ]
    (RESULTS / "sweep.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
