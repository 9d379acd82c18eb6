"""Options that several commands have."""

from collections.abc import Iterable
from typing import Any

import click

from ...configs.words import typed

trust = click.option(
    "--trust",
    is_flag=True,
    help="Allow files that you did not make here to import and execute code that they name.",
)

seed = click.option(
    "--seed",
    type=click.IntRange(min=0),
    help="Another seed plays other episodes.  [default: 0; with env.reseed=once the run's]",
)
stochastic = click.option(
    "--stochastic", is_flag=True, help="Sample actions instead of taking the best."
)
checkpoint = click.option(
    "--checkpoint", default="best", show_default=True, help="best, last or step_..."
)

KWARGS = "env.kwargs."


def other_arguments(words: Iterable[str]) -> tuple[list[str], dict[str, Any]]:
    """Splits words into those of `only_another_module`, and values of arguments by name."""
    others = [word for word in words if not word.startswith(KWARGS)]
    given = (typed(word) for word in words if word not in others)
    return others, {word.key.removeprefix(KWARGS): word.value for word in given}


def only_another_module(words: Iterable[str]) -> None:
    """Raises ValueError for words that are not `env.id=MODULE:ID`, of a run that stays as it is."""
    for word in words:
        if not word.startswith("env.id="):
            raise ValueError(f"{word}: expected env.id=MODULE:ID, the rest cannot change")
