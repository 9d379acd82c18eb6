"""Words, `KEY=VALUE`: as people type them, as YAML has them, and where their values go."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..core.errors import did_you_mean, shorten
from ..core.secret_values import is_secret, masked
from .groups import GROUPS, choices
from .text import brief, parse_value, plain

ENVIRONMENT_ID = re.compile(r".*(-v\d+$|:|/)")
MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(\.|:)[A-Za-z_]\w*")
"""A dotted module, or MODULE:CLASS."""
_KEY = re.compile(r"[A-Za-z_]\w*(\.\w+)*")
_PART = re.compile(r"\w+")


class Word(NamedTuple):
    """A dotted key, its value, and the value as it was typed, with `$NAME` for secrets."""

    key: str
    value: Any
    text: str

    @property
    def section(self) -> str:
        """First part of the key."""
        return self.key.partition(".")[0]


def typed(word: str) -> Word:
    """Split `KEY=VALUE`; the value of a group (`agent=ppo`) stays text. Raises ValueError."""
    if not isinstance(word, str):
        raise ValueError(f"{shorten(word)}: expected a word, KEY=VALUE as text")
    key, equals, text = word.partition("=")
    if not equals:
        known = [group for group in GROUPS if word in choices(group)]
        known = known or (["env"] if ENVIRONMENT_ID.match(word) else [])
        hint = did_you_mean([f"{group}={word}" for group in known[:1]])
        hint = hint or ", like seed=3 or agent=ppo"
        raise ValueError(f"{word}: expected KEY=VALUE{hint}")
    if not _KEY.fullmatch(key):
        plain_key = key.strip("-").replace("-", "_")
        hint = did_you_mean([f"{plain_key}={text}"] if _KEY.fullmatch(plain_key) else [])
        expected = "expected KEY=VALUE with a dotted key, like agent.gamma=0.99"
        raise ValueError(f"{word}: {expected}{hint}")
    if key in GROUPS:
        return _chosen(key, text)
    try:
        return _word(key, parse_value(text), text.strip())
    except ValueError as error:
        named = re.findall(r"[\w.-]+", word)
        hidden = any(map(is_secret, named)) or "env_vars" in word
        shown = f"{key}=..." if hidden else shorten(word)
        raise ValueError(f"{shown}: {error}") from error


def spoken(key: str, value: Any) -> Word:
    """A Python value as a word. Raises ValueError."""
    try:
        value = plain(value)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
    return _chosen(key, value) if key in GROUPS else _word(key, value, brief(value))


def without_secrets(command: Iterable[str]) -> list[str]:
    """The words of a command line with `$NAME` in place of secrets, as in `--token abc`, too."""
    shown, option = [], ""
    for word in command:
        key, equals, text = word.partition("=")
        name = key.lstrip("-")
        if option:
            shown.append(masked(word, option))
        elif equals:
            try:
                shown.append(f"{key}={_word(name, parse_value(text), text).text}")
            except ValueError:
                shown.append(f"{key}={masked(text, name)}")
        else:
            shown.append(masked(word))
        option = "" if equals or option or name == key else name
    return shown


def _word(key: str, value: Any, text: str) -> Word:
    """A word whose text shows no secret."""
    shown = masked(value, key)
    return Word(key, value, text if shown == value else brief(shown))


def _chosen(group: str, name: Any) -> Word:
    if isinstance(name, str) and name:
        return Word(group, name, name)
    rest = ", or a Gymnasium id" if group == "env" else ""
    known = ", ".join(choices(group)) + rest
    raise ValueError(f"{group}={brief(name)}: expected a name (choices: {known})")


def unique(words: Iterable[Word]) -> list[Word]:
    """The words. Raises ValueError if a key is given twice."""
    seen: dict[str, Word] = {}
    for word in words:
        if word.key in seen:
            raise ValueError(f"{word.key}={word.text}: given twice (before: {seen[word.key].text})")
        seen[word.key] = word
    return list(seen.values())


def flat(data: Mapping[str, Any], prefix: str = "") -> Iterable[Word]:
    """The leaves of a mapping as words; one with keys that no dotted key can have is a leaf."""
    for key, value in data.items():
        if isinstance(value, dict) and value and all(map(_PART.fullmatch, value)):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield _word(f"{prefix}{key}", value, brief(value))


def put(data: dict[str, Any], word: Word) -> None:
    """Set a value at its dotted key; a number in the key is a position in a list.

    Raises:
        ValueError: the list has no such position, the value above the key has no keys, or the
            value is not finite (only an environment's argument may be infinite).
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
            shown = brief(masked(node, where))
            raise ValueError(f"{word.key}={word.text}: {where} is {shown}, it has no keys")
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
