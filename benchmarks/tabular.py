"""Tabular agents against the optimum: the greedy policy's exact value, and the best there is.

    python benchmarks/tabular.py                # every experiment, five seeds each
    python benchmarks/tabular.py taxi_sarsa     # this one; the other rows of the table stay

The best value is that of exact value iteration. A policy's value is its expected discounted return
from the environment's first observations, which is a linear system: no episodes are played.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from neuraxis.configs import load as configured
from neuraxis.training import load, train

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.value_iteration import model_of

RESULTS = Path(__file__).parent / "results"
ENVS = ("frozenlake", "cliffwalking", "taxi", "frozenlake_slippery")
AGENTS = ("tabular_q", "sarsa")
SEEDS = 5
BAR = 0.99
HEAD = (
    "# Tables against the optimum",
    "",
    f"`python benchmarks/tabular.py`: {SEEDS} seeds. The best value is that of exact value",
    "iteration; a share compares the exact value of the newest greedy policy with it. Values",
    f"are expected discounted returns. The bar is a share of {BAR} on every seed.",
    "",
    "| experiment | steps | gamma | best value | mean share | lowest share | holds | CPU s |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
)


def shares(experiment: str) -> tuple[float, list[float], float]:
    """The best value, the share of it that each seed reached, and CPU seconds of a seed.

    Where values are negative, a share is 1 - (best - value) / |best|.
    """
    cfg = configured([f"experiment={experiment}"])
    model = model_of(cfg.env.id, cfg.agent.model_dump()["gamma"], **cfg.env.kwargs)
    best = float(model.start @ model.best().max(1))
    found, begin = [], time.process_time()
    for seed in range(SEEDS):
        with tempfile.TemporaryDirectory() as folder:
            words = (f"experiment={experiment}", f"seed={seed}", f"run_dir={folder}/run")
            run = train(*words, "wandb.mode=disabled", "device=cpu")
            cells = load(run.dir, "last").get_parameter("cells").numpy()
        found.append(1 - (best - model.value(cells.argmax(1))) / abs(best))
    return best, found, (time.process_time() - begin) / SEEDS


def main() -> None:
    """Trains what is asked for, and writes `results/tabular.md`, row by row."""
    every = [f"{env}_{agent}" for env in ENVS for agent in AGENTS]
    file = RESULTS / "tabular.md"
    written = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    rows = {line.split("`")[1]: line for line in written if line.startswith("| `")}
    for experiment in sys.argv[1:] or every:
        best, found, seconds = shares(experiment)
        cfg = configured([f"experiment={experiment}"])
        steps = f"{cfg.total_steps:,} | {cfg.agent.model_dump()['gamma']}"
        numbers = f"{best:.4f} | {np.mean(found):.4f} | {min(found):.4f}"
        holds = "yes" if min(found) >= BAR else "no"
        rows[experiment] = f"| `{experiment}` | {steps} | {numbers} | {holds} | {seconds:.0f} |"
        print(rows[experiment], flush=True)
        lines = (*HEAD, *(rows[name] for name in every if name in rows), "")
        file.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
