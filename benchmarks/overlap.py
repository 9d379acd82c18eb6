"""Whether `overlap=true` learns as well: CartPole at equal steps, with and without it.

    python benchmarks/overlap.py            # everything that is not done yet
    python benchmarks/overlap.py --report   # only write the table again

Runs are one after the other, so that each may have two cores. Two scores of a run: the mean of its
last evaluations, and the mean of its whole learning curve, which tells how fast it learned. The
table goes to `benchmarks/results/overlap.md`.
"""

from __future__ import annotations

from evidence import (
    NEWEST,
    RESULTS,
    Experiment,
    evaluations,
    interval,
    options,
    run,
    versions,
)

from neuraxis.training.storage import stored_run

SEEDS = 5
WORDS = {
    "ppo": ("experiment=cartpole_ppo", "total_steps=50_000", "eval.interval_steps=2_500"),
    "dqn": ("experiment=cartpole_dqn", "total_steps=30_000", "eval.interval_steps=1_500"),
}
ROWS = [
    Experiment(f"overlap_{agent}_{overlap}", (*words, f"overlap={overlap}"), SEEDS)
    for agent, words in WORDS.items()
    for overlap in ("false", "true")
]


def line(row: Experiment) -> str:
    """A line of the table: both scores of the seeds that have finished."""
    seeds = [seed for seed in range(SEEDS) if row.summary(seed) is not None]
    curves = [evaluations(stored_run.read(row.folder(seed)), row) for seed in seeds]
    cells = []
    for scores in ([c[-NEWEST:].mean() for c in curves], [c.mean() for c in curves]):
        cells += [interval(scores, 0), ", ".join(f"{score:.0f}" for score in scores)]
    agent, overlap = row.name.split("_")[1:]
    return f"| {agent} | {overlap} | {' | '.join(cells)} |"


def report() -> None:
    """Writes the table."""
    lines = [
        "# Learning at a lag of one update",
        "",
        "Greedy returns on CartPole-v1, 20 episodes an evaluation, seeds 0, 1, ...: `newest` is "
        f"the mean of a run's last {NEWEST} evaluations, `curve` that of all of them, step 0 "
        "included. Mean over seeds, from five on with its 95 % bootstrap interval, then each seed.",
        "",
        "| agent | `overlap` | newest | seeds | curve | seeds |",
        "|---|---|--:|---|--:|---|",
        *(line(row) for row in ROWS if row.summary(0) is not None),
        "",
        "Times are left out: the machine did other work.",
        "",
        "Commands, all from `python benchmarks/overlap.py`:",
        "",
        "```",
        *(f"neuraxis train {' '.join(row.words)} seed=N" for row in ROWS),
        "```",
        "",
        f"{versions()}.",
        "",
    ]
    (RESULTS / "overlap.md").write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    """Runs what is missing, and writes the table."""
    missing = [] if options(__doc__).report else [(r, s) for s in range(SEEDS) for r in ROWS]
    for row, seed in missing:
        if row.summary(seed) is None:
            print(run(row, seed), flush=True)
    report()


if __name__ == "__main__":
    main()
