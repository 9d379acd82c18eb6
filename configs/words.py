"""Words `KEY=VALUE`: what people type, what an experiment's YAML says, where values go."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .groups import GROUPS, choices
from .text import brief, parse, plain

ENVIRONMENT_ID = re.compile(r".*(-v\d+$|:|/)")
MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_KEY = re.compile(r"[A-Za-z_]\w*(\.\w+)*")


class Word(NamedTuple):
    """A dotted key, its value, and the value as it was typed."""

    key: str
    value: Any
    text: str

    @property
    def section(self) -> str:
        """First part of the key."""
        return self.key.partition(".")[0]


def typed(word: str) -> Word:
    """Split `KEY=VALUE`; the value of a group (`agent=ppo`) stays text. Raises ValueError."""
    key, equals, text = word.partition("=")
    if not equals:
        known = [group for group in GROUPS if word in choices(group)]
        known = known or (["env"] if ENVIRONMENT_ID.match(word) else [])
        hint = f"; did you mean {known[0]}={word}?" if known else ", like seed=3 or agent=ppo"
        raise ValueError(f"{word}: expected KEY=VALUE{hint}")
    if not _KEY.fullmatch(key):
        raise ValueError(f"{word}: expected KEY=VALUE with a dotted key, like agent.gamma=0.99")
    if key in GROUPS:
        return _chosen(key, text)
    try:
        return Word(key, parse(text), text)
    except ValueError as error:
        raise ValueError(f"{word}: {error}") from error


def spoken(key: str, value: Any) -> Word:
    """A Python value as a word. Raises ValueError."""
    try:
        value = plain(value)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
    return _chosen(key, value) if key in GROUPS else Word(key, value, brief(value))


def _chosen(group: str, name: Any) -> Word:
    if isinstance(name, str) and name:
        return Word(group, name, name)
    rest = ", or a Gymnasium id" if group == "env" else ""
    known = ", ".join(choices(group)) + rest
    raise ValueError(f"{group}={brief(name)}: expected a name (choices: {known})")


def unique(words: Iterable[Word]) -> list[Word]:
    """The words. Raises ValueError if a key stands twice."""
    seen: dict[str, Word] = {}
    for word in words:
        if word.key in seen:
            raise ValueError(f"{word.key}={word.text}: given twice (before: {seen[word.key].text})")
        seen[word.key] = word
    return list(seen.values())


def flat(data: Mapping[str, Any], prefix: str = "") -> Iterable[Word]:
    """The leaves of a mapping as words."""
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield Word(f"{prefix}{key}", value, brief(value))


def put(data: dict[str, Any], word: Word) -> None:
    """Set a value at its dotted key; a number in the key is a position in a list.

    Raises:
        ValueError: the position isn't in the list, what stands above the key has no keys, or the
            value isn't finite (an environment's argument may be infinite).
    """
    own = word.key.startswith("env.kwargs.")
    if isinstance(word.value, float) and not math.isfinite(word.value) and not own:
        raise ValueError(f"{word.key}={word.text}: expected a finite number")
    *parents, last = word.key.split(".")
    node: Any = data
    for depth, part in enumerate(parents):
        if isinstance(node, list):
            node = node[_position(node, part, word)]
        else:
            node = node.setdefault(part, {})
        if not isinstance(node, dict | list):
            where = ".".join(parents[: depth + 1])
            raise ValueError(f"{word.key}={word.text}: {where} is {brief(node)}, it has no keys")
    if isinstance(node, list):
        node[_position(node, last, word)] = word.value
    else:
        node[last] = word.value


def _position(node: list[Any], part: str, word: Word) -> int:
    if part.isdecimal() and int(part) < len(node):
        return int(part)
    raise ValueError(
        f"{word.key}={word.text}: {part} is not in the list, which has {len(node)} (0 is the first)"
    )
