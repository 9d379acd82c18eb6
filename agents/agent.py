"""The agent: a policy, and how it learns from rollouts. An agent is found by its file."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import shutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from ..envs.rollout import Rollout
from ..networks.backbone import NetworkConfig
from .policies import Policy

WORTH_COMPILING = 60_000  # updates; each saves about a millisecond, compiling takes up to a minute


class AgentConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """What every agent's configuration has."""

    name: str
    """The agent's file in `agents/`, or `my_package.my_agent`."""


class Agent:
    """What learns. It owns its data policy: a replay, epochs, corrections.

    Args:
        config: Its own `Config`.
        network: The backbone.
        observation_space: Of one environment.
        action_space: Of one environment.
        num_envs: Columns of the whole run.
        total_steps: Environment steps of the whole run; schedules end there.
        seed: Of everything random in here.
        device: Where it learns.
        compile: Run updates as one compiled graph; None leaves that to the agent.
    """

    Config: ClassVar[type[AgentConfig]]
    policy: Policy
    rollout_length: int
    """T of the rollouts that it learns from."""

    def __init__(
        self,
        config: AgentConfig,
        network: NetworkConfig,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        *,
        num_envs: int,
        total_steps: int,
        seed: int,
        device: torch.device,
        compile: bool | None,
    ) -> None:
        self.device = device
        self.total_steps = total_steps
        self.steps = 0
        self.rng = np.random.default_rng(seed)
        torch.manual_seed(seed)

    def learn(self, rollout: Rollout) -> dict[str, Tensor]:
        """Learns from a rollout of tensors on the agent's device; returns metrics as 0-dim tensors."""
        raise NotImplementedError

    @staticmethod
    def _compiles(wish: bool | None, updates: float, obstacle: str | None) -> bool:
        """Whether updates are compiled: as wished, and if left open where it repays and can be done.

        Args:
            wish: true, false, or None for `compile=auto`.
            updates: How many the run will take.
            obstacle: What cannot be compiled, if anything.

        Raises:
            ValueError: It was wished and cannot be done.
        """
        if wish and obstacle:
            raise ValueError(f"compile=true: {obstacle} cannot be compiled; use compile=auto")
        if wish is None:
            return not obstacle and updates > WORTH_COMPILING and shutil.which("g++") is not None
        return wish

    @property
    def progress(self) -> float:
        """Share of the run that is done, in [0, 1]."""
        return min(self.steps / self.total_steps, 1.0)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next `learn` depends on: a tree of tensors, arrays and JSON scalars."""
        return {
            "policy": dict(self.policy.state_dict()),
            "steps": self.steps,
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self.policy.load_state_dict(state["policy"])
        self.steps = state["steps"]
        self.rng.bit_generator.state = state["rng"]


def agent_names() -> list[str]:
    """Names of the agents in this folder."""
    package = importlib.import_module(__package__ or "")
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return [name for name in names if any(_agents_in(importlib.import_module(f".{name}", __package__)))]


def _agents_in(module: ModuleType) -> Iterator[type[Agent]]:
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Agent) and value.__module__ == module.__name__:
            if value is not Agent:
                yield value


def agent_class(name: str) -> type[Agent]:
    """Finds the agent in `agents/<name>.py`, or in the module `my_package.my_agent`.

    Raises:
        ValueError: No such agent; names the nearest.
    """
    if "." in name:
        try:
            found = next(_agents_in(importlib.import_module(name)), None)
        except ModuleNotFoundError as error:
            raise ValueError(f"agent={name}: {error}") from error
        if found is None:
            raise ValueError(f"agent={name}: the module defines no subclass of neuraxis.agents.Agent")
        return found
    names = agent_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"agent={name}: no such agent{hint} (choices: {', '.join(names)})")
    return next(_agents_in(importlib.import_module(f".{name}", __package__)))


def build(config: AgentConfig, *args: Any, **kwargs: Any) -> Agent:
    """Builds the agent that `config` configures; see `Agent` for the arguments.

    Raises:
        ValueError: The agent cannot do this action space, network or setting; says why.
    """
    return agent_class(config.name)(config, *args, **kwargs)
