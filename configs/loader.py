"""From words to a `Config`.

    load(["experiment=cartpole_ppo", "network=lstm", "agent.learning_rate=1e-3"])

Weakest first: the fields' defaults < W&B's own environment variables < the experiment (or a stored
config.yaml) < `agent=`, `env=`, `network=` < `KEY=VALUE`. Another choice for a section drops the
experiment's numbers for it: those of PPO do not suit DQN. Only `network.shared` stays, because it
belongs to no block. Another `init.from` drops how the one before was loaded.
"""

import copy
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.secret_values import filled
from . import variables
from .choosing import SECTIONS, no_such, picked_name, sections
from .groups import GROUPS, read, read_file
from .trust import code_of, refuse_foreign
from .words import Word, flat, put, spoken, typed, unique

if TYPE_CHECKING:
    from .config import Config

GIVEN = "given"
"""The source of a key that a word has set."""


def load(
    words: Iterable[str] = (), base: Path | None = None, trust: bool = False, **overrides: Any
) -> "Config":
    """Build the configuration of a run.

    Args:
        words: `experiment=NAME`, `agent=NAME`, `env=NAME_OR_ID`, `network=NAME`, `KEY=VALUE`.
        base: A stored config.yaml that takes the place of an experiment.
        trust: Whether `base` may name code, even if it was not made here by this person.
        overrides: More words, as Python values (`total_steps=50_000`, `**{"agent.gamma": 0.9}`).

    Raises:
        ValueError: One line with the key, its value, what was expected and the nearest match.
    """
    return load_with_sources(words, base, trust, **overrides)[0]


def load_with_sources(
    words: Iterable[str] = (), base: Path | None = None, trust: bool = False, **overrides: Any
) -> tuple["Config", dict[str, str]]:
    """As `load`; also what has set each key: a choice, a file, or GIVEN.

    A key that is not there has its default. What has set a key below it has set a part of it.
    """
    given = unique([*map(typed, words), *(spoken(*item) for item in overrides.items())])
    origin, lower = _lower(given, base)
    if base is not None and not trust:
        refuse_foreign(base, code_of(lower), [word.key for word in given if _new(word, lower)])
    if any(word.key == "init.from" for word in given):  # how that is loaded, not another source
        lower = [word for word in lower if word.section != "init"]
    data, sources, lower = sections(given, lower, origin)
    upper = [word for word in given if word.key not in GROUPS]
    upper.sort(key=lambda word: word.key.count("."))
    said = {word.key for word in [*lower, *upper]}
    lowest = [word for word in variables.words() if word.key not in said]
    layers = {"W&B's variables": lowest, origin.removesuffix(": "): lower, GIVEN: upper}
    layered = [(word, source) for source, words in layers.items() for word in words]
    for word, source in sorted(layered, key=lambda pair: _is_of_critic_block(pair[0])):
        if _is_of_critic_block(word) and data["network"].get("critic") is None:
            data["network"]["critic"] = copy.deepcopy(data["network"]["blocks"])
        put(data, word)
        for key in [key for key in sources if key.startswith(f"{word.key}.")]:
            del sources[key]  # the word has replaced all of it
        sources[word.key] = source
    texts = {word.key: word.text for word in [*lowest, *given]}
    return _build(filled(data), texts, origin), sources


def load_file(path: str | Path, trust: bool = False) -> "Config":
    """Read a resolved config.yaml, strictly; `trust` as in `load`. Raises ValueError."""
    return load(base=Path(path), trust=trust)


def _lower(given: list[Word], base: Path | None) -> tuple[str, list[Word]]:
    """The words of the experiment or stored config, and the beginning of messages about them."""
    name = next((word.text for word in given if word.key == "experiment"), None)
    if base is not None:
        if name is not None:
            raise ValueError(f"experiment={name}: {base} takes its place; give one of the two")
        return f"{base}: ", list(flat(read_file(base, str(base))))
    if name is None:
        return "", []
    data = read("experiment", name)
    if data is None:
        raise ValueError(no_such("experiment", name))
    return f"experiment={name}: ", list(flat(data))


def _new(word: Word, lower: list[Word]) -> bool:
    """Whether a word drops what a file has for its section; the same choice keeps it."""
    return word.key not in SECTIONS or picked_name(word.key, lower, word.text) != word.text


def _is_of_critic_block(word: Word) -> bool:
    """Whether the word is about one block of the critic; without a list they begin as `blocks`."""
    return word.key.startswith("network.critic.")


def _build(data: dict[str, Any], texts: Mapping[str, str], origin: str) -> "Config":
    from pydantic import ValidationError

    from .config import Config
    from .errors import explain
    from .schema import fitted, schema_for

    schema = schema_for(data)
    try:
        return Config.model_validate_json(json.dumps(fitted(data, schema, texts)), strict=True)
    except ValidationError as error:
        key, line = explain(error, schema, texts)
        raise ValueError(line if _typed(key, texts) else origin + line) from error


def _typed(key: str, texts: Mapping[str, str]) -> bool:
    """Whether a word gave the key, a key below it or a section above it."""
    return any(f"{key}.".startswith(f"{text}.") or text.startswith(f"{key}.") for text in texts)
