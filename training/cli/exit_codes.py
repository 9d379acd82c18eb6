"""How the command line ends: exit codes, and one line for each error.

0 done; 1 something failed while running; 2 the words are wrong and nothing has run; 130 Ctrl-C,
SIGTERM or SIGHUP.
NEURAXIS_TRACEBACK=1 shows where an error was raised.
"""

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click

from .output import say


@contextmanager
def runtime_errors() -> Iterator[None]:
    """Turn what fails outside of our code (environments, disks, memory) into exit code 1."""
    from ...core.errors import EnvError, RunError

    try:
        yield
    except (EnvError, RunError, OSError) as error:
        raise click.ClickException(str(error)) from error
    except MemoryError as error:
        raise click.ClickException(f"out of memory: {error}") from error


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn ValueError, whose message is for the person who typed, into exit code 2."""
    try:
        with runtime_errors():
            yield
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def exit_code(command: click.Command, args: list[str]) -> int:
    """Run a command line to its end, and print what went wrong as one line on stderr."""
    try:
        return command.main(args, prog_name=command.name, standalone_mode=False) or 0
    except click.ClickException as error:
        if os.environ.get("NEURAXIS_TRACEBACK") == "1":
            for line in traceback.format_exc().splitlines():
                say(line, err=True)
        line = _of_a_word(error) or " ".join(error.format_message().split())
        say(f"error: {line}", err=True)
        return error.exit_code
    except click.Abort:
        click.echo("interrupted", err=True)
        return 130


def _of_a_word(error: click.ClickException) -> str:
    """The line about an option that should be a word of its command: settings have no dashes."""
    if not isinstance(error, click.NoSuchOption) or error.ctx is None:
        return ""
    if all(parameter.name != "words" for parameter in error.ctx.command.params):
        return ""
    from ...configs.unknown_keys import word_for

    hint = word_for(error.option_name)
    return hint and f"{error.option_name}: no such option{hint}"
