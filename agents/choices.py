"""Which agents there are, and how one is built.

A file of this folder with a subclass of `Agent` that has a `Config` is a choice: `agent=FILE`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.errors import shorten
from ..core.registry import find_class, summaries
from ..networks.backbone import NetworkConfig, may_remember
from .agent import Agent
from .augmentation import AugmentConfig
from .off_policy import OffPolicyAgent
from .setup import AgentConfig, GradientConfig, Setup

_PACKAGE = "neuraxis.agents"
_OUTSIDE = "neuraxis.training.interop.sb3_agent"
"""Describes the algorithms of other libraries, `agent=LIBRARY/ALGORITHM`."""


def agent_names() -> list[str]:
    """The names of the agents in this folder."""
    return list(summaries(_PACKAGE))


def agent_class(name: str) -> type[Agent[Any]]:
    """The agent that a name chooses: a file of this folder, or the dotted name of a module.

    LIBRARY/ALGORITHM is an algorithm of another library.

    Raises:
        ValueError: There is no such agent, or its module cannot be imported.
    """
    module = _OUTSIDE if "/" in name else name
    return find_class(Agent, _PACKAGE, module, place=f"agent={name}", noun="agent")


def agents_that(can: Callable[[type[Agent[Any]]], bool]) -> str:
    """Lists the agents of this folder for which `can` is true, as `agent=NAME, agent=NAME`."""
    return ", ".join(f"agent={name}" for name in agent_names() if can(agent_class(name)))


def build(config: AgentConfig, setup: Setup) -> Agent[Any]:
    """Builds the agent that `config` configures.

    Raises:
        ValueError: It does not learn this kind of actions or a network with memory; or see
            `Agent`.
    """
    chosen = agent_class(config.name)
    _check_actions(chosen, config, setup)
    _check_network(chosen, config, setup)
    agent = chosen(config, setup)
    _check_ignored(agent, config)
    _check_memory(agent, config, setup)
    return agent


def _check_ignored(agent: Agent[Any], config: AgentConfig) -> None:
    """Raises ValueError if an agent of a person's own would ignore a setting that it has."""
    own = f"agent={config.name}"
    if isinstance(config, GradientConfig):
        if config.treats_parts and agent.freezing is None:
            raise ValueError(
                f"agent.freeze, agent.learning_rate_factors and agent.layer_decay: {own} "
                "does not call `execute`, and has neither"
            )
        if config.augment != AugmentConfig() and agent.augmentation is None:
            raise ValueError(
                f"agent.augment: {own} has no `augmentation`; expected a FreshAgent that calls "
                "`execute`, an OffPolicyAgent, or no agent.augment.KEY="
            )
    if isinstance(agent, OffPolicyAgent) and agent.plasticity is not None and not agent.makers:
        raise ValueError(
            f"agent.plasticity: {own} has no `makers` of fresh networks; expected one for each "
            "optimizer, or no agent.plasticity.KEY="
        )


def _check_actions(chosen: type[Agent[Any]], config: AgentConfig, setup: Setup) -> None:
    """Raises ValueError if the agent does not learn this kind of actions."""
    space = setup.action_space
    if isinstance(space, chosen.action_spaces):
        return
    *kinds, last = (kind.__name__ for kind in chosen.action_spaces)
    kinds = f"{', '.join(kinds)} or {last}" if kinds else last
    others = agents_that(lambda agent: isinstance(space, agent.action_spaces))
    hint = f": {chosen.why_these_actions}" if chosen.why_these_actions else ""
    hint += f"; try {others}" if others else ""
    raise ValueError(
        f"agent={config.name}: needs a {kinds} action space, got {shorten(space)}{hint}"
    )


def _check_network(chosen: type[Agent[Any]], config: AgentConfig, setup: Setup) -> None:
    """Raises ValueError if `network` configures what the agent does not have."""
    if setup.network != NetworkConfig() and not chosen.has_network:
        others = agents_that(
            lambda agent: agent.has_network and isinstance(setup.action_space, agent.action_spaces)
        )
        raise ValueError(
            f"network: agent={config.name} has none; expected no network= and network.KEY=, or "
            f"{others}"
        )
    if setup.network.critic is not None and not chosen.has_critic:
        others = agents_that(lambda agent: agent.has_critic)
        raise ValueError(
            f"network.critic: agent={config.name} has no critic beside an actor; expected null, or "
            f"{others}"
        )


def _check_memory(agent: Agent[Any], config: AgentConfig, setup: Setup) -> None:
    """Raises ValueError if the network has memory and the agent learns without."""
    critic = setup.network.critic or ()
    if agent.memory or not (agent.has_memory or any(map(may_remember, critic))):
        return
    names = [block.name for block in (*setup.network.blocks, *critic) if may_remember(block)]
    others = agents_that(
        lambda agent: agent.memory and isinstance(setup.action_space, agent.action_spaces)
    )
    raise ValueError(
        f"agent={config.name}: learns without memory, but the network has memory "
        f"({', '.join(names)}); take network=mlp for instance, or {others}"
    )
