"""Options that several commands have."""

from collections.abc import Iterable

import click

trust = click.option(
    "--trust",
    is_flag=True,
    help="Allow what was not made here by you to import and execute what it names.",
)


def only_another_module(words: Iterable[str]) -> None:
    """Raises ValueError for words that are not `env.id=MODULE:ID`, of a run that stays as it is."""
    for word in words:
        if not word.startswith("env.id="):
            raise ValueError(f"{word}: expected env.id=MODULE:ID, the run is what it was")
