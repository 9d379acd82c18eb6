"""The agent: a policy, and how it learns from rollouts. An agent is found by its file."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, Generic, TypeVar

import gymnasium
import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from ..envs.errors import Guard
from ..envs.rollout import Rollout
from ..networks.backbone import NetworkConfig
from .optimizer import Execution
from .peers import Peers
from .policies import Policy

P = TypeVar("P", bound=Policy)
WORTH_COMPILING = 60_000  # updates; each saves half a millisecond, compiling takes up to 30 s


class AgentConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """What every agent's configuration has."""

    name: str
    """The agent's file in `agents/`, or `my_package.my_agent`."""


@dataclass(frozen=True)
class Setup:
    """What an agent is built for, the same for every algorithm."""

    network: NetworkConfig
    """The backbone's blocks."""
    observation_space: gymnasium.Space
    """Of one environment."""
    action_space: gymnasium.Space
    """Of one environment."""
    num_envs: int
    """Columns of the whole run."""
    total_steps: int
    """Environment steps of the whole run; schedules end there."""
    seed: int
    """Of everything random in the agent."""
    device: torch.device
    """Where it learns."""
    compile: bool | None
    """Run updates as one compiled graph; None leaves that to the agent."""
    peers: Peers | None = None
    """The learners that share each minibatch; None: there is one."""


class Agent(Generic[P]):
    """What learns. It owns its data policy: a replay, epochs, corrections.

    Args:
        config: Its own `Config`.
        setup: What it is built for.

    Raises:
        ValueError: It cannot do this action space, network or combination of settings; says why.
    """

    Config: ClassVar[type[AgentConfig]]
    asynchronous: ClassVar[bool] = False
    """Whether it can learn from rollouts of older weights, and of some of the columns at a time."""
    policy: P
    rollout_length: int
    """T of the rollouts that it learns from."""
    execution: Execution = "plain"
    """Of its updates."""

    def __init__(self, config: AgentConfig, setup: Setup) -> None:
        self.setup = setup
        self.device = setup.device
        self.steps = 0
        self.rng = np.random.default_rng(setup.seed)
        torch.manual_seed(setup.seed)

    def learn(self, rollout: Rollout) -> dict[str, Tensor]:
        """Learns from a rollout on the agent's device; returns metrics as 0-dim tensors."""
        raise NotImplementedError

    def _execution(self, updates: float, obstacle: str | None) -> Execution:
        """How updates run: compiled as wished or, if left open, where it repays and can be.

        Args:
            updates: How many the run will take.
            obstacle: Why they are not the same operations of tensors each time, if so.

        Raises:
            ValueError: Compiling was wished and cannot be done.
        """
        wish, peers = self.setup.compile, self.setup.peers
        if peers is not None:
            obstacle = f"what several learners share (learner.count={peers.count})"
        if wish and obstacle:
            raise ValueError(f"compile=true: {obstacle} cannot be compiled; use compile=auto")
        if obstacle:
            return "plain"
        if wish or (wish is None and updates > WORTH_COMPILING and shutil.which("g++")):
            self.execution = "compiled"
        elif self.device.type == "cpu":
            self.execution = "recorded"
        return self.execution

    @property
    def progress(self) -> float:
        """Share of the run that is done, in [0, 1]."""
        return min(self.steps / self.setup.total_steps, 1.0)

    def tensors(self) -> dict[str, Tensor]:
        """What histograms are made of: `weights/NAME`, where known `gradients/NAME`."""
        return {f"weights/{name}": p.detach() for name, p in self.policy.named_parameters()}

    def state_dict(self) -> dict[str, Any]:
        """All that the next `learn` depends on: a tree of tensors, arrays and JSON scalars."""
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
    return [
        name for name in names if any(_agents_in(importlib.import_module(f".{name}", __package__)))
    ]


def _agents_in(module: ModuleType) -> Iterator[type[Agent[Any]]]:
    for value in vars(module).values():
        if (
            isinstance(value, type)
            and issubclass(value, Agent)
            and value.__module__ == module.__name__
            and hasattr(value, "Config")  # what agents share has none
        ):
            yield value


def agent_class(name: str) -> type[Agent[Any]]:
    """Finds the agent in `agents/<name>.py`, or in the module `my_package.my_agent`.

    Raises:
        ValueError: No such agent; names the nearest.
    """
    if "." in name:
        with Guard(lambda: f"agent={name}", ValueError):
            module = importlib.import_module(name)
        found = next(_agents_in(module), None)
        if found is None:
            raise ValueError(
                f"agent={name}: expected a module with an Agent subclass and its Config"
            )
        return found
    names = agent_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"agent={name}: no such agent{hint} (choices: {', '.join(names)})")
    return next(_agents_in(importlib.import_module(f".{name}", __package__)))


def build(config: AgentConfig, setup: Setup) -> Agent[Any]:
    """Builds the agent that `config` configures.

    Raises:
        ValueError: See `Agent`.
    """
    return agent_class(config.name)(config, setup)
