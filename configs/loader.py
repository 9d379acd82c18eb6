"""From words to a `Config`.

    load(["experiment=cartpole_ppo", "network=lstm", "agent.learning_rate=1e-3"])

Weakest first: the fields' defaults < the experiment (or a stored config.yaml) < `agent=`, `env=`,
`network=` < `KEY=VALUE`. An experiment's numbers for a section don't survive another choice for
that section: DQN has no use for PPO's. Only `network.shared` does, which is about no block.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .groups import GROUPS, choices, nearest, read, read_file
from .words import ENVIRONMENT_ID, MODULE, Word, flat, put, spoken, typed, unique

if TYPE_CHECKING:
    from .config import Config

SECTIONS = ("agent", "env", "network")
RESUMABLE = (
    *("total_steps", "device", "threads", "compile", "learner"),
    *("eval", "checkpoint", "wandb", "ray"),
)
OWN = {"agent": "agent.name", "env": "env.id", "network": "network.blocks"}
"""What says which agent, environment or network a section describes."""
DEFAULTS = {"agent": "ppo", "network": "mlp"}


def load(words: Iterable[str] = (), base: Path | None = None, **overrides: Any) -> "Config":
    """Build the configuration of a run.

    Args:
        words: `experiment=NAME`, `agent=NAME`, `env=NAME_OR_ID`, `network=NAME`, `KEY=VALUE`.
        base: A stored config.yaml that takes the place of an experiment.
        overrides: More words, as Python values (`total_steps=50_000`, `**{"agent.gamma": 0.9}`).

    Raises:
        ValueError: One line with the key, its value, what was expected and the nearest match.
    """
    given = unique([*map(typed, words), *(spoken(*item) for item in overrides.items())])
    origin, lower = _lower(given, base)
    chosen = {word.key: word.text for word in given if word.key in SECTIONS}
    data: dict[str, Any] = {}
    for section in SECTIONS:
        picked = _picked(section, lower)
        if section in chosen and chosen[section] != picked:
            lower = [word for word in lower if not _belongs(word, section)]
            picked = chosen[section]
        elif any(word.key == OWN[section] for word in lower):
            continue  # not a choice by name: its words say all
        if picked is not None:
            data[section] = _choice(section, picked)
    lower = [word for word in lower if word.key not in SECTIONS]
    upper = [word for word in given if word.key not in GROUPS]
    for word in [*lower, *sorted(upper, key=lambda word: word.key.count("."))]:
        put(data, word)
    return _build(data, {word.key: word.text for word in given}, origin)


def load_file(path: str | Path) -> "Config":
    """Read a resolved config.yaml, strictly. Raises ValueError."""
    return load(base=Path(path))


def load_resumed(path: str | Path, words: Iterable[str]) -> "Config":
    """Read the config.yaml of a run that goes on, with changes to what may change.

    Raises:
        ValueError: One line, for another key too.
    """
    words = list(words)
    for word in map(typed, words):
        if word.section not in RESUMABLE:
            raise ValueError(
                f"{word.key}={word.text}: cannot change in a resumed run"
                f"{nearest(word.section, RESUMABLE)} (what can: {', '.join(RESUMABLE)})"
            )
    return load(words, base=Path(path))


def _lower(given: list[Word], base: Path | None) -> tuple[str, list[Word]]:
    """Words of the experiment or stored config, and how a message names their origin."""
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


def _picked(section: str, lower: list[Word]) -> str | None:
    """What the experiment chose for a section, by a name (`agent: ppo`) or by a mapping's own."""
    for word in lower:
        if word.key == section or (word.key == OWN[section] and isinstance(word.value, str)):
            return str(word.value)
        if word.key == OWN[section]:
            return None
    return DEFAULTS.get(section)


def _belongs(word: Word, section: str) -> bool:
    """Whether the word is about the section's old choice: `network.shared` suits every network."""
    return word.section == section and word.key != "network.shared"


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
    known = candidates = list(choices(group))
    if group == "env":
        import gymnasium

        candidates = [*known, *gymnasium.registry]
        known = [*known, "or a Gymnasium id"]
    noun = "environment" if group == "env" else group
    hint = nearest(name, candidates)
    return f"{group}={name}: no such {noun}{hint} (choices: {', '.join(known)})"


def _build(data: dict[str, Any], texts: Mapping[str, str], origin: str) -> "Config":
    from pydantic import ValidationError

    from .config import Config
    from .errors import explain

    try:
        return Config.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        key, line = explain(error, _schema(data), texts)
        raise ValueError(line if _typed(key, texts) else origin + line) from error


def _typed(key: str, texts: Mapping[str, str]) -> bool:
    """Whether the key, a part of it or what it is a part of was given as a word."""
    return any(f"{key}.".startswith(f"{text}.") or text.startswith(f"{key}.") for text in texts)


def _schema(data: dict[str, Any]) -> dict[str, Any]:
    """Schema of the configuration with the sections that the data chose."""
    from ..agents.agent import agent_class
    from ..networks import block_class
    from .config import Config
    from .errors import schema_of

    schema = schema_of(Config)
    try:
        agent = agent_class(data["agent"]["name"]).Config
        blocks = [block_class(block["name"]).Config for block in data["network"]["blocks"]]
    except (ValueError, KeyError, TypeError):  # the very error that is being explained
        return schema
    schema["properties"]["agent"] = schema_of(agent)
    blocks_schema = {"type": "array", "prefixItems": [schema_of(block) for block in blocks]}
    schema["properties"]["network"]["properties"]["blocks"] = blocks_schema
    return schema
