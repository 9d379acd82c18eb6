"""The configuration of a run that goes on: what of it may change, and what to do instead."""

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import nearest
from ..core.registry import PROGRAM
from .groups import read_file
from .loader import load
from .words import Word, flat, typed

if TYPE_CHECKING:
    from .config import Config

RESUMABLE = (
    *("total_steps", "device", "threads", "compile", "learner", "groups"),
    *("eval", "checkpoint", "wandb", "tensorboard", "prometheus", "ray"),
)


def load_resumed(
    path: str | Path, words: Iterable[str], trust: bool = False, **overrides: Any
) -> "Config":
    """Read the config.yaml of a run that is resumed, with changes to what may change.

    Args:
        path: The file.
        words: `KEY=VALUE`.
        trust: See `load`.
        overrides: See `load`.

    Raises:
        ValueError: One line; also for a key that may not change: names the command that trains a
            new run with it, from the weights of this one.
    """
    words = list(words)
    given = [typed(word) for word in words]
    for word in given:
        if word.section not in RESUMABLE and not _same_environment(word, Path(path)):
            raise ValueError(
                f"{word.key}={word.text}: cannot change in a resumed run"
                f"{nearest(word.section, RESUMABLE)} (what can: {', '.join(RESUMABLE)}); a new run "
                f"from its weights: {_fine_tuning(Path(path), given)}"
            )
    values = {word.key: word.value for word in given}
    if values.get("ray.workers") and "groups" not in values:
        words.append("groups=1")  # the workers are the groups
    return load(words, Path(path), trust, **overrides)


def _same_environment(word: Word, base: Path) -> bool:
    """Whether the word only names the module that has the environment of a stored run."""
    ids = [stored.text for stored in flat(read_file(base, str(base))) if stored.key == "env.id"]
    same = [
        known.startswith(f"{PROGRAM}:") or word.text.rpartition(":")[2] == known.rpartition(":")[2]
        for known in ids
    ]
    return word.key == "env.id" and any(same)


def _fine_tuning(base: Path, given: list[Word]) -> str:
    """The command that starts a new run with other settings from the weights of a stored one."""
    words = (f"{word.key}={word.text}" for word in given)
    start = ("--from", str(base), f"init.from={base.parent}")
    return shlex.join(["neuraxis", "train", *start, *words])
