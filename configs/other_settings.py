"""Settings by which a run computes something else from weights than the run that they are from.

other_settings(cfg, settings, blocks, loaded)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .config import Config
from .text import brief

SILENT = ("name", "init", "timescale", "dropout")
"""Settings of a block that do not change what its weights compute."""
CHAINS = {"backbone": "blocks", "actor": "blocks", "critic": "critic", "critics": "critic"}
"""The setting of the network that has the blocks of a part."""
HEAD = "gaussian.log_std_min", "gaussian.log_std_max", "log_std_min", "log_std_max"
"""Settings of an agent that change what its head makes of the same outputs."""
MISSING = "missing"
"""In place of a setting that a configuration does not have."""


def other_settings(
    cfg: Config, there: Mapping[str, Any], blocks: Any, loaded: Mapping[str, str]
) -> list[str]:
    """A line for each setting that differs and changes what the loaded weights compute.

    Args:
        cfg: The configuration of the run that starts.
        there: What the config.yaml of the other run has, as far as there is one.
        blocks: The backbone's blocks that the weights themselves name.
        loaded: Names of the tensors here, with those there.
    """
    found: dict[str, tuple[Any, Any]] = {}
    network = {"blocks": blocks, **there.get("network", {})}
    roots = [(one.partition(".")[0], other.partition(".")[0]) for one, other in loaded.items()]
    for pair in dict.fromkeys(roots):
        if pair[0] in CHAINS and pair[1] in CHAINS:
            found |= _of_blocks(cfg.network.model_dump(mode="json"), network, pair)
        elif pair == ("head", "head"):
            ours, theirs = cfg.agent.model_dump(mode="json"), there.get("agent", {})
            values = {f"agent.{key}": (_at(ours, key), _at(theirs, key)) for key in HEAD}
            found |= {key: both for key, both in values.items() if MISSING not in both}
    return [
        f"{key} is {brief(ours)} here, it was {brief(theirs)} there"
        for key, (ours, theirs) in found.items()
        if ours != theirs
    ]


def _of_blocks(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], pair: tuple[str, str]
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """The settings that both have of each block of a part here and of one there, by key."""
    places = [
        CHAINS[root] if network.get(CHAINS[root]) is not None else "blocks"
        for network, root in zip((ours, theirs), pair, strict=True)
    ]
    chains = [network.get(place) for network, place in zip((ours, theirs), places, strict=True)]
    if not all(isinstance(chain, list) for chain in chains):
        return
    for number, (own, other) in enumerate(zip(*chains, strict=False)):
        if isinstance(other, dict) and own["name"] == other.get("name"):
            for key in own:
                if key not in SILENT and key in other:
                    yield f"network.{places[0]}.{number}.{key}", (own[key], other[key])


def _at(tree: Any, key: str) -> Any:
    """The value at a dotted key; MISSING where there is none."""
    for name in key.split("."):
        tree = tree.get(name, MISSING) if isinstance(tree, dict) else MISSING
    return tree
