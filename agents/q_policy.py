"""The policy of action values: greedy but for its exploration."""

from __future__ import annotations

from typing import Any

import gymnasium
import torch
from torch import Tensor, nn

from ..envs.collector import Acted
from ..envs.tree import Tree, map_tree
from ..networks.backbone import NetworkConfig, build
from ..networks.noisy import NoisyLinear
from .policies import Policy, linear


class QPolicy(Policy):
    """Action values with epsilon-greedy or noisy exploration.

    Args:
        network: The backbone's blocks.
        observation_space: Of one environment.
        action_space: Discrete.
        normalize: Keep running statistics of vector observations.
        dueling: Q = V + A - mean A (Wang et al. 2016, equation 9).
        noisy: Noisy output layers; exploration is then theirs and epsilon stays 0.
    """

    noise_size = 2

    def __init__(
        self,
        network: NetworkConfig,
        observation_space: gymnasium.Space,
        action_space: gymnasium.spaces.Discrete,
        normalize: bool,
        dueling: bool,
        noisy: bool,
    ) -> None:
        super().__init__(observation_space, normalize)
        self.backbone = build(network.blocks, self.input_space)
        self.num_actions = int(action_space.n)
        size = self.backbone.out_size
        self.noisy = noisy
        self.advantage = self._layer(size, self.num_actions)
        self.value = self._layer(size, 1) if dueling else None
        self.epsilon: Tensor
        self.register_buffer("epsilon", torch.tensor(0.0))

    def _layer(self, in_size: int, out_size: int) -> nn.Module:
        return NoisyLinear(in_size, out_size) if self.noisy else linear(in_size, out_size, 1.0)

    def initial_state(self, batch: int) -> Tree:
        """The backbone's."""
        return self.backbone.initial_state(batch)

    def noise(self, uniform: Tensor) -> Tensor:
        """See `Policy.noise`: 0 for each action [..., A]; with chance epsilon infinity for one."""
        explored = (uniform[..., 1:] * self.num_actions).long()
        bonus = torch.where(uniform[..., :1] < self.epsilon, torch.inf, 0.0)
        return uniform.new_zeros(*uniform.shape[:-1], self.num_actions).scatter_(
            -1, explored, bonus
        )

    def forward(
        self, obs: Tree, state: Tree, first: Tensor, noisy: bool = True
    ) -> tuple[Tensor, Tree]:
        """Action values [T, B, A] and the memory after row T-1."""
        y, state = self.backbone(self._inputs(obs), state, first)
        return self._values(y, noisy), state

    def _values(self, y: Tensor, noisy: bool) -> Tensor:
        """Action values [*, A] of features [*, D]."""
        flag: Any = (noisy,) if self.noisy else ()
        q = self.advantage(y, *flag)
        if self.value is not None:
            q = self.value(y, *flag) + q - q.mean(-1, keepdim=True)
        return q

    def act(
        self,
        obs: Tree,
        state: Tree,
        first: Tensor,
        noise: Tensor | None = None,
        greedy: bool = False,
    ) -> Acted:
        """See `Policy.act`: with chance epsilon, drawn per column, an action at random."""
        obs = map_tree(lambda leaf: leaf[None], self._inputs(obs))
        y, state = self.backbone(obs, state, first[None])
        q = self._values(y[0], not greedy)
        if not greedy:
            q = q + self._noise(noise, first)
        return q.argmax(-1), {}, state

    def resample(self) -> None:
        """Draws new noise for the noisy layers."""
        for module in self.modules():
            if isinstance(module, NoisyLinear):
                module.resample()
