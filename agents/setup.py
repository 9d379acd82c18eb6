"""What an agent is built from: its settings, and the run that it learns in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gymnasium
import torch
from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    field_validator,
)

from ..core.goals import GoalRewards
from ..networks.backbone import NetworkConfig
from ..networks.observation import frames_of, stored_bytes
from .augmentation import AugmentConfig
from .learning.data_parallel import Replicas
from .learning.schedules import Shape
from .learning.update_rules import Rule
from .policies.policy import Policy

Until = NonNegativeInt | NonNegativeFloat | None
"""Environment steps or, below 1, the share of the run until which something is frozen; None: it
never thaws."""


class AgentConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """What every agent's configuration has."""

    name: str
    """The agent's file in `agents/`, or `my_package.my_agent`."""


class GradientConfig(AgentConfig, frozen=True):
    """Settings of every agent that learns by gradients; names as in Stable-Baselines3."""

    optimizer: Rule = "adam"
    """How gradients change weights: adam, radam (Adam whose first steps are shorter), or rmsprop
    (as TensorFlow's: epsilon is inside the root)."""
    learning_rate: float = Field(default=3e-4, gt=0)
    """Step of the optimizer."""
    learning_rate_schedule: Shape = "constant"
    """How it falls to 0 over the run."""
    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount per step."""
    max_grad_norm: float | None = Field(default=None, gt=0)
    """Limit of the gradient's global norm."""
    optimizer_eps: float = Field(default=1e-8, gt=0)
    """The optimizer's epsilon, which keeps steps small where gradients are tiny."""
    adam_beta1: float = Field(default=0.9, gt=0, lt=1)
    """How much of the mean gradient adam and radam keep in each step (unused by rmsprop)."""
    rmsprop_alpha: float = Field(default=0.99, ge=0, lt=1)
    """How much of the mean square of gradients rmsprop keeps in each step (unused by others)."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled decay of weight matrices, per unit of learning rate."""
    l1: float = Field(default=0.0, ge=0)
    """Weight in the loss of the sum of |w| over the weight matrices."""
    l2: float = Field(default=0.0, ge=0)
    """Weight in the loss of half the sum of w^2 over the weight matrices."""
    normalize_observations: bool = False
    """Running mean and deviation of vector observations, kept in the policy."""
    augment: AugmentConfig = AugmentConfig()
    """Observations are changed at random before they are learned from."""
    freeze: dict[str, Until] = {}
    """What does not learn, `{PATTERN: UNTIL}`, and until when: a number of steps, below 1 a share
    of the run, null for ever. Of patterns that match the same the last one counts."""
    learning_rate_factors: dict[str, PositiveFloat] = {}
    """Factors on the learning rate, `{PATTERN: FACTOR}`; the last pattern that matches counts."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Factor on the learning rate for each layer further below the output layers."""

    @field_validator("freeze")
    @classmethod
    def _times(cls, freeze: dict[str, Until]) -> dict[str, Until]:
        for pattern, until in freeze.items():
            if until is not None and until >= 1 and (until == 1 or until % 1):
                raise ValueError(
                    f"{pattern}={until}: expected a number of steps, or below 1 a share of the "
                    "run, or null for ever"
                )
        times = [until for until in freeze.values() if until]
        if min(times, default=0) < 1 <= max(times, default=0):
            raise ValueError("expected either numbers of steps or, below 1, shares of the run")
        return freeze

    @property
    def treats_parts(self) -> bool:
        """Whether some parts of the agent are trained in another way than others."""
        return bool(self.freeze or self.learning_rate_factors or self.layer_decay != 1)


class DatasetConfig(AgentConfig, frozen=True):
    """Settings of an agent that can learn from recorded episodes."""

    dataset: str | None = Field(default=None, min_length=1)
    """Folder of the episodes that `neuraxis record` wrote, or minari:ID. They take the place of the
    environment's: steps count those that were read; null: the environment's."""


@dataclass(frozen=True)
class Setup:
    """The run that an agent is built for, described alike for every algorithm."""

    network: NetworkConfig
    """The backbone's blocks."""
    observation_space: gymnasium.Space
    """Observations of one environment."""
    action_space: gymnasium.Space
    """Actions of one environment."""
    num_envs: int
    """Columns of the whole run."""
    total_steps: int
    """Environment steps of the whole run; schedules end there."""
    seed: int
    """Seed of everything random in the agent."""
    device: torch.device
    """Where it learns."""
    compile: bool | None
    """Whether to run updates as one compiled graph; None leaves that to the agent."""
    replicas: Replicas | None = None
    """The learners that share each minibatch; None: there is one."""
    teacher: Policy | None = None
    """The policy that teaches; None: there is none, or only the policy is wanted."""
    late: bool = False
    """Whether rollouts are of older weights, which all agents here can learn from."""
    stacked: int = 1
    """Frames that an image of the observations stacks."""
    rollout_columns: int | None = None
    """Columns of each rollout, where not all arrive together; None: all."""
    goal_rewards: Callable[[], GoalRewards] | None = None
    """Makes the function that computes the rewards of other goals; None: only the policy is
    wanted."""

    @property
    def frames(self) -> list[int]:
        """Frames of each leaf of the observations, see `frames_of`."""
        return frames_of(self.observation_space, self.stacked)

    @property
    def step_bytes(self) -> float:
        """Bytes of an observation and an action, as a replay keeps them."""
        action = stored_bytes(self.action_space, 1)
        return stored_bytes(self.observation_space, self.stacked) + action
