"""Which tensor of one agent is loaded into which tensor of another, by name; see `transfer`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from ...core.errors import nearest
from .patterns import matches

Named = Mapping[str, Tensor]
"""Tensors by name."""

RENAME = r"(\w+(?:\.\w+)*)=(\w+(?:\.\w+)*)"
"""A rename, THERE=HERE."""
OTHERS = {"actor": ("backbone",), "critic": ("actor", "backbone"), "backbone": ("actor",)}
"""For a backbone of the new agent ("here"): the backbones of the other agent ("there") that it is
loaded from if that agent has none of the same name."""
_CHAIN = re.compile(r"(.+?)\.(?:encoder|blocks)\.")


def counterparts(
    there: Iterable[str], here: Iterable[str], renames: Sequence[str]
) -> dict[str, str]:
    """Finds for each name here the name there that it is loaded from, if there is one.

    Args:
        there: Names of the other agent's tensors.
        here: Names of the new agent's tensors.
        renames: THERE=HERE each: the beginning of names there, up to a dot or the end, and what
            stands in its place here.

    Raises:
        ValueError: No name begins so.
    """
    there, here = dict.fromkeys(there), list(here)
    pairs = [rename.split("=") for rename in renames]
    for old, new in pairs:
        for part, names, place in ((old, there, "there"), (new, here, "here")):
            if not any(_opens(part, name) for name in names):
                hint = nearest(part, _beginnings(names))
                raise ValueError(f"init.renames: {old}={new}: no tensor {place} is {part}{hint}")
    roots = {name.partition(".")[0] for name in there}
    found: dict[str, str] = {}
    for name in here:
        others = [old + name.removeprefix(new) for old, new in pairs if _opens(new, name)]
        root, dot, rest = name.partition(".")
        usual = next((r for r in (root, *OTHERS.get(root, ())) if r in roots), root)
        match = next((other for other in others or [usual + dot + rest] if other in there), None)
        if match is not None:
            found[name] = match
    return found


def _opens(part: str, name: str) -> bool:
    return f"{name}.".startswith(f"{part}.")


def _beginnings(names: Iterable[str]) -> list[str]:
    """The beginnings of the names, up to each dot, and the whole names."""
    parts = (name.split(".") for name in names)
    every = (".".join(part[: end + 1]) for part in parts for end in range(len(part)))
    return list(dict.fromkeys(every))


def check_chains(
    loaded: Iterable[str],
    there: Iterable[str],
    here: Iterable[str],
    origin: Mapping[str, str],
    parts: Iterable[str],
) -> None:
    """Refuses to load a backbone in part, where the one there has other layers.

    Args:
        loaded: Names here.
        there: Names.
        here: Names.
        origin: See `counterparts`.
        parts: Patterns of what was to be loaded.

    Raises:
        ValueError: A layer that is to be loaded is only there, or only here.
    """
    used, parts = {*origin.values()}, list(parts)
    for own, other in {(chain_of(name), chain_of(origin[name])): None for name in loaded}:
        if not own or not other:
            continue
        lacking = [n for n in here if chain_of(n) == own and n not in origin]
        spare = [n for n in there if chain_of(n) == other and n not in used]
        wanted = {n: f"{n} is not there" for n in lacking}
        wanted |= {own + n.removeprefix(other): f"{n} has no place here" for n in spare}
        for name, fault in wanted.items():
            if any(matches(name, part) for part in parts):
                raise ValueError(
                    f"the backbones have other layers: {fault}; init.shapes=skip or new loads what "
                    "both have"
                )


def chain_of(name: str) -> str:
    """The name of the backbone that a tensor belongs to; "" if it belongs to none."""
    found = _CHAIN.match(name)
    return found[1] if found else ""
