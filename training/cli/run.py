"""The commands that train a run: train and resume."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...configs import load_resumed
from ...configs.loader import load_with_sources
from ...configs.shown import with_sources
from ...core.files import expanded
from . import completion, options
from .exit_codes import runtime_errors, usage_errors
from .output import columns, next_steps, results, say

if TYPE_CHECKING:
    from ..loop import Session


@click.command(
    epilog="""\b
Examples:
  neuraxis train
  neuraxis train experiment=cartpole_ppo seed=3
  neuraxis train agent=ppo env=Acrobot-v1 network=gru total_steps=500_000
  neuraxis train env=Pendulum-v1 env.kwargs.g=9.8 agent.learning_rate=1e-3 agent.gamma=0.9
  neuraxis train network=mlp 'network.blocks.0.sizes=[128,128]' wandb.mode=online
  neuraxis train --from runs/.../config.yaml seed=4
  neuraxis train agent=dqn env=Acrobot-v1 init.from=runs/... init.shapes=new
  neuraxis train experiment=cartpole_ppo --print-config > mine.yaml
  neuraxis train experiment=mine.yaml --dry-run

\b
Common keys:
  seed total_steps num_envs device run_dir eval.interval_steps eval.episodes
  checkpoint.interval_steps wandb.mode agent.* env.* network.*
A wrong key names the nearest one and lists the others.
"""
)
@click.argument("words", nargs=-1, metavar="[WORDS]...", shell_complete=completion.words)
@click.option(
    "--from", "source", type=click.Path(path_type=Path), help="Repeat this run or config.yaml."
)
@click.option(
    "--print-config", is_flag=True, help="Print all settings and what has set them, and stop."
)
@click.option("--dry-run", is_flag=True, help="Build everything, say what would run, and stop.")
@options.trust
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def train(
    words: tuple[str, ...],
    source: Path | None,
    print_config: bool,
    dry_run: bool,
    trust: bool,
    quiet: bool,
) -> int:
    """Train an agent.

    WORDS are experiment=NAME, agent=NAME, env=NAME or a Gymnasium id, network=NAME, and KEY=VALUE.
    Later in this order wins: defaults, experiment, agent/env/network, KEY=VALUE.
    """
    with usage_errors():
        words, source = repeated(words, source)
        config, sources = load_with_sources(words, source, trust)
        if print_config:
            click.echo(with_sources(config, sources))
            return 0
        if dry_run:
            from .rehearsal import rehearse

            return rehearse(config, trust)
        from ..checks.preflight import notes
        from ..session import prepare

        session = prepare(config, trust=trust)
    if not quiet:
        for note in notes(config, session.agent):
            say(f"note: {note}", err=True)
    return run_session(session, config.total_steps, quiet)


@click.command(
    epilog="""\b
Examples:
  neuraxis resume runs/CartPole-v1/ppo-mlp/20260101-120000-s0
  neuraxis resume runs/CartPole-v1/ppo-mlp/20260101-120000-s0 total_steps=200_000
"""
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=completion.words)
@click.option("--from", "checkpoint", default="last", show_default=True, help="last or step_...")
@options.trust
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def resume(run: Path, words: tuple[str, ...], checkpoint: str, trust: bool, quiet: bool) -> int:
    """Go on with RUN where it stopped.

    The last checkpoint holds all that the next update depends on: nothing is lost or repeated.
    A run that was killed before its first checkpoint starts from its beginning.

    What may change: total_steps, eval.*, checkpoint.*, wandb.*, tensorboard.*, prometheus.*, ray.*
    (also the number of workers), groups, learner.*, device, threads, compile, and the module that
    registers its environment (env.id=MODULE:ID).
    """
    with usage_errors():
        from ..session import prepare
        from ..storage import layout

        config = load_resumed(layout.find(run) / layout.CONFIG, words, trust)
        session = prepare(config, run, checkpoint, trust)
    if not quiet and session.current_run.steps == 0:
        say("note: no checkpoint was saved; the run starts from its beginning", err=True)
    return run_session(session, config.total_steps, quiet)


def repeated(words: tuple[str, ...], source: Path | None) -> tuple[tuple[str, ...], Path | None]:
    """The words and the config.yaml of `--from`: a repeated run gets a folder of its own."""
    from ..storage import layout

    if source is not None and os.path.isdir(expanded(source)):
        source = layout.find(source) / layout.CONFIG
    if source is not None and not any(word.startswith("run_dir=") for word in words):
        words = (*words, "run_dir=null")
    return words, source


RESUME = "neuraxis resume {run} total_steps={steps}"
"""The command that trains a finished run further."""


def run_session(session: Session, total_steps: int, quiet: bool, train_on: str = RESUME) -> int:
    """Run with live progress, then say what came out and what to try next.

    Args:
        session: The run.
        total_steps: Its steps.
        quiet: Print nothing but errors.
        train_on: The command that trains it further, with `{run}` and `{steps}`.
    """
    from ..evaluator import few_note
    from ..progress_display import ProgressDisplay

    if not quiet and session.agent.execution == "compiled":
        say("note: the update is compiled first; that takes 5 to 30 s", err=True)
    with runtime_errors():
        run = session.run([] if quiet else [ProgressDisplay(total_steps)])
    folder = shlex.quote(str(run.dir))
    if run.summary["status"] == "interrupted":
        way = f"go on with: neuraxis resume {folder}"
        if session.agent.outside:
            way = "a baseline cannot be resumed"
        with suppress(OSError):  # of a terminal that has closed, which was the signal
            say(f"interrupted at {run.steps:,} steps; {way}", err=True)
        return 130
    if not quiet:
        results(run.summary)
        if note := few_note(run.summary, run.cfg):
            say(f"note: {note}", err=True)
        if run.cfg.profile:
            columns([(f"time/{part}", f"{share:.0%}") for part, share in session.shares().items()])
        say(f"run: {run.dir}")
        longer = 2 * (total_steps if 2 * total_steps > run.steps else run.steps)
        steps = [(f"neuraxis evaluate {folder} --episodes 1 --video play.mp4", "watch it")]
        if not session.agent.outside:
            steps.append((train_on.format(run=folder, steps=longer), "train on"))
        if run.cfg.wandb.mode != "online":
            steps.append((f"neuraxis export {folder} --wandb", "show it in Weights & Biases"))
        next_steps([*steps, ("neuraxis list", "other agents, networks, environments")])
    return 0
