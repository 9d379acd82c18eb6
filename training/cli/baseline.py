"""The command that trains an algorithm of another library: baseline."""

from __future__ import annotations

from pathlib import Path

import click

from ...core.errors import require
from .exit_codes import usage_errors
from .run import repeated, run_session


@click.command(
    epilog="""\b
Examples:
  neuraxis baseline agent=sb3/ppo env=CartPole-v1
  neuraxis baseline experiment=cartpole_sb3_ppo seed=3
  neuraxis baseline agent=sb3/dqn env=Acrobot-v1 agent.kwargs.learning_rate=6.3e-4
  neuraxis baseline agent=sb3_contrib/tqc env=Pendulum-v1 num_envs=1 total_steps=20_000
  neuraxis compare runs --by agent.name

\b
`neuraxis list baselines` shows the algorithms. Their settings are agent.kwargs.*, the arguments of
the library's constructor. All else is as for `neuraxis train`.
"""
)
@click.argument("words", nargs=-1, metavar="[WORDS]...")
@click.option(
    "--from", "source", type=click.Path(path_type=Path), help="Repeat this run or config.yaml."
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def baseline(words: tuple[str, ...], source: Path | None, quiet: bool) -> int:
    """Train an algorithm of Stable-Baselines3, to compare.

    WORDS are as for `neuraxis train`. Environments, seeds, evaluations and the run's folder are the
    same, so that `neuraxis compare` sets the runs side by side. A baseline cannot be resumed.
    """
    with usage_errors():
        require("neuraxis baseline", "stable_baselines3")
        from ..interop.baseline import load, prepare

        words, base = repeated(words, source)
        config = load(words, base)
        session = prepare(config)
    return run_session(session, config.total_steps, quiet)
