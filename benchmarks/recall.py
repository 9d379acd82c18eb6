"""Every agent with memory recalls a cue after 16 steps, with every block; its MLP cannot.

    python benchmarks/recall.py                  # what is not done yet, about an hour
    python benchmarks/recall.py --only ppo sac   # these agents; the other rows of the table stay
    python benchmarks/recall.py --report         # only write the table again

A score is the mean return of the newest policy in 200 episodes; 1 is the best, without memory it is
0. Discrete actions, or a box for agents that know no others. What was measured lies in
`benchmarks/runs/recall.jsonl`, the table in `benchmarks/results/recall.md`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time

from evidence import HERE, RESULTS, versions
from gymnasium import spaces
from matrix import class_of

from neuraxis.agents.off_policy import OffPolicyAgent
from neuraxis.configs.groups import choices
from neuraxis.training import train

FOUND = HERE / "runs" / "recall.jsonl"
LONG = "network.blocks.1.timescale=32"  # gates that remember from the start
NETWORKS = {"lstm": (LONG,), "gru": (LONG,), "transformer": (), "mlp": ()}
SEEDS = 3
BAR, CHANCE = 0.9, 0.5
ROWS = 18  # of an episode of 17 steps, with its reset
COMMON = (
    *("env=memory", "env.kwargs.delay=16", "num_envs=16", "agent.gamma=1.0"),
    *("wandb.mode=disabled", "device=cpu", "eval.interval_steps=0", "eval.final_episodes=200"),
    "checkpoint.interval_steps=0",
)
FRESH = {
    "n_steps": 4 * ROWS,
    "batch_size": 16 * ROWS,
    "n_epochs": 4,
    "learning_rate": 1e-3,
    "ent_coef": 0.01,
}
REPLAY = {
    **{"train_freq": ROWS, "sequence_length": ROWS, "gradient_steps": 8, "batch_size": 32},
    **{"learning_starts": 2_000, "learning_rate": 1e-3, "target_update_interval": 500},
    **{"exploration_fraction": 0.2, "exploration_final_eps": 0.02, "ent_coef_init": 0.05},
}
"""Settings of each family, of which an agent takes those that it has."""


def agents() -> list[str]:
    """Those with memory that learn from rewards."""
    ours = [name for name in choices("agent") if "/" not in name]
    return [name for name in ours if class_of(name).memory and class_of(name).rewarded]


def words(agent: str, network: str) -> list[str]:
    """Of `neuraxis train`."""
    cls = class_of(agent)
    replay = issubclass(cls, OffPolicyAgent)
    settings = (REPLAY if replay else FRESH).items()
    own = [f"agent.{key}={value}" for key, value in settings if key in cls.Config.model_fields]
    kind = "discrete" if spaces.Discrete in cls.action_spaces else "box"
    chosen = [f"agent={agent}", f"network={network}", f"env.kwargs.action_space={kind}"]
    steps = 200_000 if replay else 150_000
    return [*chosen, *NETWORKS[network], *COMMON, *own, f"total_steps={steps}"]


def measure(agent: str, network: str, seed: int) -> None:
    """Trains, and appends the score of the newest policy to what was measured."""
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        run = train(*words(agent, network), f"seed={seed}", f"run_dir={folder}/run")
        score = run.summary["evaluate/return"]
    row = {"agent": agent, "network": network, "seed": seed, "score": score}
    row["cpu"] = time.process_time() - begin
    with FOUND.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(f"{agent} {network} s{seed}: {score:.2f} in {row['cpu']:.0f} CPU s", flush=True)


def found() -> dict[tuple[str, str, int], float]:
    """The scores that were measured, by agent, network and seed."""
    lines = FOUND.read_text().splitlines() if FOUND.exists() else []
    rows = map(json.loads, lines)
    return {(row["agent"], row["network"], row["seed"]): row["score"] for row in rows}


def report() -> None:
    """Writes the table."""
    scores = found()
    lines = [
        "# Recall after 16 steps",
        "",
        f"`python benchmarks/recall.py`: scores of {SEEDS} seeds. With memory the bar is {BAR} on",
        f"every seed; the MLP must stay below {CHANCE}. Nothing is said of rows that lack seeds.",
        "",
        f"| agent | {' | '.join(NETWORKS)} | holds |",
        "|---|" + "---|" * (len(NETWORKS) + 1),
    ]
    for agent in agents():
        cells = [[scores.get((agent, n, seed)) for seed in range(SEEDS)] for n in NETWORKS]
        if not any(score is not None for cell in cells for score in cell):
            continue
        shown = [", ".join(f"{s:.2f}" for s in cell if s is not None) for cell in cells]
        *memory, blind = [[score for score in cell if score is not None] for cell in cells]
        holds = all(s >= BAR for cell in memory for s in cell) and all(s < CHANCE for s in blind)
        whole = sum(map(len, (*memory, blind))) == len(NETWORKS) * SEEDS
        verdict = ("yes" if holds else "**no**") if whole else ""
        lines.append(f"| {agent} | {' | '.join(shown)} | {verdict} |")
    commands = [f"neuraxis train {' '.join(words(agent, 'lstm'))}" for agent in agents()]
    lines += ["", "Commands (seeds 0, 1, 2; each network):", "", "```", *commands, "```"]
    (RESULTS / "recall.md").write_text("\n".join([*lines, "", f"{versions()}.", ""]))


def main() -> None:
    """Measures what is missing, and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=agents(), default=agents())
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=[*NETWORKS])
    parser.add_argument("--seeds", type=int, choices=range(1, SEEDS + 1), default=SEEDS)
    parser.add_argument("--report", action="store_true", help="run nothing, write the table")
    given = parser.parse_args()
    if not given.report:
        FOUND.parent.mkdir(exist_ok=True)
        for seed in range(given.seeds):
            for agent in given.only:
                for network in given.networks:
                    if (agent, network, seed) not in found():
                        measure(agent, network, seed)
    report()


if __name__ == "__main__":
    main()
