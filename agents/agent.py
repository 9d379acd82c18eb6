"""The agent: a policy, and how it learns from rollouts."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..core.rollout import Rollout
from ..core.space_trees import to_tree
from ..core.tree import map_tree
from .augmentation import Augmentation
from .policies.policy import Policy
from .setup import AgentConfig, Setup
from .teacher import Teacher
from .updates import Metrics, Updates

P = TypeVar("P", bound=Policy)


class Agent(Updates, Generic[P]):
    """A policy and how it learns. It decides what it keeps of the data: nothing, or a replay.

    A subclass builds its policy, its other parts and its optimizers, puts them all into `parts`,
    and implements `learn`. If it implements `update` as well, it calls `execute` at the end of its
    constructor, and in `learn` takes each update by `self.run_update(batch)`.

    Args:
        config: Its own `Config`.
        setup: What it is built for.

    Raises:
        ValueError: It cannot learn this network or combination of settings; says why.
    """

    Config: ClassVar[type[AgentConfig]]
    augmentation: Augmentation | None = None
    """What changes the observations that it learns from; None: nothing does."""
    policy: P
    teacher: Teacher | None = None
    """The teacher that advises it; None: there is none."""
    carried: frozenset[str] = frozenset()
    """Modules of the policy with weights that had learned before they were loaded."""

    def __init__(self, config: AgentConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self.rng = np.random.default_rng(setup.seed)
        torch.manual_seed(setup.seed)

    def learn(self, rollout: Rollout[Tensor]) -> Metrics:
        """Learns from a rollout on the agent's device; returns metrics as 0-dim tensors."""
        raise NotImplementedError

    def check_settings(self) -> None:
        """Raises ValueError for settings without effect; a stored run is opened with them."""

    def see(self, rollout: Rollout[Tensor]) -> None:
        """Adds a rollout's observations to the statistics by which the policy normalises them."""
        if self.policy.normalizer is not None:
            seen = self.policy.unmasked(rollout.obs)
            self.policy.normalizer.update(map_tree(lambda leaf: leaf[1:], seen))

    def untrained(self) -> list[str]:
        """Names of the policy's modules that are as they were drawn, for nothing trains them."""
        modules = [vector.trained for vector in self.vectors()]
        trained = {id(weight) for module in modules for weight in module.parameters()}
        found = {name: [*part.parameters()] for name, part in self.policy.named_children()}
        fresh = (name for name, own in found.items() if own and trained.isdisjoint(map(id, own)))
        return [name for name in fresh if trained and name not in self.carried]

    @property
    def has_memory(self) -> bool:
        """Whether the network has memory."""
        return self.policy.initial_state(1) != ()

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that are drawn as histograms: all that is trained, and its gradients.

        Returns:
            `weights/NAME` and `gradients/NAME` (see `Optimizer.tensors`). With several optimizers
            NAME begins with the optimizer's part, as in `weights/actor_optimizer.head.weight`.
        """
        several = len(self.optimizers) > 1
        return {
            name: tensor
            for part, optimizer in self.optimizers.items()
            for name, tensor in optimizer.tensors(f"{part}." if several else "").items()
        }

    def state_dict(self) -> dict[str, Any]:
        """All that the next `learn` depends on, and the spaces: a tree that a checkpoint holds."""
        setup, interface = self.setup, self.policy.interface
        own = interface and [interface.env_id, *map(to_tree, interface.spaces)]
        return {
            **{name: part.state_dict() for name, part in self.parts.items()},
            "spaces": [to_tree(setup.observation_space), to_tree(setup.action_space)],
            "environment": own,
            "untrained": self.untrained(),
            "steps": self.steps,
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` stood.

        Raises:
            RuntimeError: The state is that of another agent or network, or of an older version.
        """
        missing = ", ".join(name for name in self.parts if name not in state)
        if missing:
            raise RuntimeError(
                f"agent={self.name} has parts that the checkpoint lacks: {missing}; was it written "
                "by another version of neuraxis?"
            )
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        modules = {name for name, _ in self.policy.named_children()}
        self.carried = frozenset(modules.difference(state.get("untrained", ())))
        self.steps = state["steps"]
        self.rng.bit_generator.state = state["rng"]
