"""Random spaces of observations and actions: each is trained on, or refused in one line.

    python -m benchmarks.random_spaces                  # 2,000 spaces, five minutes
    python -m benchmarks.random_spaces --first 9_000 --spaces 100    # others; no report

Each space is tried with PPO and with DQN or SAC, by `tests/random_spaces.py`, which the test suite
uses for the first 200. Every dtype, up to four axes, nested Dicts and Tuples, odd keys, starts and
bounds, some settings that change what the agent sees. A fault is printed with the command that
repeats it, and the exit code is 1. The counts go to `benchmarks/results/random_spaces.md`.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections import Counter
from pathlib import Path

import gymnasium
import torch

from tests.random_spaces import agents_for, attempt

RESULTS = Path(__file__).parent / "results"
SPACES = 2_000
SPACE = r"(?:Box|Discrete|MultiDiscrete|MultiBinary|Dict|Tuple)\(.*?"
DETAILS = {
    r"^.*?(action|observation)_space.*?(?= is | has )": r"\1_space",
    rf"action space {SPACE}(?=: )": "action space",
    rf" is {SPACE}(?=; expected)": " is a Box",
    r"(got \w+)\(.*?(?=; try)": r"\1",
    rf" in (?:{SPACE}|\.\.\.)$": "",
    r"shape \([\d, ]+\)": "shape (..., 0)",
    r"an image of \d+x\d+ pixels and \d+ channels": "an image",
}
"""What is left out of a refusal."""


def reason(line: str) -> str:
    """A refusal without what differs from space to space."""
    for pattern, general in DETAILS.items():
        line = re.sub(pattern, general, line)
    return line


def report(trained: Counter[str], refused: Counter[str], spaces: int) -> None:
    """Writes how many were trained on, and why the others were refused."""
    lines = [
        "# Random spaces",
        "",
        f"{spaces:,} random spaces of observations and actions, each with two agents. Every other",
        "training took its updates: all metrics finite, weights moved, observations in the space",
        "that the agent was told of, actions in the environment's.",
        "",
        "| trained | trainings |",
        "| --- | ---: |",
        *(f"| agent={agent} | {count:,} |" for agent, count in sorted(trained.items())),
        "",
        "| refused, in one line | trainings |",
        "| --- | ---: |",
        *(f"| {why.replace('|', ' ')} | {count:,} |" for why, count in refused.most_common()),
        "",
        f"`python -m benchmarks.random_spaces`, gymnasium {gymnasium.__version__}, "
        f"torch {torch.__version__}.",
        "",
    ]
    (RESULTS / "random_spaces.md").write_text("\n".join(lines), encoding="utf-8")


def main() -> int:
    """Tries all spaces; 1 if any was neither trained on nor refused."""
    summary, _, description = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--spaces", type=int, default=SPACES, help="how many")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    options = parser.parse_args()
    warnings.simplefilter("error")
    trained, refused, faults = Counter[str](), Counter[str](), 0
    for number in range(options.first, options.first + options.spaces):
        for agent in agents_for(number):
            try:
                line = attempt(number, agent)
            except AssertionError as error:
                faults += 1
                print(error, flush=True)
                continue
            if line is None:
                trained[agent] += 1
            else:
                refused[reason(line)] += 1
    print(f"trained {trained.total()}, refused {refused.total()}, faults {faults}")
    if not options.first and options.spaces == SPACES and not faults:
        report(trained, refused, options.spaces)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
