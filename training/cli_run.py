"""The commands of one run: train, resume, evaluate and export."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..configs import load, load_file, load_resumed
from .exits import preparing, running

if TYPE_CHECKING:
    from .loop import Session


@click.command(
    epilog="""\b
Examples:
  neuraxis train
  neuraxis train experiment=cartpole_ppo seed=3
  neuraxis train agent=ppo env=Acrobot-v1 network=gru total_steps=500_000
  neuraxis train env=Pendulum-v1 env.kwargs.g=9.8 agent.learning_rate=1e-3 agent.gamma=0.9
  neuraxis train network=mlp 'network.blocks.0.sizes=[128,128]' wandb.mode=online
  neuraxis train --from runs/.../config.yaml seed=4

\b
Common keys:
  seed total_steps num_envs device run_dir eval.interval_steps eval.episodes
  checkpoint.interval_steps wandb.mode agent.* env.* network.*
A wrong key names the nearest one and lists the others.
"""
)
@click.argument("words", nargs=-1, metavar="[WORDS]...")
@click.option(
    "--from", "source", type=click.Path(path_type=Path), help="Repeat this run or config.yaml."
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def train(words: tuple[str, ...], source: Path | None, quiet: bool) -> int:
    """Train an agent.

    WORDS are experiment=NAME, agent=NAME, env=NAME or a Gymnasium id, network=NAME, and KEY=VALUE.
    Later in this order wins: defaults, experiment, agent/env/network, KEY=VALUE.
    """
    with preparing():
        from . import folders
        from .loop import prepare

        if source is not None and os.path.isdir(source):
            source = folders.find(source) / "config.yaml"
        if source is not None and not any(word.startswith("run_dir=") for word in words):
            words = (*words, "run_dir=null")  # a repeated run gets a folder of its own
        config = load(words, base=source)
        session = prepare(config)
    if not quiet:
        _note_flat_images(session)
    return _run(session, config.total_steps, quiet)


@click.command(
    epilog="""\b
Examples:
  neuraxis resume runs/CartPole-v1/ppo-mlp/20260101-120000-s0
  neuraxis resume runs/CartPole-v1/ppo-mlp/20260101-120000-s0 total_steps=200_000
"""
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--from", "checkpoint", default="last", show_default=True, help="last or step_...")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def resume(run: Path, words: tuple[str, ...], checkpoint: str, quiet: bool) -> int:
    """Go on with RUN where it stopped.

    The last checkpoint holds all that the next update depends on: nothing is lost or repeated.

    What may change: total_steps, eval.*, checkpoint.*, wandb.*, ray.* (but for the number of
    workers), learner.*, device, threads, compile.
    """
    with preparing():
        from . import folders
        from .loop import prepare

        config = load_resumed(folders.find(run) / "config.yaml", words)
        session = prepare(config, run, checkpoint)
    return _run(session, config.total_steps, quiet)


@click.command(
    epilog="""\b
Examples:
  neuraxis evaluate runs/CartPole-v1/ppo-mlp/20260101-120000-s0
  neuraxis evaluate RUN --episodes 1 --video play.mp4
  neuraxis evaluate RUN --checkpoint last --stochastic
"""
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--episodes", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--video", type=click.Path(dir_okay=False, path_type=Path), help="Film the first episode."
)
@click.option("--stochastic", is_flag=True, help="Sample actions instead of taking the best.")
@click.option("--checkpoint", default="best", show_default=True, help="best, last or step_...")
def evaluate(
    run: Path, episodes: int, seed: int, video: Path | None, stochastic: bool, checkpoint: str
) -> int:
    """Play episodes with the policy of RUN.

    Prints the mean and the standard deviation of their returns.
    """
    with preparing():
        from . import folders
        from .api import load as load_policy
        from .evaluate import evaluate as play
        from .evaluate import evaluation_seed
        from .machine import tune

        if video is not None and video.suffix != ".mp4":
            raise ValueError(f"--video {video}: expected a file that ends in .mp4")
        config = load_file(folders.find(run) / "config.yaml")
        tune(config.threads)
        policy = load_policy(run, checkpoint)
        seed = evaluation_seed(seed, 3)  # 1 and 2 are the keys of the run's own evaluations
        metrics = play(policy, config.env, episodes, seed, config.num_envs, stochastic, video)
    from .console import results

    results(metrics)
    if video is not None:
        click.echo(f"video: {video}")
    return 0


@click.command(
    epilog="""\b
Examples:
  neuraxis export runs/CartPole-v1/ppo-mlp/20260101-120000-s0 --wandb
  neuraxis export RUN --wandb wandb.entity=my-team wandb.artifacts=true
"""
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, metavar="[wandb.KEY=VALUE]...")
@click.option("--wandb", is_flag=True, help="Upload to Weights & Biases what it lacks of the run.")
def export(run: Path, words: tuple[str, ...], wandb: bool) -> int:
    """Give RUN to another program.

    An upload repeats what the folder says, whatever wandb.mode the run had, under the id of before:
    what W&B has already is not sent again.
    """
    with preparing():
        from .export import upload

        if not wandb:
            raise ValueError("export: expected where to, --wandb")
        uploaded = upload(run, words)
    click.echo(f"{uploaded.sent:,} of {uploaded.rows:,} rows were missing: {uploaded.url}")
    return 0


def _run(session: Session, total_steps: int, quiet: bool) -> int:
    """Run with live progress, then say what came out and what to try next."""
    from .console import Live, columns, next_steps, results

    if not quiet and session.agent.execution == "compiled":
        click.echo("note: the update is compiled first; that takes 5 to 30 s", err=True)
    with running(), Live(total_steps, quiet) as live:
        run = session.run(live)
    folder = shlex.quote(str(run.dir))
    if run.summary["status"] == "interrupted":
        click.echo(
            f"interrupted at {run.steps:,} steps; go on with: neuraxis resume {folder}", err=True
        )
        return 130
    if not quiet:
        results(run.summary)
        if run.cfg.profile:
            columns([(f"time/{part}", f"{share:.0%}") for part, share in session.shares().items()])
        click.echo(f"run: {run.dir}")
        longer = 2 * (total_steps if 2 * total_steps > run.steps else run.steps)
        steps = [
            (f"neuraxis evaluate {folder} --episodes 1 --video play.mp4", "watch it"),
            (f"neuraxis resume {folder} total_steps={longer}", "train on"),
        ]
        if run.cfg.wandb.mode != "online":
            steps.append((f"neuraxis export {folder} --wandb", "show it in Weights & Biases"))
        next_steps([*steps, ("neuraxis list", "other agents, networks, environments")])
    return 0


def _note_flat_images(session: Session) -> None:
    """Say so if there are images, but no block that sees them as images."""
    from ..networks.backbone import block_class
    from ..networks.observation import has_image

    setup = session.agent.setup
    reads_images = any(block_class(block.name).reads_images for block in setup.network.blocks)
    if has_image(setup.observation_space) and not reads_images:
        click.echo(
            "note: this network sees images as long vectors; as images they are seen by "
            "network=cnn (84x84 pixels) or network=cnn_small (5x5 and more)",
            err=True,
        )
