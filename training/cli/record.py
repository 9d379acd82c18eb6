"""The command that records episodes of a run's policy."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from ...core.files import expanded
from . import options
from .exit_codes import usage_errors
from .output import next_steps, say


@click.command(
    epilog="""\b
Examples:
  neuraxis record runs/CartPole-v1/ppo-mlp/20260101-120000-s0 --out demos/cartpole
  neuraxis record RUN --out DIR --episodes 200 --stochastic --checkpoint last
"""
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, metavar="[env.id=MODULE:ID]")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--episodes", type=click.IntRange(min=1), default=50, show_default=True)
@options.seed
@options.stochastic
@options.checkpoint
@options.trust
def record(
    run: Path,
    words: tuple[str, ...],
    out: Path,
    episodes: int,
    seed: int | None,
    stochastic: bool,
    checkpoint: str,
    trust: bool,
) -> int:
    """Record episodes that the policy of RUN plays, as a dataset.

    An agent learns from it by agent.dataset=DIR. It is safetensors and JSON; observations are as
    the policy saw them, rewards as the environment gave them.
    """
    with usage_errors():
        from ..datasets import dataset
        from ..datasets.record import record as play
        from ..evaluate import summarize
        from ..evaluator import opening_seed
        from ..progress_display import EvaluationDisplay
        from ..storage import provenance
        from .stored_policy import open_policy

        out = expanded(out)
        dataset.check_free(out)
        player = open_policy(run, words, checkpoint, trust)
        cfg = player.config
        opening = opening_seed(cfg, seed, 4)  # 3 is the key of `neuraxis evaluate`
        with EvaluationDisplay() as watch:
            found, rows = play(
                *(player.policy, cfg.env, episodes, opening, cfg.num_envs, stochastic),
                *(player.budget, watch),
            )
        about = {"env": cfg.stored()["env"], "player": player.facts(), "stochastic": stochastic}
        dataset.write(out, found, {**about, "seed": opening, "made": provenance.describe()})
    metrics = summarize(rows, player.budget.episode_steps)
    player.print_results(metrics | {"steps": int(found.lengths.sum())})
    say(f"dataset: {out}")
    clone = f"neuraxis train agent=bc agent.dataset={shlex.quote(str(out))}"
    next_steps([(f"{clone} env={cfg.env.id}", "learn from it")])
    return 0
