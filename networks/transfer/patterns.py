"""Parts of a network chosen by name: shell patterns on the names of its tensors.

matching(["backbone.blocks.0.weight", "head.weight"], ["backbone.*"])
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from ...core.errors import listed, nearest

_ACTOR_CRITIC = re.compile(r"^(actor|critic)\.")


def matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The names that at least one pattern matches, in their order.

    Args:
        names: Of tensors, as in a policy's `state_dict()`.
        patterns: Shell patterns of whole names: `*` is any text, dots included. `backbone.` begins
            the names of every agent's backbone: for an actor-critic it also stands for `actor.` and
            `critic.`.

    Raises:
        ValueError: A pattern matches nothing; names it and what is most alike.
    """
    names = list(names)
    found: set[str] = set()
    for pattern in patterns:
        matched = {name for name in names if matches(name, pattern)}
        if not matched:
            raise ValueError(f"{pattern}: matches no name{_hint(pattern, names)}")
        found |= matched
    return [name for name in names if name in found]


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern, see `matching`, matches a name."""
    return fnmatchcase(name, pattern) or fnmatchcase(_general(name), pattern)


def _general(name: str) -> str:
    """The name with `backbone.` in place of an actor-critic's `actor.` or `critic.`."""
    return _ACTOR_CRITIC.sub("backbone.", name)


def _hint(pattern: str, names: list[str]) -> str:
    """A hint at the most similar pattern, and the first parts of all names."""
    every: list[str] = []
    for name in (*names, *map(_general, names)):
        parts = name.split(".")
        every += [".".join((*parts[:end], "*")) for end in range(1, len(parts))]
    return f"{nearest(pattern, [*every, *names])} (choices: {first_parts(names)})"


def collapsed(names: Iterable[str], every: Iterable[str]) -> list[str]:
    """Names in short form: `head.*` where all names of `every` that begin so are among them."""
    names, every = dict.fromkeys(names), list(every)
    found: list[str] = []
    for name in names:
        parts = name.split(".")
        openings = (".".join(parts[:end]) + "." for end in range(1, len(parts)))
        whole = (o for o in openings if all(n in names for n in every if n.startswith(o)))
        opening = next(whole, None)
        found.append(name if opening is None else f"{opening}*")
    return list(dict.fromkeys(found))


def first_parts(names: Iterable[str]) -> str:
    """The first parts of the names, in short form: `actor.*, critic.*, cells`."""
    first = (f"{name.partition('.')[0]}.*" if "." in name else name for name in names)
    return listed(dict.fromkeys(first)) or "nothing"
