"""How the command line ends: exit codes, and one line for each error.

0 done; 1 something failed while running; 2 the words are wrong and nothing has run; 130 Ctrl-C.
NEURAXIS_TRACEBACK=1 shows where an error was raised.
"""

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click


@contextmanager
def running() -> Iterator[None]:
    """Turn what fails outside of our code (environments, disks, memory) into exit code 1."""
    from ..envs import EnvError
    from .files import RunError

    try:
        yield
    except (EnvError, RunError, OSError) as error:
        raise click.ClickException(str(error)) from error
    except MemoryError as error:
        raise click.ClickException(f"out of memory: {error}") from error


@contextmanager
def preparing() -> Iterator[None]:
    """Turn ValueError, whose message is for the person who typed, into exit code 2."""
    try:
        with running():
            yield
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def exit_code(command: click.Command, args: list[str]) -> int:
    """Run a command line to its end, and print what went wrong as one line on stderr."""
    try:
        return command.main(args, prog_name=command.name, standalone_mode=False) or 0
    except click.ClickException as error:
        if os.environ.get("NEURAXIS_TRACEBACK") == "1":
            traceback.print_exc()
        click.echo(f"error: {' '.join(error.format_message().split())}", err=True)
        return error.exit_code
    except click.Abort:
        click.echo("interrupted", err=True)
        return 130
