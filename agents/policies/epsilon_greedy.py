"""Epsilon-greedy policies: the action of the greatest value, except for exploration."""

from __future__ import annotations

import gymnasium
import torch
from torch import Tensor

from ...core.tree import Tree
from ...networks.heads.discrete import INVALID
from .joint_actions import JointActions
from .policy import Policy


class EpsilonGreedy(Policy):
    """Chooses the joint action of the greatest value or, with probability epsilon, a random one.

    A subclass computes the values, and gives them to `masked` before it returns or chooses.

    Args:
        observation_space: Of one environment.
        action_space: Discrete, MultiDiscrete or MultiBinary; each joint action has a value.
        normalize: Keep running statistics of vector observations.
        columns: How many columns have an epsilon of their own; None: all share one.
    """

    noise_size = 2

    def __init__(
        self,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        normalize: bool,
        columns: int | None,
    ) -> None:
        super().__init__(observation_space, action_space, normalize)
        self.joint = JointActions(action_space)
        self.num_actions = self.joint.count
        self.epsilon: Tensor
        self.register_buffer("epsilon", torch.zeros(() if columns is None else columns))

    def noise(self, uniform: Tensor, columns: Tensor | None = None) -> Tensor:
        """See `Policy.noise`: numbers [..., A] that are added to the values of joint actions.

        They are 0 or, with probability epsilon, infinite for one random action. With action masks,
        which are not known yet, it is [..., 2]: 1 or 0 for explored or not, and a uniform number.
        """
        epsilon = self.epsilon
        if epsilon.ndim:  # evaluation may have more columns than training, or name none
            epsilon = epsilon.mean() if columns is None else epsilon[columns % len(epsilon), None]
        if self.mask_path:
            return torch.cat(((uniform[..., :1] < epsilon).float(), uniform[..., 1:]), -1)
        explored = (uniform[..., 1:] * self.num_actions).long()
        bonus = torch.where(uniform[..., :1] < epsilon, torch.inf, 0.0)
        return uniform.new_zeros(*uniform.shape[:-1], self.num_actions).scatter_(
            -1, explored, bonus
        )

    def masked(self, q: Tensor, obs: Tree) -> Tensor:
        """Values [*, A] of joint actions that are -1e9 where an action mask forbids them."""
        mask = self.mask(obs)
        return q if mask is None else q.masked_fill(~self.joint.mask(mask), INVALID)

    def choose(self, q: Tensor, noise: Tensor | None, first: Tensor, greedy: bool) -> Tensor:
        """The actions [B, *act] for masked values [B, A]; see `Policy.act` for the rest."""
        if not greedy:
            noise = self._given_or_drawn(noise, first)
            q = q + (self._bonus(q, noise) if self.mask_path else noise)
        return self.joint.action(q.argmax(-1))

    def _bonus(self, q: Tensor, noise: Tensor) -> Tensor:
        """As `noise` makes it without masks [B, A], for one random action of those allowed."""
        explores, uniform = noise.split(1, -1)
        allowed = q != INVALID
        number = (uniform * allowed.sum(-1, keepdim=True)).long() + 1  # among the allowed ones
        explored = (allowed.cumsum(-1) == number) & allowed & (explores > 0)
        return torch.where(explored, torch.inf, 0.0)
