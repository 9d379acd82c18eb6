"""SARSA: the value of what the agent really does, in a table, learned step by step.

Rummery & Niranjan 1994; Sutton & Barto 2018, sections 6.4 and 6.6. As tabular Q-learning, but the
target has the action that was really taken next, or the mean over those that may be:

    r + gamma Q(s', a')                          SARSA
    r + gamma sum over a of pi(a|s') Q(s', a)    Expected SARSA (`agent.expected=true`)

So it learns the values of the policy that explores. The last step of a rollout waits for the next
rollout, which has the action that followed. At a truncation a' is what the policy chose there,
though the environment no longer took it.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..core.rollout import Rollout
from ..networks.heads.discrete import INVALID
from .setup import Setup
from .tabular_q import Batch, TabularQ


class SARSA(TabularQ):
    """SARSA and Expected SARSA, with a table of values."""

    asynchronous: ClassVar[bool] = False
    why_not_late: ClassVar[str] = "its targets have the next action, as the values of now choose it"

    class Config(TabularQ.Config, frozen=True):
        """Settings of SARSA."""

        name: str = "sarsa"
        """This file."""
        expected: bool = False
        """The mean over the actions that may follow, in place of the one that did."""

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.waiting = Waiting(setup.num_envs).to(self.device)
        self.parts["waiting"] = self.waiting

    def batch_of(self, rollout: Rollout[Tensor]) -> Batch:
        """See `TabularQ.batch_of`: the step that waited, and all but the last of the rollout."""
        batch, before = super().batch_of(rollout), self.waiting
        # A column that was opened anew meanwhile does not go on.
        goes_on = before.valid * ~rollout.first[0]
        known: Batch = {
            "row": torch.cat((before.row[None], batch["row"][:-1])),
            "action": torch.cat((before.action[None], batch["action"][:-1])),
            "reward": torch.cat((before.reward[None], batch["reward"][:-1])),
            "discount": torch.cat((before.discount[None], batch["discount"][:-1])),
            "valid": torch.cat((goes_on[None], batch["valid"][:-1])),
            "rate": batch["rate"],
            "next_action": batch["action"],
        }
        if "forbidden" in batch:  # nothing reads that of the step that waited
            known["forbidden"] = torch.cat((batch["forbidden"][:1], batch["forbidden"][:-1]))
        before.take(batch)
        return known

    def successor(self, batch: Batch, t: int) -> Tensor:
        """See `TabularQ.successor`: of the action that followed, or the mean over all."""
        q = self.policy.cells[batch["row"][t + 1]]
        if self.config.expected:
            epsilon, q = self.policy.epsilon, self.masked(q, batch, t + 1)
            allowed = q > INVALID
            mean = (q * allowed).sum(-1) / allowed.sum(-1).clamp(min=1)
            return (1 - epsilon) * q.amax(-1) + epsilon * mean
        assert "next_action" in batch
        return q.gather(-1, batch["next_action"][t, :, None]).squeeze(-1)


class Waiting(nn.Module):
    """The last step of each column, until it is known which action followed.

    Args:
        num_envs: Columns of the whole run.
    """

    row: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    valid: Tensor

    def __init__(self, num_envs: int) -> None:
        super().__init__()
        for name, dtype in {
            "row": torch.int64,
            "action": torch.int64,
            "reward": torch.float32,
            "discount": torch.float32,
            "valid": torch.float32,
        }.items():
            self.register_buffer(name, torch.zeros(num_envs, dtype=dtype))

    def take(self, batch: Batch) -> None:
        """Keeps the last step of a rollout."""
        self.row.copy_(batch["row"][-2])
        self.action.copy_(batch["action"][-1])
        self.reward.copy_(batch["reward"][-1])
        self.discount.copy_(batch["discount"][-1])
        self.valid.copy_(batch["valid"][-1])
