"""A policy as one function of named tensors: what `Policy.predict` computes, as a graph has it.

    graph = PolicyGraph(policy)
    action, *state = graph(graph.example(batch=2))     in the order of graph.outputs

Inputs, B rows each: `observation`, or `observation.KEY` for each part of a Dict or Tuple; `first`;
`action_mask` and `reward` where the environment's settings ask for them; and `state.*`, which is
what the last call returned. Outputs: `action`, then `next.*` for each state, in the same order.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from ....agents.policies.actor_critic import ActorCritic
from ....agents.policies.policy import Policy
from ....agents.policies.prediction import known
from ....core.action_mask import choices
from ....core.tree import leaves, map_tree
from ....envs.observations import empty
from ....envs.wrappers.interface import Interface
from ....networks.observation import leaf_spaces
from .onnx_interface import GraphInterface

OBSERVATION, FIRST, MASK, REWARD = "observation", "first", "action_mask", "reward"
STATE, MEMORY, ACTION = "state", "memory", "action"
ABOUT, BATCH = "neuraxis", "batch"
"""The key of a file's metadata, and what it calls the number of rows."""


class PolicyGraph(nn.Module):
    """The greedy actions of a policy, for an environment's own observations.

    Args:
        policy: In eval mode, with an interface; it is copied.

    Attributes:
        outputs: The names of what it returns.

    Raises:
        ValueError: The policy's environment is not known.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        interface = known(policy.interface)
        assert isinstance(interface, Interface)
        self.policy = copy.deepcopy(policy)
        if isinstance(self.policy, ActorCritic):
            self.policy.critic = None  # it does not act, but may have a memory of its own
        self.interface = interface
        self._between = GraphInterface(interface)
        self._parts = [".".join(map(str, path)) for path, _ in leaf_spaces(interface.spaces[0])]
        self.outputs = [ACTION, *(f"next.{name}" for name in self._states(1))]

    def example(self, batch: int) -> dict[str, Tensor]:
        """Inputs of zeros, in their order; every row opens an episode."""
        observation_space, action_space = self.interface.spaces
        zeros = [np.zeros_like(leaf) for leaf in leaves(empty(observation_space, batch))]
        inputs = dict(zip(self._named(OBSERVATION), map(torch.from_numpy, zeros), strict=True))
        inputs[FIRST] = torch.ones(batch, dtype=torch.bool)
        if self.interface.config.action_mask == "info":
            inputs[MASK] = torch.ones(batch, sum(choices(action_space)), dtype=torch.int8)
        if self.interface.last_action is not None:
            inputs[REWARD] = torch.zeros(batch)
        states = {f"{STATE}.{name}": leaf for name, leaf in self._states(batch).items()}
        return inputs | states

    def batch_axis(self, name: str) -> int:
        """Which axis of an input counts the environments."""
        return int(name.startswith(f"{STATE}.{MEMORY}."))

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Maps inputs, named as in `example`, to the actions [B,*] and the next states."""
        first = inputs[FIRST]
        found = iter([inputs[name] for name in self._named(OBSERVATION)])
        states = iter([leaf for name, leaf in inputs.items() if name.startswith(f"{STATE}.")])
        memory = map_tree(lambda _: next(states), self.policy.initial_state(1))
        frames = map_tree(lambda _: next(states), self._between.no_frames(1))
        obs = map_tree(lambda _: next(found), empty(self.interface.spaces[0], 0))
        obs, frames = self._between.frames(obs, first, frames)
        seen = self._between.observe(obs, inputs.get(MASK))
        if self.interface.last_action is not None:
            seen = self._between.with_last_action(seen, next(states), inputs[REWARD], first)
        chosen, _, memory = self.policy.act(seen, memory, first, greedy=True)
        last = () if self.interface.last_action is None else self._between.to_vector(chosen)
        action = self._between.to_environment(chosen)
        return action, *leaves(memory), *leaves(frames), *leaves(last)

    def _named(self, kind: str) -> list[str]:
        """A name for each part of an observation."""
        return [f"{kind}.{part}" if part else kind for part in self._parts]

    def _states(self, batch: int) -> dict[str, Tensor]:
        """What a call needs of the one before, for rows that open an episode."""
        memory, frames = self.policy.initial_state(batch), self._between.no_frames(batch)
        states = {f"{MEMORY}.{number}": leaf for number, leaf in enumerate(leaves(memory))}
        states |= dict(zip(self._named("frames"), leaves(frames), strict=False))
        if self.interface.last_action is not None:
            size = self.interface.last_action.space["last_action"].shape or ()
            states[ACTION] = torch.zeros(batch, *size)
        return states
