"""A configuration as text that says where each value comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from .text import one_line
from .words import flat

if TYPE_CHECKING:
    from .config import Config

COLUMN = 48
"""Where comments begin, if the value leaves room."""


def with_sources(cfg: Config, sources: Mapping[str, str]) -> str:
    """The settings, a line each with its dotted key, as `experiment=FILE.yaml` reads them back.

    Args:
        cfg: The configuration; secrets are left out.
        sources: What has set its keys, see `load_with_sources`. The others have no comment.
    """
    lines = ["# Settings without a comment have their default."]
    for word in flat(cfg.stored()):
        line = f"{word.key}: {one_line(word.value)}"
        said = ", ".join(_sources(word.key, sources))
        lines.append(f"{line:{COLUMN}}  # {said}" if said else line)
    return "\n".join(lines)


def _sources(key: str, sources: Mapping[str, str]) -> Iterator[str]:
    """What has set a key: itself or a section above it, then parts of its value."""
    above = [other for other in sources if f"{key}.".startswith(f"{other}.")]
    if above:
        yield sources[max(above, key=len)]
    for other, source in sources.items():
        if other.startswith(f"{key}."):
            yield f"{source} ({other.removeprefix(f'{key}.')})"
