"""The policy of a network of action values."""

from __future__ import annotations

from typing import Any

import gymnasium
from torch import Tensor, nn

from ...core.acting import ActResult
from ...core.tree import Tree
from ...networks.backbone import NetworkConfig, build
from ...networks.layers import HIDDEN_GAIN, linear
from ...networks.noisy import NoisyLinear
from .epsilon_greedy import EpsilonGreedy
from .policy import BackbonePolicy
from .return_distribution import KINDS, ReturnConfig


class QPolicy(EpsilonGreedy, BackbonePolicy):
    """Action values of a network, with epsilon-greedy or noisy exploration.

    Args:
        network: The backbone's blocks.
        observation_space: Of one environment.
        action_space: Discrete, MultiDiscrete or MultiBinary; each joint action has a value.
        normalize: Keep running statistics of vector observations.
        dueling_size: Q = V + A - mean A (Wang et al. 2016, equation 9). V and A each have a hidden
            layer of this size: two linear layers on the same features would add up to one. None: Q
            is one linear layer.
        noisy: The layers after the backbone are noisy. They explore; epsilon stays 0.
        columns: How many columns have an epsilon of their own; None: all share one.
        returns: What the policy learns of each action's return: its mean or its distribution.
    """

    def __init__(
        self,
        network: NetworkConfig,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        normalize: bool,
        dueling_size: int | None = None,
        noisy: bool = False,
        columns: int | None = None,
        returns: ReturnConfig | None = None,
    ) -> None:
        super().__init__(observation_space, action_space, normalize, columns)
        self.backbone = build(network.blocks, self.input_space)
        size = self.backbone.out_size
        self.noisy = noisy
        returns = returns or ReturnConfig()
        self.returns = KINDS[returns.distribution](returns, size)
        numbers = self.returns.numbers
        self.advantage = Stream(size, dueling_size, numbers * self.num_actions, noisy)
        self.value = Stream(size, dueling_size, numbers, noisy) if dueling_size else None

    def forward(
        self, obs: Tree, state: Tree, first: Tensor, noisy: bool = True
    ) -> tuple[Tensor, Tree]:
        """Values [T, B, A] of the joint actions, and the memory after row T-1."""
        q, state = self.distribution(obs, state, first, noisy=noisy)
        return self.values(q, obs), state

    def values(self, q: Tensor, obs: Tree) -> Tensor:
        """Values [*, A] from the outputs: -1e9 where an action mask forbids the action."""
        return self.masked(self.returns.mean(q), obs)

    def distribution(
        self, obs: Tree, state: Tree, first: Tensor, tau: Tree = (), noisy: bool = True
    ) -> tuple[Tensor, Tree]:
        """The mean or the distribution of the joint actions' returns, and the memory after row T-1.

        Args:
            obs: Tree of [T, B, *obs].
            state: Memory, tree of [*, B, *].
            first: [T, B] bool.
            tau: Fractions [T, B, K] of an implicit distribution; (): those by which it acts.
            noisy: With the noise of noisy layers.

        Returns:
            [T, B, A] or, of distributions, [T, B, A, N]; and the memory.
        """
        y, state = self.features(obs, state, first)
        return self._outputs(y, tau, noisy), state

    def _outputs(self, y: Tensor, tau: Tree, noisy: bool) -> Tensor:
        """The mean or the distribution of the joint actions' returns, from features [*, D]."""
        y = self.returns.features(y, tau)
        q = self.returns.arrange(self.advantage(y, noisy))
        if self.value is not None:
            value = self.returns.arrange(self.value(y, noisy))
            q = value + q - q.mean(self.returns.action_axis, keepdim=True)
        return q

    def act(
        self,
        obs: Tree,
        state: Tree,
        first: Tensor,
        noise: Tensor | None = None,
        greedy: bool = False,
    ) -> ActResult:
        """See `Policy.act`: with probability epsilon, drawn for each column, a random action."""
        y, state = self.features_of_one(obs, state, first)
        q = self.values(self._outputs(y, (), not greedy), obs)
        return self.choose(q, noise, first, greedy), {}, state

    def resample(self) -> None:
        """Draws new noise for the noisy layers."""
        for module in self.modules():
            if isinstance(module, NoisyLinear):
                module.resample()


class Stream(nn.Module):
    """From features to values: one linear layer, or two with a ReLU between, plain or noisy."""

    def __init__(self, in_size: int, hidden: int | None, out_size: int, noisy: bool) -> None:
        super().__init__()
        self.noisy = noisy
        sizes = [in_size, out_size] if hidden is None else [in_size, hidden, out_size]
        gains = [1.0] if hidden is None else [HIDDEN_GAIN, 1.0]
        self.layers = nn.ModuleList(
            NoisyLinear(inputs, outputs) if noisy else linear(inputs, outputs, gain)
            for inputs, outputs, gain in zip(sizes, sizes[1:], gains, strict=False)
        )

    def forward(self, y: Tensor, noisy: bool) -> Tensor:
        """Maps features [*, D] to [*, out_size]; without noise if `noisy` is False."""
        flag: Any = (noisy,) if self.noisy else ()
        for number, layer in enumerate(self.layers):
            y = layer(y if number == 0 else y.relu(), *flag)
        return y
