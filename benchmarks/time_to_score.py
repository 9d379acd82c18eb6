"""Wall time from a program's start until it scores: ours, and five other libraries'.

    python benchmarks/time_to_score.py --cleanrl ~/cleanrl   # 5 seeds of all but Pong
    python benchmarks/time_to_score.py --only cartpole --sides neuraxis sb3 --seeds 1
    python benchmarks/time_to_score.py --report              # only write the table again

A turn trains one seed of a case with one library, in a process of its own with two cores and the
library's own number of threads. The clock runs from the start of the process, imports and
compilation included, until the mean return of the newest 20 training episodes has reached the bar;
then the process is ended. All sides take turns, seed by seed. Each turn is a line of
`benchmarks/runs/time_to_score.jsonl`; what stands there is not done again, so a command that was
cut off is given again. The table goes to `benchmarks/results/time_to_score.md`. Nothing else may
run on the machine.

Stable-Baselines3 is in our own environment. The other libraries have virtual environments of their
own, `VENVS/NAME/bin/python`, by default in a folder `venvs` beside this clone. What is missing is
left out, with a line that says why:

    sbx: `pip install sbx-rl box2d pygame-ce pyyaml`
    tianshou: `pip install tianshou box2d pygame-ce pyyaml`
    torchrl: `pip install torchrl gymnasium box2d pygame-ce pyyaml`
    cleanrl: `pip install torch gymnasium==0.29.1 tyro tensorboard box2d pygame-ce`
"""

from __future__ import annotations

import argparse
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from time_to_score_cases import CASES, SIDES, Case
from time_to_score_report import RECORDS, read, write

EPISODES = 20  # whose mean return is the score
LINE = re.compile(rb"global_step=(\d+), episodic_return=\[?\s*(-?[\d.]+(?:e[-+]?\d+)?)")
VENVS = Path(__file__).resolve().parents[2] / "venvs"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # a library's own number is taken
VERSIONS = """
import json, sys
from importlib.metadata import version
print(json.dumps({name: version(name) for name in sys.argv[1:]}))
"""


def lines(process: subprocess.Popen[bytes], deadline: float) -> Iterator[bytes]:
    """Yields what a process prints, until it ends or the clock has come to the deadline."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.perf_counter())):
            line = process.stdout.readline()
            if not line:
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # `end` reads its times
                return
            yield line


def end(process: subprocess.Popen[bytes]) -> float:
    """Ends a turn's processes; returns the CPU seconds that they took."""
    first = psutil.Process(process.pid)
    cpu = sum(sum(each.cpu_times()[:4]) for each in (first, *first.children(recursive=True)))
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return cpu


def turn(case: Case, command: list[str], folder: Path) -> dict[str, Any]:
    """Runs a program in a folder until it scores or has missed.

    Returns:
        Whether the bar was `reached`; `seconds` by the clock, `cpu` seconds, `steps`, `episodes`,
        and the `score`, the mean return of the newest episodes.

    Raises:
        RuntimeError: It failed: with its last words.
    """
    newest: deque[float] = deque(maxlen=EPISODES)
    steps = episodes = 0
    reached = False
    given = {name: value for name, value in os.environ.items() if name not in THREADS}
    given |= {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(folder)}
    given |= {"TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}  # nothing is compiled before
    with (folder / "stderr.txt").open("wb") as errors:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=given,
            bufsize=0,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
        for line in lines(process, begin + case.seconds):
            if (found := LINE.match(line)) is None:
                continue
            steps, episodes = int(found[1]), episodes + 1
            newest.append(float(found[2]))
            reached = len(newest) == EPISODES and sum(newest) / EPISODES >= case.bar
            if reached or steps >= case.steps:
                break
        seconds = time.perf_counter() - begin
        cpu = end(process)
    ended = not (reached or steps >= case.steps or seconds >= case.seconds)  # by itself
    if ended and (process.returncode or not newest):
        said = (folder / "stderr.txt").read_text("utf-8", "replace").strip()
        raise RuntimeError(f"{' '.join(command)}: failed\n{said[-2000:]}")
    score = sum(newest) / max(1, len(newest))
    return {"reached": reached, "seconds": round(seconds, 2), "cpu": round(cpu, 2)} | {
        **{"steps": steps, "episodes": episodes, "score": round(score, 2)}
    }


def unpack(clone: Path, folder: Path) -> None:
    """Lays CleanRL's scripts, as they are committed, into a folder."""
    command = ["git", "-C", str(clone), "archive", "HEAD", "cleanrl", "cleanrl_utils"]
    archive = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)


def commit(clone: Path) -> str:
    """The commit of a clone, bare or not; raises ValueError if there is none."""
    command = ["git", "-C", str(clone), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"--cleanrl {clone}: expected a clone of CleanRL")
    return done.stdout.strip()


def versions(side: str, python: Path, cleanrl: Path | None) -> dict[str, str]:
    """What a side is made of.

    Raises:
        ValueError: It cannot run: says why.
    """
    if not python.exists():
        raise ValueError(f"{python}: no such interpreter; see --venvs")
    command = [str(python), "-c", VERSIONS, *SIDES[side].packages]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{python}: {done.stderr.strip().splitlines()[-1]}")
    if side == "neuraxis":
        return {"neuraxis": commit(Path(__file__).parent), **json.loads(done.stdout)}
    if side != "cleanrl":
        return json.loads(done.stdout)
    if cleanrl is None:
        raise ValueError("--cleanrl is not given")
    return {"cleanrl": commit(cleanrl), **json.loads(done.stdout)}


def measure(given: argparse.Namespace) -> None:
    """Runs the turns that are missing; each becomes a line of the records."""
    own = {"neuraxis", "sb3"}
    pythons = {side: given.venvs / side / "bin" / "python" for side in given.sides}
    pythons |= {side: Path(sys.executable) for side in own & pythons.keys()}
    found: dict[str, dict[str, str]] = {}
    for side, python in pythons.items():
        try:
            found[side] = versions(side, python, given.cleanrl)
        except ValueError as error:
            print(f"{side} is left out: {error}", flush=True)
    done = {(row["case"], row["side"], row["seed"]) for row in read()}
    turns = [
        (case, side, seed) for case in given.only for seed in range(given.seeds) for side in found
    ]
    RECORDS.parent.mkdir(exist_ok=True)
    for case, side, seed in turns:
        if (case, side, seed) in done or case not in SIDES[side].runs:
            continue
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            if side == "cleanrl":
                unpack(given.cleanrl, Path(folder))
            command = [str(pythons[side]), *SIDES[side].command(case, seed)]
            row = {"case": case, "side": side, "seed": seed}
            try:
                row |= turn(CASES[case], command, Path(folder)) | {"versions": found[side]}
            except RuntimeError as error:  # the next command tries it again
                print(error, flush=True)
                continue
        with RECORDS.open("a", encoding="utf-8") as records:
            records.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def main() -> None:
    """Measures, and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES)[:3])
    parser.add_argument("--sides", nargs="*", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--venvs", type=Path, default=VENVS, help=f"default {VENVS}")
    parser.add_argument("--cleanrl", type=Path, help="a clone of CleanRL")
    parser.add_argument("--report", action="store_true", help="run nothing, write the table")
    given = parser.parse_args()
    if not given.report:
        measure(given)
    write()


if __name__ == "__main__":
    main()
