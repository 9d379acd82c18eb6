"""The command that plays episodes with the policy of a run."""

from __future__ import annotations

from pathlib import Path

import click

from ...configs import load_resumed
from . import options
from .exit_codes import usage_errors
from .output import results, say


@click.command(
    epilog="""\b
Examples:
  neuraxis evaluate runs/CartPole-v1/ppo-mlp/20260101-120000-s0
  neuraxis evaluate RUN --episodes 1 --video play.mp4
  neuraxis evaluate RUN --checkpoint last --stochastic
  neuraxis evaluate RUN env.id=my_package:MyEnv-v0
  neuraxis evaluate RUN env.kwargs.length=2.0
"""
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, metavar="[env.id=MODULE:ID] [env.kwargs.KEY=VALUE]")
@click.option("--episodes", type=click.IntRange(min=1), default=100, show_default=True)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    help="Other episodes.  [default: 0; with env.reseed=once the run's]",
)
@click.option(
    "--video", type=click.Path(dir_okay=False, path_type=Path), help="Film the first episode."
)
@click.option("--stochastic", is_flag=True, help="Sample actions instead of taking the best.")
@click.option("--checkpoint", default="best", show_default=True, help="best, last or step_...")
@options.trust
def evaluate(
    run: Path,
    words: tuple[str, ...],
    episodes: int,
    seed: int | None,
    video: Path | None,
    stochastic: bool,
    checkpoint: str,
    trust: bool,
) -> int:
    """Play episodes with the policy of RUN.

    Prints the mean and the standard deviation of their returns. MODULE is imported: it registers
    the environment of RUN, if a script has done so while RUN was trained. KEY is an argument of the
    environment that was another in training.
    """
    with usage_errors():
        from ..distributed.process import configure_process
        from ..evaluate import Budget
        from ..evaluate import evaluate as play
        from ..evaluator import cut_note, episode_limit, opening_seed
        from ..saved_policy import load as load_policy
        from ..storage import layout
        from .progress_display import EvaluationDisplay

        if video is not None and video.suffix != ".mp4":
            raise ValueError(f"--video {video}: expected a file that ends in .mp4")
        others, kwargs = options.other_arguments(words)
        options.only_another_module(others)
        config = load_resumed(layout.find(run) / layout.CONFIG, others, trust, ray={})
        env = config.env.model_copy(update={"kwargs": config.env.kwargs | kwargs})
        configure_process(config.threads)
        policy = load_policy(run, checkpoint, trust)
        seed = opening_seed(config, seed, 3)  # 1 and 2 are the keys of the run's own evaluations
        budget = Budget(episode_limit(config))
        with EvaluationDisplay() as watch:
            metrics = play(
                *(policy, env, episodes, seed, config.num_envs, stochastic, video),
                budget=budget,
                watch=watch,
            )
    results(metrics)
    if note := cut_note(metrics, budget.episode_steps):
        say(f"note: {note}", err=True)
    if video is not None:
        say(f"video: {video}")
    return 0
