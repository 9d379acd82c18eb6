"""The command line: all commands under one name.

    neuraxis train, resume             one run              run.py
    neuraxis baseline                  one of Stable-Baselines3   baseline.py
    neuraxis check                     an environment       check.py
    neuraxis evaluate                  episodes of a run    evaluate.py
    neuraxis record                    and keep them        record.py
    neuraxis import                    a model of others    importing.py
    neuraxis export                    a run for others     export.py
    neuraxis compare, watch            several runs         compare.py
    neuraxis sweep                     a search             sweep.py
    neuraxis list                      what there is        listing.py
    neuraxis completion                for the Tab key      completion.py

PyTorch is imported inside the commands that need it, so that help and lists answer at once.
"""

import importlib.metadata
import logging
import sys

import click

from ...core.errors import nearest
from ...core.printable import printable
from .baseline import baseline
from .check import check
from .compare import compare, watch
from .completion import completion
from .evaluate import evaluate
from .exit_codes import exit_code
from .export import export
from .importing import import_
from .listing import list_choices
from .record import record
from .run import resume, train
from .sweep import sweep


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


_RUNS = train, resume, baseline, check, evaluate, record, compare, watch
for _command in (*_RUNS, sweep, import_, export, list_choices, completion):
    neuraxis.add_command(_command)


class ShownFormatter(logging.Formatter):
    """Writes out what would steer the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines of a record."""
        return "\n".join(map(printable, super().format(record).split("\n")))


def main() -> None:
    """Entry point."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(ShownFormatter())
    sys.exit(exit_code(neuraxis, sys.argv[1:] or ["--help"]))
