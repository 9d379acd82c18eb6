"""The command that tries an environment before anything learns in it."""

from __future__ import annotations

from collections import Counter

import click

from ...core.printable import printable
from . import completion
from .exit_codes import usage_errors
from .output import say

COLOURS = {"sees": "cyan", "ok": "green", "note": "yellow", "fault": "red"}


@click.command(
    epilog="""\b
Examples:
  neuraxis check env=CartPole-v1
  neuraxis check env=my_module:MyEnv env.kwargs.size=5
  neuraxis check env=ALE/Pong-v5 env.frame_stack=2
"""
)
@click.argument(
    "words",
    nargs=-1,
    required=True,
    metavar="env=... [env.KEY=VALUE]...",
    shell_complete=completion.words,
)
def check(words: tuple[str, ...]) -> int:
    """Play an environment, and say what an agent will see of it.

    Checks spaces, rewards, ends, seeds, action masks and rendering. The exit code is 1 if it has
    faults.
    """
    with usage_errors():
        from ..checks.env_check import check_env

        findings = check_env(*words)
    for kind, text in findings:
        click.echo(f"{click.style(kind.ljust(5), fg=COLOURS[kind])}  {printable(text)}")
    counts = Counter(finding.kind for finding in findings)
    faults, notes = counts["fault"], counts["note"]
    say(f"{faults} fault{'s' * (faults != 1)}, {notes} note{'s' * (notes != 1)}")
    return 1 if faults else 0
