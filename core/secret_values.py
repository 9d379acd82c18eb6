"""Secrets are neither stored nor shown: in their place stands the variable that has them.

    masked({"api_key": "abc", "size": 3})  ->  {"api_key": "$API_KEY", "size": 3}   what is stored
    filled({"api_key": "$API_KEY"})        ->  {"api_key": "abc"}        where API_KEY is set to it

A value is a secret if its key says so (`token`, `db_password`, `apiKey`), if it is among the
`env_vars` of Ray's workers, or if it stands before the @ in an address (https://me:abc@host).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

_WORD = r"\w*(password|passwd|passphrase|secret|token|apikey)|pwd|credentials?|auth|authorization"
_KEY = r"(api|access|secret|private|signing|encryption|ssh|account)_keys?"
_SECRET = re.compile(rf"(^|\w*_)({_WORD}|{_KEY}|(api|access|auth)_tokens)")
_SYMBOL = re.compile(r"(^|\w*_)(pad|bos|eos|sep|cls|mask|unk|start|end|stop|special)_token")
_BETWEEN_WORDS = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])")
_BEFORE_HOST = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_AS_JSON = " as JSON"  # after the variable of what is not text
_taken: dict[str, str] = {}  # what stands for each secret that this process uses


def is_secret(key: str) -> bool:
    """Whether a part of a dotted key says that what stands there is a secret."""
    *parents, name = key.split(".")
    return "env_vars" in parents or any(map(_says_so, (*parents, name)))


def _says_so(name: str) -> bool:
    words = "_".join(_BETWEEN_WORDS.split(name)).lower()
    symbol = _SYMBOL.fullmatch(words)  # of a vocabulary
    return bool(_SECRET.fullmatch(words)) and not symbol


def masked(value: Any, key: str = "") -> Any:
    """A tree of mappings and lists with `$NAME` in place of each secret.

    Args:
        value: The tree.
        key: Where it stands, dotted.
    """
    if is_secret(key) and value and value is not True:
        place = _place(key) if isinstance(value, str) else _place(key) + _AS_JSON
        return value if value == _place(key) + _AS_JSON else place
    if isinstance(value, Mapping):
        return {name: masked(below, f"{key}.{name}") for name, below in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(masked(item, key) for item in value)
    return _BEFORE_HOST.sub(_place(key), value) if isinstance(value, str) else value


def filled(value: Any, key: str = "") -> Any:
    """The inverse of `masked` by the variables of this process; what they lack stays masked.

    Raises:
        ValueError: A variable should be JSON, but is not.
    """
    if isinstance(value, Mapping):
        return {name: filled(below, f"{key}.{name}") for name, below in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(filled(item, key) for item in value)
    place = _place(key)
    found = os.environ.get(place[1:])
    if not isinstance(value, str) or found is None:
        return value
    if not is_secret(key):
        return value.replace(f"://{place}@", f"://{found}@")
    if value == place + _AS_JSON:
        try:
            return json.loads(found)
        except ValueError as error:
            raise ValueError(f"{place}: expected JSON, for {key.strip('.')}") from error
    return found if value == place else value


def take(value: Any, key: str) -> None:
    """Remembers the secrets of a tree that will be used, so that `redacted` knows them.

    Raises:
        ValueError: One is still masked.
    """
    if isinstance(value, Mapping):
        for name, below in value.items():
            take(below, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for item in value:
            take(item, key)
    elif isinstance(value, str):
        place = _place(key)
        if f"://{place}@" in value or (is_secret(key) and value in (place, place + _AS_JSON)):
            raise ValueError(f"{key}={value}: secrets are not stored; set the variable {place[1:]}")
        for text in [value] if is_secret(key) else _BEFORE_HOST.findall(value):
            _taken[text] = place


def redacted(text: str) -> str:
    """A text, of an error for instance, with `$NAME` in place of the secrets that are in use."""
    for secret, place in _taken.items():
        if len(secret) > 3:  # shorter ones are parts of words
            text = text.replace(secret, place)
    return text


def _place(key: str) -> str:
    """What stands for a secret: the variable of the same name, in capitals."""
    *parents, name = key.split(".")
    own = "env_vars" in parents[-1:]  # it is a variable already
    return f"${name}" if own else f"${re.sub(r'[^A-Za-z0-9_]', '_', name).upper()}"
