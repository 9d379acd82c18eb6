"""The command that makes a run of another library's model."""

from __future__ import annotations

from pathlib import Path

import click

from .exit_codes import usage_errors
from .output import say
from .run import run_session


@click.command(
    name="import",
    epilog="""\b
Examples:
  neuraxis import ppo.zip env=CartPole-v1
  neuraxis import sac.zip env=Pendulum-v1 run_dir=runs/imported
  neuraxis import td3.zip env=HalfCheetah-v5 --vecnormalize vecnormalize.pkl
  neuraxis train --from runs/imported init.from=runs/imported total_steps=100_000
""",
)
@click.argument("file", type=click.Path(path_type=Path), metavar="ZIP")
@click.argument("words", nargs=-1, metavar="env=ID [WORDS]...")
@click.option(
    "--vecnormalize",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The statistics that VecNormalize.save wrote.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def import_(file: Path, words: tuple[str, ...], vecnormalize: Path | None, quiet: bool) -> int:
    """Make a run of a model that Stable-Baselines3 saved.

    ZIP is of PPO, A2C, DQN, SAC, TD3, DDPG, RecurrentPPO or QRDQN. Its weights and settings are
    read without executing what is pickled in it. WORDS are as for `neuraxis train`; agent and
    network are those of the model. The run is evaluated, and stands beside any other.
    """
    with usage_errors():
        from ..interop.sb3_models.sb3_import import prepare

        session = prepare(file, words, vecnormalize)
    if not quiet:
        for note in session.agent.notes:
            say(f"note: {note}", err=True)
    fine_tune = "neuraxis train --from {run} init.from={run} total_steps={steps}"
    return run_session(session, session.cfg.total_steps, quiet, fine_tune)
