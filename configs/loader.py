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

from ..core.errors import listed, nearest
from ..core.secret_values import filled
from . import variables
from .groups import GROUPS, baselines, choices, read, read_file
from .trust import code_of, refuse_foreign
from .words import ENVIRONMENT_ID, MODULE, Word, flat, put, spoken, typed, unique

if TYPE_CHECKING:
    from .config import Config

SECTIONS = ("agent", "env", "network")
OWN = {"agent": "agent.name", "env": "env.id", "network": "network.blocks"}
"""The key that says which agent, environment or network a section describes."""


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
    given = unique([*map(typed, words), *(spoken(*item) for item in overrides.items())])
    origin, lower = _lower(given, base)
    if base is not None and not trust:
        refuse_foreign(base, code_of(lower), [word.key for word in given if _new(word, lower)])
    if any(word.key == "init.from" for word in given):  # how that is loaded, not another source
        lower = [word for word in lower if word.section != "init"]
    chosen = {word.key: word.text for word in given if word.key in SECTIONS}
    data: dict[str, Any] = {}
    for section in SECTIONS:
        picked = _picked(section, lower, _usual(section, data, [*lower, *given]))
        if section in chosen and chosen[section] != picked:
            lower = [low for low in lower if low.section != section or low.key == "network.shared"]
            picked = chosen[section]
        elif any(word.key == OWN[section] for word in lower):
            continue  # not a choice by name: its words say all
        if picked is not None:
            data[section] = _choice(section, picked)
    lower = [word for word in lower if word.key not in SECTIONS]
    upper = [word for word in given if word.key not in GROUPS]
    upper.sort(key=lambda word: word.key.count("."))
    said = {word.key for word in [*lower, *upper]}
    lowest = [word for word in variables.words() if word.key not in said]
    for word in sorted([*lowest, *lower, *upper], key=_is_of_critic_block):
        if _is_of_critic_block(word) and data["network"].get("critic") is None:
            data["network"]["critic"] = copy.deepcopy(data["network"]["blocks"])
        put(data, word)
    return _build(filled(data), {word.key: word.text for word in [*lowest, *given]}, origin)


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
        raise ValueError(_no_such("experiment", name))
    return f"experiment={name}: ", list(flat(data))


def _new(word: Word, lower: list[Word]) -> bool:
    """Whether a word drops what a file has for its section; the same choice keeps it."""
    return word.key not in SECTIONS or _picked(word.key, lower, word.text) != word.text


def _usual(section: str, data: dict[str, Any], words: list[Word]) -> str | None:
    """The default choice of a section; that of a network depends on agent or environment.

    An agent's YAML may name its `network`. The environment is that of `words`, or else of `data`.
    """
    if section == "network":
        own = data.get("agent", {}).pop("network", None)
        env_id = [data.get("env", {}).get("id"), *(w.value for w in words if w.key == "env.id")][-1]
        return own or ("cnn" if str(env_id).rpartition(":")[2].startswith("ALE/") else "mlp")
    return "ppo" if section == "agent" else None


def _picked(section: str, lower: list[Word], usual: str | None) -> str | None:
    """The choice for a section, by name (`agent: ppo`) or in a mapping, or the default."""
    for word in lower:
        if word.key == section or (word.key == OWN[section] and isinstance(word.value, str)):
            return str(word.value)
        if word.key == OWN[section]:
            return None
    return usual


def _is_of_critic_block(word: Word) -> bool:
    """Whether the word is about one block of the critic; without a list they begin as `blocks`."""
    return word.key.startswith("network.critic.")


def _choice(section: str, name: str) -> dict[str, Any]:
    """The data that a choice stands for. Raises ValueError if there is none of that name."""
    data = read(section, name)
    if data is not None:
        return data
    if section == "env" and (ENVIRONMENT_ID.match(name) or _registered(name)):
        return {"id": name}
    module = MODULE.fullmatch(name) is not None
    if section == "agent" and (module or name in choices("agent")):
        return {"name": name}
    if section == "network" and (module or _is_block(name)):
        return {"blocks": [{"name": name}]}
    raise ValueError(_no_such(section, name))


def _registered(name: str) -> bool:
    import gymnasium

    return name in gymnasium.registry


def _is_block(name: str) -> bool:
    from ..networks import block_class

    if "." in name:
        return False
    try:
        block_class(name)
    except ValueError:
        return False
    return True


def _no_such(group: str, name: str) -> str:
    known, noun = list(choices(group)), group
    if group == "env":
        from ..envs.ids import environment_hint

        hint = environment_hint(name, known)
        known, noun = [*known, "or a Gymnasium id"], "environment"
    elif group == "agent" and "/" in name:
        known, noun = list(baselines()), "algorithm of another library"
        hint = nearest(name, known)
    else:
        hint = nearest(name, known)
    return f"{group}={name}: no such {noun}{hint} (choices: {listed(known)})"


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
