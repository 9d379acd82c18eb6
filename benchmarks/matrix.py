"""Every agent with every block and every kind of actions: it trains, or says why not.

    python benchmarks/matrix.py                        # all of it, about an hour
    python benchmarks/matrix.py --only Dict rainbow    # rows whose name has all of these

The cells of `neuraxis list`, in an environment whose observation has an image, vectors and numbers;
then agents of each family in environments of many kinds. Each trains a little in this process.
`ok`: it ran to its end, every weight changed and every loss was finite. `refused`: a ValueError of
one line, and no run folder. Whatever else happens is an error of neuraxis: the table shows it and
the exit code is 1. The table goes to `benchmarks/results/matrix.md`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces

from neuraxis.agents import agent_class
from neuraxis.agents.off_policy import OffPolicyAgent
from neuraxis.configs import load
from neuraxis.configs.groups import choices, read
from neuraxis.training import Callback, prepare

RESULTS = Path(__file__).parent / "results"
NETWORKS = ("mlp", "cnn", "lstm", "gru", "transformer")
COMMON = ("wandb.mode=disabled", "device=cpu", "eval.interval_steps=0", "eval.final_episodes=1")
REPLAY = (
    *("num_envs=4", "agent.train_freq=16", "agent.gradient_steps=4", "agent.batch_size=32"),
    *("agent.buffer_size=2_000", "agent.learning_starts=200", "agent.sequence_length=16"),
)
FRESH = ("num_envs=4", "agent.n_steps=64")
KINDS = {
    "discrete": spaces.Discrete,
    "multidiscrete": spaces.MultiDiscrete,
    "multibinary": spaces.MultiBinary,
    "box": spaces.Box,
}


def class_of(agent: str) -> Any:
    """The class of an agent or of a preset of its settings."""
    return agent_class((read("agent", agent) or {"name": agent})["name"])


def settings(agent: str) -> tuple[str, ...]:
    """Words with which an agent of any family learns several times."""
    if issubclass(class_of(agent), OffPolicyAgent):
        return REPLAY
    has_minibatches = "batch_size" in class_of(agent).Config.model_fields
    return (*FRESH, "agent.batch_size=128") if has_minibatches else FRESH


AGENTS = {name: settings(name) for name in choices("agent") if class_of(name).rewarded}


class Marks(Callback):
    """CPU seconds and steps after each update."""

    def __init__(self, marks: list[tuple[float, int]]) -> None:
        self.marks = marks

    def on_update(self, run: Any, metrics: Any) -> None:
        """Adds where the run stands."""
        self.marks.append((time.process_time(), run.steps))


@dataclass(frozen=True)
class Row:
    """An environment with an agent.

    `images` are the networks that stand for others, because there are images to see.
    """

    env: str
    agent: str
    steps: int = 2_000
    images: dict[str, str] = field(default_factory=dict)
    more: tuple[str, ...] = ()
    kind: str = ""

    @property
    def name(self) -> str:
        """Environment, kind of actions and agent."""
        return " ".join(filter(None, (load([f"env={self.env}"]).env.id, self.kind, self.agent)))

    def words(self, network: str) -> list[str]:
        """What to train."""
        network = self.images.get(network, network)
        choice = (f"env={self.env}", f"agent={self.agent}", f"network={network}")
        kind = (f"env.kwargs.action_space={self.kind}",) if self.kind else ()
        steps = (f"total_steps={self.steps}", "log_interval_steps=200")
        return [*choice, *kind, *steps, *COMMON, *AGENTS[self.agent], *self.more]


SMALL = {"cnn": "cnn_small", "lstm": "cnn_small_lstm"}
NATURE = {"lstm": "cnn_lstm"}
PONG = ("env.time_limit=200",)
CELLS = [
    Row("neuraxis/Dict-v0", agent, 600, NATURE, kind=kind)
    if class_of(agent).has_network
    else Row("neuraxis/Identity-v0", agent, 600, kind=kind)
    for agent in AGENTS
    for kind, space in KINDS.items()
    if issubclass(space, class_of(agent).action_spaces)
]
ROWS = CELLS + [
    Row(env, agent, steps, images, more)
    for env, steps, images, more in (
        ("CartPole-v1", 2_000, {}, ()),
        ("LunarLander-v3", 2_000, {}, ()),
        ("Acrobot-v1", 2_000, {}, ()),
        ("FrozenLake-v1", 2_000, {}, ()),
        ("minigrid_doorkey", 2_000, SMALL, ()),
        ("atari", 1_000, NATURE, PONG),
        ("Pendulum-v1", 2_000, {}, ()),
        ("HalfCheetah-v5", 2_000, {}, ()),
        ("BipedalWalker-v3", 2_000, {}, ()),
    )
    for agent in ("ppo", "impala", "dqn", "sac")
]


def cell(row: Row, network: str, notes: list[str]) -> str:
    """Trains one pair; returns what the table says of it, and adds to its notes."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "run")
        config = load([*row.words(network), f"run_dir={place}"])
        try:
            session = prepare(config)
        except ValueError as error:
            assert not place.exists() and "\n" not in str(error), repr(str(error))
            if str(error) not in notes:
                notes.append(str(error))
            return f"refused: {notes.index(str(error)) + 1}"
        before = weights(session.agent.policy)
        marks = [(time.process_time(), 0)]
        run = session.run([Marks(marks)])
        still = [name for name, old in before.items() if torch.equal(old, after(session, name))]
        assert not still, f"weights that never changed: {', '.join(still)}"
        check_losses(place / "metrics.jsonl")
        assert math.isfinite(run.summary["evaluate/return"])
    (begin, _), (end, steps) = marks[0], marks[-1]
    instead = f" ({row.images[network]})" if network in row.images else ""
    return f"ok {steps / (end - begin):,.0f}{instead}"


def weights(policy: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of all that is learned."""
    return {name: value.detach().clone() for name, value in policy.named_parameters()}


def after(session: Any, name: str) -> torch.Tensor:
    """A weight as it is now."""
    return session.agent.policy.get_parameter(name)


def check_losses(file: Path) -> None:
    """Every loss of every line is a number; there are losses."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    losses = {name: row[name] for row in rows for name in row if name.startswith("loss/")}
    assert losses, "no loss was logged"
    bad = [name for row in rows for name in losses if name in row and row[name] is None]
    assert not bad, f"losses that are not finite: {', '.join(bad)}"


def train(rows: list[Row]) -> tuple[list[str], list[str]]:
    """Trains all pairs; returns the lines of the table and the notes below it."""
    lines, notes = [], []
    for row in rows:
        cells = []
        for network in NETWORKS:
            begin = time.perf_counter()
            try:
                cells.append(cell(row, network, notes))
            except (AssertionError, RuntimeError, ValueError, TypeError, LookupError) as error:
                traceback.print_exc()
                cells.append(f"**error** {type(error).__name__}: {str(error).splitlines()[0]}")
            seconds = time.perf_counter() - begin
            print(f"{row.name} {network}: {cells[-1]} ({seconds:.1f} s)", flush=True)
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return lines, notes


def report(lines: list[str], notes: list[str]) -> None:
    """Writes the table."""
    head = [
        "# Agent x network x environment",
        "",
        "First every agent with every block on every kind of actions that it claims, for 600 steps",
        "(agents with a table in neuraxis/Identity-v0); then some in other environments, for 2,000",
        "steps (Pong: 1,000). `ok` and the environment steps per CPU-second with four environments",
        "and one thread, learning included (few steps: mostly of use to see what is dear); the",
        "network that was used, where the column's name stands for another one; or `refused` and",
        "the number of the reason below. Networks without a CNN see images as one long vector.",
        "Every weight of an `ok` pair changed and every loss was finite.",
        "",
        f"| environment, agent | {' | '.join(NETWORKS)} |",
        f"|---|{'---|' * len(NETWORKS)}",
    ]
    reasons = [f"{number}. `{note}`" for number, note in enumerate(notes, start=1)]
    command = f"`python benchmarks/matrix.py`, torch {torch.__version__}."
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "matrix.md").write_text("\n".join([*head, *lines, "", *reasons, "", command, ""]))


def main() -> int:
    """Trains and reports; 1 if anything was neither ok nor refused."""
    summary, _, description = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=[], help="parts of a row's name; no report")
    options = parser.parse_args()
    rows = [row for row in ROWS if all(part in row.name for part in options.only)]
    lines, notes = train(rows)
    if not options.only:
        report(lines, notes)
    return int(any("**error**" in line for line in lines))


if __name__ == "__main__":
    sys.exit(main())
