"""The command line: all commands under one name, and `list`, which says what to choose from.

    neuraxis train, resume, evaluate, export     one run            cli_run.py
    neuraxis compare, watch                      several runs       cli_compare.py
    neuraxis sweep                               a search           cli_sweep.py

PyTorch is imported inside the commands that need it, so that help and lists answer at once.
"""

import importlib.metadata
import os
import sys

import click

from ..configs.groups import choices, nearest
from .cli_compare import compare, watch
from .cli_run import evaluate, export, resume, train
from .cli_sweep import sweep
from .exits import exit_code

LISTS = {
    "agents": "agent",
    "envs": "env",
    "networks": "network",
    "experiments": "experiment",
    "sweeps": "sweep",
}
"""What `list` takes, and the word that makes the choice: agents are chosen by `agent=NAME`."""


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
  neuraxis train                                   PPO learns CartPole-v1 in half a minute
  neuraxis train experiment=cartpole_masked_dqn    DQN with an LSTM (R2D2), without velocities
  neuraxis list                                    what there is to choose from
""",
)
@click.version_option(importlib.metadata.version("neuraxis"), message="neuraxis %(version)s")
def neuraxis() -> None:
    """Train reinforcement-learning agents: any agent, any network, any Gymnasium environment."""


for _command in (train, resume, evaluate, compare, watch, sweep, export):
    neuraxis.add_command(_command)


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


def main() -> None:
    """Entry point; modules of a person's own may lie in the current directory."""
    sys.path.append(os.getcwd())
    sys.exit(exit_code(neuraxis, sys.argv[1:] or ["--help"]))
