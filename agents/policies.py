"""Policies: all that a worker needs to act (weights, statistics, exploration) in one place."""

from __future__ import annotations

import functools
from typing import Literal

import gymnasium
import torch
from torch import Tensor, nn

from ..envs.collector import Acted, Acting
from ..envs.tree import Tree, map_tree
from ..networks.backbone import NetworkConfig, build
from ..networks.heads import action_head
from ..networks.layers import Float32Linear
from .normalize import Normalizer
from .recorded import Recorded

Extra = Literal["log_prob", "features"]


def linear(in_size: int, out_size: int, gain: float) -> nn.Linear:
    """A linear layer with orthogonal weights and zero bias."""
    layer = Float32Linear(in_size, out_size)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


class Policy(nn.Module):
    """What acts. Memory is an argument and a result, random numbers are an argument."""

    noise_size: int
    """K: random numbers that one action takes."""

    def __init__(self, observation_space: gymnasium.Space, normalize: bool) -> None:
        super().__init__()
        self.normalizer = Normalizer(observation_space) if normalize else None
        self.input_space = self.normalizer.space if self.normalizer else observation_space

    @property
    def trains_apart(self) -> bool:
        """Whether `train()` changes what it computes: dropout, batch normalisation."""
        kinds = nn.Dropout | nn.BatchNorm1d | nn.BatchNorm2d
        return any(isinstance(m, kinds) or getattr(m, "dropout", 0) for m in self.modules())

    def initial_state(self, batch: int) -> Tree:
        """Memory of B columns before anything was seen: tree of [*, B, *], or ()."""
        raise NotImplementedError

    def noise(self, uniform: Tensor) -> Tensor:
        """What `act` takes as noise, from uniforms [..., K] in [0, 1): for a rollout at once."""
        return uniform

    def act(
        self,
        obs: Tree,
        state: Tree,
        first: Tensor,
        noise: Tensor | None = None,
        greedy: bool = False,
    ) -> Acted:
        """Chooses one action a column.

        Args:
            obs: Tree of [B, *obs].
            state: Memory, tree of [*, B, *].
            first: [B] bool: the observation opens an episode.
            noise: [B, *], of the method `noise`; drawn from torch's generator when None.
            greedy: The most likely (or most valued) action, without exploration.

        Returns:
            action [B, *act], extras {name: [B, ...]}, and the memory after obs.
        """
        raise NotImplementedError

    def acting(self, greedy: bool) -> Acting:
        """`act` for whom it is called step after step; recorded if there is no memory."""
        act = functools.partial(self.act, greedy=greedy)
        if self.initial_state(1) != ():
            return lambda *first: act
        return Recorded(act, (*self.parameters(), *self.buffers())).of

    def _inputs(self, obs: Tree) -> Tree:
        return obs if self.normalizer is None else self.normalizer(obs)

    def _noise(self, noise: Tensor | None, first: Tensor) -> Tensor:
        if noise is None:
            return self.noise(torch.rand(len(first), self.noise_size, device=first.device))
        return noise


class ActorCritic(Policy):
    """A distribution over actions and a value, from one backbone or from two.

    Args:
        network: The backbone's blocks, and whether actor and critic share one.
        observation_space: Of one environment.
        action_space: Of one environment.
        normalize: Keep running statistics of vector observations.
        extra: What acting leaves in the extras: `log_prob` of the actions, for agents that learn
            from rollouts of older weights; `features` of a shared backbone without memory, for
            agents that learn with the very weights that acted.
    """

    def __init__(
        self,
        network: NetworkConfig,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        normalize: bool,
        extra: Extra | None = None,
    ) -> None:
        super().__init__(observation_space, normalize)
        self.extra = extra
        self.actor = build(network.blocks, self.input_space)
        self.critic = None if network.shared else build(network.blocks, self.input_space)
        self.head = action_head(action_space, self.actor.out_size, gain=0.01)
        self.value = linear(self.actor.out_size, 1, gain=1.0)
        self.noise_size = self.head.noise_size

    def initial_state(self, batch: int) -> Tree:
        """() for feed-forward; the actor's when shared; (actor's, critic's) when apart."""
        actor = self.actor.initial_state(batch)
        if self.critic is None or actor == ():
            return actor
        return actor, self.critic.initial_state(batch)

    def noise(self, uniform: Tensor) -> Tensor:
        """See `Policy.noise`: Gumbel or normal numbers, as the head wants them."""
        return self.head.noise(uniform)

    def forward(self, obs: Tree, state: Tree, first: Tensor) -> tuple[Tensor, Tensor, Tree]:
        """Distribution parameters [T, B, P], values [T, B] and the memory after row T-1."""
        obs = self._inputs(obs)
        if self.critic is None:
            actor, state = self.actor(obs, state, first)
            critic = actor
        else:
            actor_state, critic_state = state or ((), ())
            actor, actor_state = self.actor(obs, actor_state, first)
            critic, critic_state = self.critic(obs, critic_state, first)
            state = (actor_state, critic_state) if actor_state else ()
        return *self.judge(actor, critic), state

    def features(self, obs: Tree, first: Tensor) -> Tensor:
        """What a shared backbone without memory makes of observations, [T, B, D]."""
        return self.actor(self._inputs(obs), (), first)[0]

    def judge(self, actor: Tensor, critic: Tensor) -> tuple[Tensor, Tensor]:
        """Distribution parameters [T, B, P] and values [T, B] of features [T, B, D]."""
        return self.head(actor), self.value(critic).squeeze(-1)

    def act(
        self,
        obs: Tree,
        state: Tree,
        first: Tensor,
        noise: Tensor | None = None,
        greedy: bool = False,
    ) -> Acted:
        """See `Policy.act`; a critic without memory rests."""
        obs = map_tree(lambda leaf: leaf[None], self._inputs(obs))
        first = first[None]
        if self.critic is None or state == ():
            y, state = self.actor(obs, state, first)
        else:
            y, actor_state = self.actor(obs, state[0], first)
            state = actor_state, self.critic(obs, state[1], first)[1]
        params = self.head(y[0])
        if greedy:
            action = self.head.mode(params)
        else:
            action = self.head.sample(params, self._noise(noise, first[0]))
        extras = {}
        if self.extra == "log_prob":
            extras["log_prob"] = self.head.log_prob(params, action)
        elif self.extra == "features" and self.critic is None and state == ():
            extras["features"] = y[0]
        return action, extras, state
