"""Tabular Q-learning: a table of action values, learned step by step.

Watkins & Dayan 1992; Sutton & Barto 2018, section 6.5. The steps of a rollout are learned from in
their order, each by the table that the step before has left:

    Q(s, a) <- Q(s, a) + alpha (r + gamma max Q(s', .) - Q(s, a))

The B columns take a step together. Where several of them took the same action after the same
observation, their cell goes by alpha towards the mean of their targets: as far as for one of them.

With several learners (`learner.count`) each does the whole work: there are no gradients to share.
"""

from __future__ import annotations

from typing import ClassVar, NotRequired, TypedDict

import torch
from pydantic import Field
from torch import Tensor

from ..core.rollout import Rollout
from ..networks.heads.discrete import INVALID
from .agent import Agent, Metrics
from .claims import CHOICES
from .exploration import ExplorationConfig, epsilon
from .learning.losses import masked_mean
from .learning.schedules import Shape, scheduled
from .learning.terms import Terms
from .policies.table import Table
from .setup import Setup


class Batch(TypedDict):
    """T steps of B columns."""

    row: Tensor  # [T+1, B] int64, of the observations
    action: Tensor  # [T, B] int64, of the joint actions
    reward: Tensor  # [T, B]
    discount: Tensor  # [T, B], 0 at termination
    valid: Tensor  # [T, B], 0 at resets
    rate: Tensor  # scalar, alpha
    forbidden: NotRequired[Tensor]  # [T+1, B, A] bool, by action masks
    next_action: NotRequired[Tensor]  # [T, B] int64, of the joint actions that followed


class TabularQ(Agent[Table]):
    """Q-learning on observations and actions that can be counted, with a table of values."""

    asynchronous: ClassVar[bool] = True
    memory: ClassVar[bool] = False
    has_network: ClassVar[bool] = False
    action_spaces = CHOICES
    why_these_actions = "a table has a cell for each action, and a Box has infinitely many"

    class Config(ExplorationConfig, frozen=True):
        """Settings of tabular Q-learning."""

        name: str = "tabular_q"
        """This file."""
        learning_rate: float = Field(default=0.1, gt=0, le=1)
        """Step size alpha: the share of its error by which a value changes."""
        learning_rate_schedule: Shape = "constant"
        """How it falls to 0 over the run."""
        gamma: float = Field(default=0.99, ge=0, le=1)
        """Discount per step."""
        n_steps: int = Field(default=8, gt=0)
        """Steps of each environment between two updates; 1 always acts by the newest table."""
        initial_value: float = 0.0
        """What every value starts from. Above all returns that there are, it makes the agent try
        everything (Sutton & Barto 2018, section 2.6)."""

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config = config
        self.rollout_length = config.n_steps
        self.policy = Table(
            *(setup.observation_space, setup.action_space, config.initial_value),
            columns=setup.num_envs if config.exploration_per_column else None,
        )
        self.policy.to(self.device).eval()
        self.parts["policy"] = self.policy
        rows, actions = self.policy.cells.shape
        self.notes = (f"agent={config.name} has a table, {rows:,} x {actions:,}, and no network",)
        self.execute(setup.total_steps / (config.n_steps * setup.num_envs))
        self.explore()

    def explore(self) -> None:
        """Sets epsilon for the next rollout."""
        self.policy.epsilon.copy_(epsilon(self.config, self.progress, self.setup.num_envs))

    def learn(self, rollout: Rollout[Tensor]) -> Metrics:
        """Learns from the steps of a rollout, one after the other; explores less from now on."""
        cfg = self.config
        rate = scheduled(cfg.learning_rate, cfg.learning_rate_schedule, self.progress)
        batch = self.batch_of(rollout)
        batch["rate"] = torch.tensor(rate, device=self.device)
        terms = self.run_update(batch)
        self.steps += rollout.steps
        self.explore()
        return {
            "q/mean": masked_mean(terms["q"], batch["valid"]),
            "q/td_error": masked_mean(terms["error"].abs(), batch["valid"]),
            "policy/epsilon": self.policy.epsilon.mean(),
            "train/learning_rate": batch["rate"],
        }

    def batch_of(self, rollout: Rollout[Tensor]) -> Batch:
        """Numbers the observations and actions of a rollout."""
        batch: Batch = {
            "row": self.policy.rows(rollout.obs),
            "action": self.policy.joint.index(rollout.action),
            "reward": rollout.reward,
            "discount": rollout.discount,
            "valid": rollout.valid.float(),
            "rate": torch.zeros(()),
        }
        mask = self.policy.mask(rollout.obs)
        if mask is not None:
            batch["forbidden"] = ~self.policy.joint.mask(mask)
        return batch

    def update(self, batch: Batch) -> Terms:
        """See `Agent.update`: changes the table, step by step; returns values and errors [T, B]."""
        cells = self.policy.cells.view(-1)
        cell = batch["row"][:-1] * self.policy.num_actions + batch["action"]
        weight = batch["rate"] * mean_in_cells(cell, batch["valid"])
        discount = self.config.gamma * batch["discount"]
        values, errors = [], []
        for t in range(len(cell)):
            value = cells[cell[t]]
            error = batch["reward"][t] + discount[t] * self.successor(batch, t) - value
            cells[cell[t]] = value + (weight[t] * error).sum(-1)  # columns in a cell write the same
            values.append(value)
            errors.append(error)
        return {"q": torch.stack(values), "error": torch.stack(errors)}

    def successor(self, batch: Batch, t: int) -> Tensor:
        """The value [B] of what follows step t, in the present table."""
        return self.masked(self.policy.cells[batch["row"][t + 1]], batch, t + 1).amax(-1)

    def masked(self, q: Tensor, batch: Batch, t: int) -> Tensor:
        """Values [B, A] after observation t, those of forbidden actions -1e9."""
        return q.masked_fill(batch["forbidden"][t], INVALID) if "forbidden" in batch else q


def mean_in_cells(cell: Tensor, valid: Tensor) -> Tensor:
    """Weights that make means over the columns that are in the same cell.

    Args:
        cell: [T, B] int64.
        valid: [T, B], 0 where a column does not count.

    Returns:
        [T, B, B]: the weight of each column (last axis) in the cell of each column (middle axis);
        all are 0 where no column counts.
    """
    same = (cell[:, :, None] == cell[:, None]) * valid[:, None]
    return same / same.sum(-1, keepdim=True).clamp(min=1)
