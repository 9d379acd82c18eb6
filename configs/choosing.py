"""What `agent=`, `env=` and `network=` choose, by a word, by an experiment or by default."""

from typing import Any

from ..core.errors import did_you_mean, listed, nearest
from .groups import baselines, choices, read
from .words import ENVIRONMENT_ID, MODULE, Word, flat

SECTIONS = ("agent", "env", "network")
OWN = {"agent": "agent.name", "env": "env.id", "network": "network.blocks"}
"""The key that says which agent, environment or network a section describes."""


def sections(
    given: list[Word], lower: list[Word], origin: str
) -> tuple[dict[str, Any], dict[str, str], list[Word]]:
    """The data of the chosen agent, environment and network, and the choice behind each key.

    Also what is left of the lower words: another choice for a section drops theirs.
    """
    chosen = {word.key: word.text for word in given if word.key in SECTIONS}
    data: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for section in SECTIONS:
        picked = picked_name(section, lower, _usual(section, data, [*lower, *given]))
        if section in chosen and chosen[section] != picked:
            lower = [low for low in lower if low.section != section or low.key == "network.shared"]
            picked = chosen[section]
        elif any(word.key == OWN[section] for word in lower):
            continue  # not a choice by name: its words say all
        if picked is not None:
            data[section] = _choice(section, picked)
            keys = (word.key for word in flat({section: data[section]}))
            by = "" if section in chosen or not origin else f" ({origin.removesuffix(': ')})"
            sources |= dict.fromkeys(keys, f"{section}={picked}{by}")
    return data, sources, [word for word in lower if word.key not in SECTIONS]


def _usual(section: str, data: dict[str, Any], words: list[Word]) -> str | None:
    """The default choice of a section; that of a network depends on agent or environment.

    An agent's YAML may name its `network`. The environment is that of `words`, or else of `data`.
    """
    if section == "network":
        own = data.get("agent", {}).pop("network", None)
        env_id = [data.get("env", {}).get("id"), *(w.value for w in words if w.key == "env.id")][-1]
        return own or ("cnn" if str(env_id).rpartition(":")[2].startswith("ALE/") else "mlp")
    return "ppo" if section == "agent" else None


def picked_name(section: str, lower: list[Word], usual: str | None) -> str | None:
    """The choice for a section, by name (`agent: ppo`) or in a mapping, or the default."""
    for word in lower:
        if word.key == section or (word.key == OWN[section] and isinstance(word.value, str)):
            return str(word.value)
        if word.key == OWN[section]:
            return None
    return usual


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
    raise ValueError(no_such(section, name))


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


CLOSEST = {"rnn": ("gru", "lstm"), "attention": ("transformer",), "a3c": ("a2c",), "ddqn": ("dqn",)}
"""Choices by names that other people use for what is like them."""


def no_such(group: str, name: str) -> str:
    """The message for a name that is no choice of the group, with the nearest one."""
    known, noun = list(choices(group)), group
    if group == "env":
        from ..envs.ids import environment_hint

        hint = environment_hint(name, known)
        known, noun = [*known, "or a Gymnasium id"], "environment"
    elif group == "agent" and "/" in name:
        known, noun = list(baselines()), "algorithm of another library"
        hint = nearest(name, known)
    elif {*CLOSEST.get(name, ())} & {*known}:
        hint = did_you_mean(CLOSEST[name])
    else:
        hint = nearest(name, known)
    return f"{group}={name}: no such {noun}{hint} (choices: {listed(known)})"
