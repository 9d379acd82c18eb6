"""The command that plays episodes with the policy of a run."""

from __future__ import annotations

from pathlib import Path

import click

from . import options
from .exit_codes import usage_errors
from .output import say


@click.command(
    epilog="""\b
Examples:
  neuraxis evaluate runs/CartPole-v1/ppo-mlp/20260101-120000-s0
  neuraxis evaluate RUN --episodes 5 --render
  neuraxis evaluate RUN --episodes 1 --video play.mp4
  neuraxis evaluate RUN --checkpoint last --stochastic
  neuraxis evaluate RUN env.id=my_package:MyEnv-v0
  neuraxis evaluate RUN env.kwargs.length=2.0
"""
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, metavar="[env.id=MODULE:ID] [env.kwargs.KEY=VALUE]")
@click.option("--episodes", type=click.IntRange(min=1), default=100, show_default=True)
@options.seed
@click.option("--render", is_flag=True, help="Show the episodes in a window; Ctrl-C ends.")
@click.option(
    "--video",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Film the first episode: FILE.mp4 or FILE.gif.",
)
@options.stochastic
@options.checkpoint
@options.trust
def evaluate(
    run: Path,
    words: tuple[str, ...],
    episodes: int,
    seed: int | None,
    render: bool,
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
        from ..evaluate import evaluate as play
        from ..evaluator import opening_seed
        from ..film import check_ending
        from .progress_display import EvaluationDisplay
        from .stored_policy import open_policy

        if video is not None:
            check_ending(video, "--video")
        if video is not None and render:
            raise ValueError("--render: expected no --video; a film is made without a window")
        others, kwargs = options.other_arguments(words)
        player = open_policy(run, others, checkpoint, trust)
        cfg = player.config
        env = cfg.env.model_copy(update={"kwargs": cfg.env.kwargs | kwargs})
        seed = opening_seed(cfg, seed, 3)  # 1 and 2 are the keys of the run's own evaluations
        with EvaluationDisplay() as watch:
            metrics = play(
                *(player.policy, env, episodes, seed, cfg.num_envs, stochastic, video),
                budget=player.budget,
                watch=watch,
                render=render,
            )
    player.print_results(metrics)
    if video is not None:
        say(f"video: {video}")
    return 0
