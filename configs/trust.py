"""Whose code runs: a stored configuration that names code is read only if this person signed it.

A configuration may name modules, which are imported, and an environment of Ray's workers, in which
commands run. A file with such settings opens with a signature, by a key that only this person has:

    # neuraxis: the settings below name code, signed for this path: 5d41402abc4b2a76...

One that came from elsewhere, or was moved, has no such line. It is read where `trust` says so.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..core.errors import shorten
from ..core.files import expanded, private_key
from .groups import GROUPS, choices
from .words import Word

_OPENING = "# neuraxis: the settings below name code, signed for this path: "
_CHOICE = re.compile(rf"{'|'.join(GROUPS)}|agent\.name|env\.id|network\.(blocks|critic)\.\w+\.name")
_OURS = ("gymnasium.", "ale_py.", "minatar.", "minigrid.", "neuraxis.")
"""Packages whose environments take no code from their arguments."""


def code_of(words: Iterable[Word]) -> list[str]:
    """Those of the words that lead to an import or to a command, as `KEY=VALUE`."""
    words = list(words)
    ids = [word.value for word in words if word.key in ("env", "env.id")]
    foreign = any(isinstance(name, str) and not _ours(name) for name in ids)
    named = [
        word
        for word in words
        if _names_code(word.key, word.value)
        or (foreign and word.key.startswith("env.kwargs") and _has_text(word.value))
    ]
    return [f"{word.key}={word.text}" for word in named]


def _names_code(key: str, value: Any) -> bool:
    if key in ("network.blocks", "network.critic") and isinstance(value, list):
        names = [block.get("name") for block in value if isinstance(block, dict)]
        return any(isinstance(name, str) and re.search("[.:]", name) for name in names)
    if key == "ray.address":
        return value not in (None, "auto")
    if f"{key}.".startswith("ray.runtime_env."):
        return value not in (None, {})
    # A module, a file of settings, or `module:Id`; a choice of ours has neither dot nor colon.
    return bool(_CHOICE.fullmatch(key) and isinstance(value, str) and re.search("[.:]", value))


def _ours(env_id: str) -> bool:
    """Whether it is of Gymnasium, ALE, MinAtar, MiniGrid or neuraxis, or a choice of ours."""
    import gymnasium

    from ..envs.ids import known_package

    spec = gymnasium.registry.get(env_id)
    if spec is None:
        return env_id in choices("env") or known_package(env_id) is not None
    entry = spec.entry_point or spec.vector_entry_point
    module = entry if isinstance(entry, str) else getattr(entry, "__module__", "")
    return module.startswith(_OURS)


def _has_text(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_has_text, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str)


def signed(file: Path, text: str, code: list[str]) -> str:
    """The text of a file of settings, opened by a signature if they name code.

    Without one where the key cannot be kept: to read the file again then needs `trust`.
    """
    if code:
        with suppress(OSError, RuntimeError):
            return f"{_OPENING}{_signature(private_key(_key_file()), file, code)}\n{text}"
    return text


def refuse_foreign(file: Path, code: list[str], own: Iterable[str] = ()) -> None:
    """Refuses a file of settings that name code, unless this person has signed it.

    Args:
        file: Where it lies.
        code: What it names.
        own: Keys for which the person has given another value.

    Raises:
        ValueError: Says what would be imported or executed, and how to allow it.
    """
    own = tuple(f"{key}." for key in own)
    other = [word for word in code if not f"{word.partition('=')[0]}.".startswith(own)]
    if other and not _is_signed(file, code):
        named = shorten(", ".join(map(shorten, other)), 240)
        raise ValueError(
            f"{file}: would import or execute {named}; it was not made here by you, or was moved "
            "since: if you trust it, say --trust (in Python trust=True)"
        )


def _is_signed(file: Path, code: list[str]) -> bool:
    try:
        with expanded(file).open(encoding="utf-8", errors="replace") as stream:
            first = stream.readline(200).rstrip("\n")
        key = _key_file().read_text()
    except (OSError, RuntimeError):
        return False
    return hmac.compare_digest(first.encode(), f"{_OPENING}{_signature(key, file, code)}".encode())


def _signature(key: str, file: Path, code: list[str]) -> str:
    content = json.dumps([str(expanded(file).resolve()), *code])
    return hmac.new(key.encode(), content.encode(), hashlib.sha256).hexdigest()


def _key_file() -> Path:
    """Where the key lies. Raises RuntimeError if there is no home."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config", "neuraxis", "key")
