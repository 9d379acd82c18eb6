"""The command that plays episodes with the policy of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import options
from .exit_codes import usage_errors
from .output import say

if TYPE_CHECKING:
    from ..film import View


@click.command(
    epilog="""\b
Examples:
  neuraxis evaluate runs/CartPole-v1/ppo-mlp/20260101-120000-s0
  neuraxis evaluate RUN --episodes 5 --render --values
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
@click.option(
    "--values", is_flag=True, help="Draw values and actions' probabilities beside the pictures."
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
    values: bool,
    stochastic: bool,
    checkpoint: str,
    trust: bool,
) -> int:
    """Play episodes with the policy of RUN.

    Prints the mean and the standard deviation of their returns. MODULE is imported: it registers
    or has the environment of RUN, if a script had it while RUN was trained. KEY is an argument of
    the environment that was another in training.
    """
    with usage_errors():
        from .. import evaluator
        from ..progress_display import EvaluationDisplay
        from .stored_policy import open_policy

        view = _view(video, render, values)
        others, kwargs = options.other_arguments(words)
        player = open_policy(run, others, checkpoint, trust)
        cfg = player.config
        env = cfg.env.model_copy(update={"kwargs": cfg.env.kwargs | kwargs})
        cfg = cfg.model_copy(update={"env": env})
        with EvaluationDisplay() as watch:
            metrics = evaluator.evaluate_stored(
                *(player.policy, cfg, episodes, seed, stochastic, view, watch)
            )
    player.print_results(metrics)
    if video is not None:
        say(f"video: {video}")
    return 0


def _view(video: Path | None, window: bool, values: bool) -> View:
    """How the episodes are seen. Raises ValueError for what cannot be joined."""
    from ..film import View, check_ending

    if video is not None:
        check_ending(video, "--video")
    if video is not None and window:
        raise ValueError("--render: expected no --video; a film is made without a window")
    if values and not (video or window):
        raise ValueError("--values: expected --render or --video FILE, where they are drawn")
    return View(video, window, values)
