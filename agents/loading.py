"""Which tensors of a new agent may be loaded from another one, and how it takes them over.

Not loaded are moments of optimizers, a replay, schedules, random numbers and exploration: these are
the new run's own. Target networks take over the weights of the networks that they follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gymnasium
import torch
from gymnasium import spaces
from torch import Tensor, nn

from ..networks.noisy import NoisyLinear
from ..networks.weight_norm import NormedConv2d, NormedLinear
from .agent import Agent
from .learning.target import TargetNetwork
from .policies.normalize import ReturnScale
from .policies.policy import Policy
from .rnd import RND

OUTPUTS = "head.", "advantage.", "value.layers.", "cells", "critics.heads."
"""The beginnings of the names of layers with outputs for actions."""
VALUES = "advantage.", "value.layers.", "critics.heads."
"""The beginnings of the names of layers with outputs for returns of actions."""
READERS = "critics.", "decoder.hidden."
"""The beginnings of the names of layers that may have actions as inputs."""


def loadable(agent: Agent) -> dict[str, Tensor]:
    """The tensors themselves of an agent that may be loaded, by name; see `networks.transfer`."""
    found: dict[str, Tensor] = {}
    for opening, module in _modules(agent):
        drawn = [layer for layer in module.modules() if isinstance(layer, Policy | NoisyLinear)]
        own = {id(buffer) for layer in drawn for buffer in layer.buffers(recurse=False)}
        state = module.state_dict(keep_vars=True).items()
        found |= {opening + name: tensor for name, tensor in state if id(tensor) not in own}
    return found


def packed(agent: Agent) -> set[str]:
    """Names of the tensors of which no rows may be sliced.

    The rows of gates form several groups (`packed` of their modules). The rows of output layers
    belong to actions, and the number of rows for each action differs between agents.
    """
    openings = tuple(
        f"{opening}{path}{'.' if path else ''}{child}."
        for opening, module in _modules(agent)
        for path, inner in module.named_modules()
        for child in getattr(inner, "packed", ())
    )
    return {name for name in loadable(agent) if name.startswith((*openings, *OUTPUTS))}


def unlike(
    agent: Agent,
    others: Sequence[gymnasium.Space] | None,
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
) -> dict[str, str]:
    """Names of the tensors whose numbers mean something else there, and what is said of them.

    These belong to actions, if the other run's actions are others, or to returns, likewise.

    Args:
        agent: The agent.
        others: The other run's spaces of observations and actions; None: they are not known.
        ours: Settings of the agent.
        theirs: Those of the other run's agent; {}: they are not known.
    """
    names, found = loadable(agent), dict[str, str]()
    own, other = _returns(ours), _returns(theirs) if theirs else {}
    for key in other:
        if other[key] != own.get(key):
            value = str(other[key]).lower()
            said = f"is of other returns there (agent.{key}={value})"
            found |= {name: said for name in names if name.startswith(VALUES)}
            break
    openings = _of_other_actions(agent.setup.action_space, others)
    return found | {n: "is of other actions there" for n in names if n.startswith(openings)}


def _returns(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What an agent's settings say of the meaning of its values; see `ReturnConfig`."""
    kind = settings.get("distribution", "none")
    keys = ("v_min", "v_max") if kind == "categorical" else ()
    found = {"distribution": kind, "value_rescaling": settings.get("value_rescaling", False)}
    return found | {key: settings.get(key) for key in keys}


def _of_other_actions(
    own: gymnasium.Space, others: Sequence[gymnasium.Space] | None
) -> tuple[str, ...]:
    """The beginnings of the names of what belongs to actions, where these are others."""
    if others is None or others[1] == own:
        return ()
    other = others[1]
    if type(other) is not type(own) or not isinstance(own, spaces.Discrete | spaces.Box):
        return (*OUTPUTS, *READERS)
    return () if other.shape == own.shape else READERS


def return_scales(agent: Agent) -> dict[str, ReturnScale]:
    """The running scales by which an agent divides rewards, by name."""
    parts = dict(agent.parts)
    for name, part in agent.parts.items():
        if isinstance(part, RND):
            parts |= {f"{name}.{inner}": own for inner, own in part.parts.items()}
    return {name: part for name, part in parts.items() if isinstance(part, ReturnScale)}


@torch.no_grad()
def take_over(agent: Agent, values: Mapping[str, Tensor]) -> None:
    """Writes values into the tensors of these names; target networks follow at once.

    So do norms of weights, unless the values have tensors for them.
    """
    tensors = loadable(agent)
    for name, value in values.items():
        tensors[name].copy_(value)
    agent.carried |= {name.partition(".")[0] for name in values}
    for opening, module in _modules(agent):
        for path, layer in module.named_modules():
            own = f"{opening}{path}."
            if isinstance(layer, NormedLinear | NormedConv2d) and f"{own}weight" in values:
                if not any(name.startswith(f"{own}norm.") for name in values):
                    layer.norm.begin(layer.weight)
    for part in agent.parts.values():
        if isinstance(part, TargetNetwork):
            part.copy()


def _modules(agent: Agent) -> Iterator[tuple[str, nn.Module]]:
    """The policy and the other trained modules, each with the beginning of its tensors' names."""
    yield "", agent.policy
    optimizers = agent.optimizers.values()
    trained = {id(weight) for own in optimizers for weight in own.trained.parameters()}
    for name, part in agent.parts.items():
        if isinstance(part, RND):
            for inner, own in part.parts.items():
                if isinstance(own, nn.Module):
                    yield f"{name}.{inner}.", own
        elif isinstance(part, nn.Module) and part is not agent.policy:
            if any(id(weight) in trained for weight in part.parameters()):
                yield f"{name}.", part
