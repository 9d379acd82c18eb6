"""The command that records episodes of a run's policy."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from ...configs import load_resumed
from ...core.files import expanded
from . import options
from .exit_codes import usage_errors
from .output import next_steps, results, say


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
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    help="Other episodes.  [default: 0; with env.reseed=once the run's]",
)
@click.option("--stochastic", is_flag=True, help="Sample actions instead of taking the best.")
@click.option("--checkpoint", default="best", show_default=True, help="best, last or step_...")
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
        from ..distributed.process import configure_process
        from ..evaluate import Budget, summarize
        from ..evaluator import cut_note, episode_limit, opening_seed
        from ..saved_policy import load as load_policy
        from ..storage import checkpoint_folder, layout, provenance
        from .progress_display import EvaluationDisplay

        options.only_another_module(words)
        out = expanded(out)
        dataset.check_free(out)
        folder = layout.find(run)
        config = load_resumed(folder / layout.CONFIG, words, trust, ray={})
        configure_process(config.threads)
        chosen = checkpoint_folder.chosen(folder / layout.CHECKPOINTS, checkpoint).name
        policy = load_policy(folder, chosen, trust)
        budget = Budget(episode_limit(config))
        opening = opening_seed(config, seed, 4)  # 3 is the key of `neuraxis evaluate`
        with EvaluationDisplay() as watch:
            found, rows = play(
                *(policy, config.env, episodes, opening, config.num_envs, stochastic, budget),
                watch=watch,
            )
        metrics = summarize(rows, budget.episode_steps)
        player = {"run": str(folder), "checkpoint": chosen, "agent": config.agent.name}
        about = {"env": config.stored()["env"], "player": player, "stochastic": stochastic}
        dataset.write(out, found, {**about, "seed": opening, "made": provenance.describe()})
    results(metrics | {"steps": int(found.lengths.sum())})
    if note := cut_note(metrics, budget.episode_steps):
        say(f"note: {note}", err=True)
    say(f"dataset: {out}")
    clone = f"neuraxis train agent=bc agent.dataset={shlex.quote(str(out))}"
    next_steps([(f"{clone} env={config.env.id}", "learn from it")])
    return 0
