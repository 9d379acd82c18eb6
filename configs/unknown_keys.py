"""Hints at the key that was meant by an unknown one."""

from collections.abc import Iterable

from ..agents.choices import agent_class, agent_names, agents_that
from ..core.errors import did_you_mean, similar
from .config import Config
from .groups import GROUPS
from .schema import Schema, keys, schema_for

MOST = 3  # keys that one hint names
RENAMED = {"agent.adam_eps": "agent.optimizer_eps"}  # keys in the files of older versions
ELSEWHERE = {"steps": "total_steps", "timesteps": "total_steps"}  # words of other libraries


def meant(key: str, path: tuple[str, ...], schema: Schema) -> str:
    """A hint, `; did you mean KEY?`, or an empty string.

    In this order: what the key is called now; a slip in a name of the section or below it, the same
    name elsewhere, a setting of another agent, initials (`lr`), and what is only somewhat alike.

    Args:
        key: Dotted, as it was given.
        path: The part of it that is a section.
        schema: Of the whole configuration.
    """
    leaf = _leaf(key)
    every = keys(schema)
    below = [other for other in every if other.startswith("".join(f"{part}." for part in path))]
    if key in RENAMED:
        return f"; it is {RENAMED[key]} now"
    if key in ELSEWHERE:
        return did_you_mean([ELSEWHERE[key]])
    found = _alike(leaf, below, 0.8) or _alike(leaf, every, 1.0)
    if not found and path == ("agent",):
        hint = _of_other_agents(leaf, [_leaf(other) for other in below])
        if hint:
            return hint
    found = found or _short_for(leaf, below) or _alike(leaf, below) or _alike(leaf, every)
    return did_you_mean(found)


def word_for(option: str) -> str:
    """A hint for an option that is none, `--total-steps`: settings are words, without dashes."""
    key = option.strip("-").replace("-", "_")
    every = [*GROUPS, "sweep", *keys(schema_for(Config().model_dump()))]
    found = [key] if key in every else _alike(_leaf(key), every, 0.8) or _short_for(key, every)
    return did_you_mean([f"{name}=VALUE" for name in found])


def _alike(leaf: str, candidates: Iterable[str], likeness: float = 0.6) -> list[str]:
    """The keys whose last part is most like the leaf."""
    by_leaf: dict[str, list[str]] = {}
    for candidate in candidates:
        by_leaf.setdefault(_leaf(candidate), []).append(candidate)
    return [key for name in similar(leaf, by_leaf, 1, likeness) for key in _highest(by_leaf[name])]


def _leaf(key: str) -> str:
    return key.rpartition(".")[2]


def _short_for(leaf: str, candidates: Iterable[str]) -> list[str]:
    """The keys with these initials."""
    initials = {key: "".join(word[:1] for word in _leaf(key).split("_")) for key in candidates}
    return _highest([key for key in initials if initials[key] == leaf])


def _highest(found: list[str]) -> list[str]:
    """Those in the fewest sections: `agent.learning_rate`, not `agent.rnd.learning_rate`."""
    depth = min((key.count(".") for key in found), default=0)
    return [key for key in found if key.count(".") == depth][:MOST]


def _of_other_agents(leaf: str, own: list[str]) -> str:
    """A hint at other agents' setting of this name, or of one more alike than the agent's own."""
    theirs = {field for name in agent_names() for field in agent_class(name).Config.model_fields}
    found = next(iter(similar(leaf, [*own, *theirs])), leaf)
    if found in own or found not in theirs:
        return ""
    agents = agents_that(lambda agent: found in agent.Config.model_fields)
    if found == leaf:
        return f"; agent.{leaf} is a setting of {agents}"
    return did_you_mean([f"agent.{found} of {agents}"])
