"""The command line.

    neuraxis train experiment=cartpole_ppo network=lstm agent.learning_rate=1e-3
    neuraxis resume RUN total_steps=200_000
    neuraxis evaluate RUN --video play.mp4
    neuraxis export RUN --wandb
    neuraxis list networks

PyTorch is imported inside the commands that need it, so that help and lists answer at once.
"""

import importlib.metadata
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..configs import load, load_file, load_resumed
from ..configs.groups import choices, nearest
from .cli_compare import compare, watch
from .cli_sweep import sweep
from .exits import exit_code, preparing, running

if TYPE_CHECKING:
    from .loop import Session

LISTS = {
    "agents": "agent",
    "envs": "env",
    "networks": "network",
    "experiments": "experiment",
    "sweeps": "sweep",
}


class Commands(click.Group):
    """A group that names the nearest command when there is none of the name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            hint = nearest(args[0], self.commands)
            known = ", ".join(self.commands)
            raise click.UsageError(f"{args[0]}: no such command{hint} (choices: {known})")
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  neuraxis train                                   PPO learns CartPole-v1 in about a minute
  neuraxis train experiment=cartpole_masked_dqn    DQN with an LSTM (R2D2), without velocities
  neuraxis list                                    what there is to choose from
""",
)
@click.version_option(importlib.metadata.version("neuraxis"), message="neuraxis %(version)s")
def neuraxis() -> None:
    """Train reinforcement-learning agents: any agent, any network, any Gymnasium environment."""


@neuraxis.command(
    epilog="""\b
Examples:
  neuraxis train
  neuraxis train experiment=cartpole_ppo seed=3
  neuraxis train agent=ppo env=Acrobot-v1 network=gru total_steps=500_000
  neuraxis train env=Pendulum-v1 env.kwargs.g=9.8 agent.learning_rate=1e-3 agent.gamma=0.9
  neuraxis train network=mlp network.blocks.0.sizes=[128,128] wandb.mode=online
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
        # a repeated run gets a folder of its own
        own = any(word.startswith("run_dir=") for word in words) or source is None
        config = load(words if own else [*words, "run_dir=null"], base=source)
        session = prepare(config)
    return _run(session, config.total_steps, quiet)


@neuraxis.command(
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


@neuraxis.command(
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
@click.option("--video", type=click.Path(dir_okay=False, path_type=Path), help="Film as MP4.")
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

        if video is not None and video.suffix != ".mp4":
            raise ValueError(f"--video {video}: expected a file that ends in .mp4")
        config = load_file(folders.find(run) / "config.yaml")
        policy = load_policy(run, checkpoint)
        seed = evaluation_seed(seed, 3)
        metrics = play(policy, config.env, episodes, seed, config.num_envs, stochastic, video)
    from .console import results

    results(metrics)
    if video is not None:
        click.echo(f"video: {video}")
    return 0


neuraxis.add_command(compare)
neuraxis.add_command(watch)
neuraxis.add_command(sweep)


@neuraxis.command(
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


@neuraxis.command(
    "list",
    epilog="""\b
Examples:
  neuraxis list
  neuraxis list networks
""",
)
@click.argument("what", type=click.Choice(list(LISTS)), required=False)
def list_choices(what: str | None) -> int:
    """List what there is to choose from."""
    from .console import columns

    for name in [what] if what else LISTS:
        click.echo(f"{name} ({LISTS[name]}=NAME)")
        columns(list(choices(LISTS[name]).items()))
        if name == "envs":
            click.echo(
                "  and every Gymnasium id: env=Acrobot-v1, env=ALE/Pong-v5, env=my_package:Id-v0"
            )
    return 0


def _run(session: "Session", total_steps: int, quiet: bool) -> int:
    """Run with live progress, then say what came out and what to try next."""
    from .console import Live, columns, next_steps, results

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
        steps = [
            (f"neuraxis evaluate {folder} --video play.mp4", "watch it"),
            (f"neuraxis resume {folder} total_steps={2 * max(total_steps, run.steps)}", "train on"),
        ]
        if run.cfg.wandb.mode != "online":
            steps.append((f"neuraxis export {folder} --wandb", "show it in Weights & Biases"))
        next_steps([*steps, ("neuraxis list", "other agents, networks, environments")])
    return 0


def main() -> None:
    """Entry point; modules of a person's own may lie in the current directory."""
    sys.path.append(os.getcwd())
    sys.exit(exit_code(neuraxis, sys.argv[1:] or ["--help"]))
