"""The weights and statistics of a model of Stable-Baselines3 go into an agent of ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from gymnasium import spaces
from torch import Tensor

from ....agents.agent import Agent
from ....agents.loading import loadable, return_scales, take_over
from ....agents.policies.normalize import Normalizer
from ....core.errors import listed
from .sb3_networks import pairs
from .sb3_settings import shares_lstm
from .sb3_statistics import Moments, Statistics
from .sb3_towers import ACTOR_CRITICS, is_bytes
from .sb3_zip import Model

TARGETS = "_target."
"""In the names of target networks, which begin as copies here."""
OWN = "normalizer.", "temperature.", "rnd."
"""The beginnings of the names of what no weight of the library goes into."""


def keys_of(agent: Agent) -> Sequence[str]:
    """The keys of Dict observations, in the environment's order; none for other observations.

    Raises:
        ValueError: The library has no such observations.
    """
    seen = agent.setup.observation_space
    if not isinstance(seen, spaces.Dict):
        return ()
    if any(isinstance(part, spaces.Dict | spaces.Tuple) for part in seen.values()):
        raise ValueError("observations: Stable-Baselines3 knows no Dict in a Dict, and no Tuple")
    interface = agent.policy.interface
    own = None if interface is None else interface.spaces[0]
    return list(own if isinstance(own, spaces.Dict) and own.keys() == seen.keys() else seen)


def fill(agent: Agent, model: Model, env: str) -> None:
    """Writes a model's weights into an agent; target networks follow.

    Args:
        agent: Just built for this model.
        model: The model.
        env: The environment's name, for errors.

    Raises:
        ValueError: The weights do not fit; names which, and then nothing has changed.
    """
    place, theirs = model.place, model.tensors
    _check_images(agent, model)
    here = loadable(agent)
    values: dict[str, Tensor] = {}
    used: set[str] = set()
    try:
        found = [*pairs(agent, model.algorithm, keys_of(agent), shares_lstm(model))]
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    for pair in found:
        if pair.theirs not in theirs or pair.ours not in here:
            raise ValueError(f"{place}: has no {pair.theirs}; {_EXPECTED}")
        ours = values.setdefault(pair.ours, here[pair.ours].detach().clone())
        expected, shape = tuple(pair.give(ours).shape), tuple(theirs[pair.theirs].shape)
        if expected != shape:
            raise ValueError(
                f"{place}: {pair.theirs} is {list(shape)}; env={env} needs {list(expected)}"
            )
        pair.put(ours, theirs[pair.theirs])
        used.add(pair.theirs)
    _check_whole(model, values.keys(), here, used)
    if model.temperature is not None and "temperature.log" in here:
        values["temperature.log"] = torch.tensor(model.temperature)
    take_over(agent, values)


_EXPECTED = "expected a policy as the library builds it, without layers of one's own"


def _check_whole(
    model: Model, filled: Iterable[str], here: Iterable[str], used: Iterable[str]
) -> None:
    """Raises ValueError if tensors are left over, on either side."""
    again = "features_extractor." if model.algorithm in ACTOR_CRITICS else ()  # it is pi's
    rest = [n for n in model.tensors if TARGETS not in n and not n.startswith(again)]
    rest = sorted({*rest}.difference(used))
    if rest:
        raise ValueError(f"{model.place}: no form here for {listed(rest, 120)}; {_EXPECTED}")
    missing = [n for n in here if not n.startswith(OWN)]
    if missing := sorted({*missing}.difference(filled)):
        raise ValueError(f"{model.place}: nothing for {listed(missing, 120)}; {_EXPECTED}")


def _check_images(agent: Agent, model: Model) -> None:
    """Raises ValueError for images that the two read in different ways."""
    space = agent.setup.observation_space
    leaves = space.spaces.items() if isinstance(space, spaces.Dict) else [("", space)]
    divides = model.policy_settings.get("normalize_images", True)
    for key, leaf in leaves:
        opening = f".extractors.{key}.cnn." if key else "_extractor.cnn."
        convolved = any(opening in name for name in model.tensors)
        if not isinstance(leaf, spaces.Box) or len(leaf.shape) != 3:
            continue
        if is_bytes(leaf) and not convolved:
            raise ValueError(f"{model.place}: reads an image without convolutions; no form here")
        largest = 255 if is_bytes(leaf) and divides else 1
        if convolved and not (leaf.high == largest).all():
            raise ValueError(
                f"{model.place}: normalize_images={str(divides).lower()} and an image up to "
                f"{leaf.high.max()}: here it is divided by that bound, there it is not"
            )


def take_statistics(agent: Agent, statistics: Statistics, file: str | Path | None) -> list[str]:
    """Writes the statistics of a VecNormalize into an agent; returns notes for people.

    Raises:
        ValueError: They are of other observations, or have no form here.
    """
    notes: list[str] = []
    normalizer = agent.policy.normalizer
    if statistics.observations and normalizer is not None:
        if statistics.clip_obs != normalizer.limit:
            raise ValueError(
                f"{file}: clip_obs={statistics.clip_obs:g}; expected {normalizer.limit:g}"
            )
        parts = dict(active("", normalizer))
        for key, part in parts.items():
            moments = statistics.observations.get(key)
            if moments is None or moments.mean.shape != part.mean.shape:
                there = "none" if moments is None else list(moments.mean.shape)
                raise ValueError(
                    f"{file}: statistics of observations{f' {key}' if key else ''}: {there}; the "
                    f"environment needs {list(part.mean.shape)}"
                )
            _take(part, moments, statistics.epsilon)
        if others := statistics.observations.keys() - parts.keys():
            raise ValueError(f"{file}: normalises {listed(sorted(others)) or 'images'} as well")
    if statistics.returns is not None:
        given = statistics.returns
        scales = return_scales(agent).values()
        for scale in scales:
            mean, variance = (torch.tensor(float(x)).double() for x in (given.mean, given.variance))
            scale.moments = (given.count, mean, variance)
        if not scales:
            notes.append(f"agent={agent.name} does not divide rewards: their scale is not used")
    return notes


def active(key: str, normalizer: Normalizer) -> Iterator[tuple[str, Normalizer]]:
    """The parts of a normaliser that have statistics, by the key of their Dict (`key`: its own)."""
    if normalizer.active:
        yield key, normalizer
    for name, part in normalizer.parts.items():
        yield from active(str(name), part)


@torch.no_grad()
def _take(part: Normalizer, moments: Moments, epsilon: float) -> None:
    part.count.fill_(moments.count)
    part.mean.copy_(torch.from_numpy(moments.mean))
    part.variance.copy_(torch.from_numpy(moments.variance))
    scale = (part.variance + epsilon).rsqrt()
    part.scale.copy_(scale)
    part.shift.copy_(-part.mean * scale)
