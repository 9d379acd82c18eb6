"""The policy of actor-critics: a distribution over actions, and a value of states."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium
import torch
from torch import Tensor

from ...core.acting import ActResult
from ...core.rollout import Rollout
from ...core.tree import Tree, map_tree
from ...networks.backbone import NetworkConfig, build
from ...networks.heads.by_space import action_head
from ...networks.heads.gaussian import GaussianConfig
from ...networks.layers import linear
from .policy import Policy

Extra = Literal["log_prob", "features"]


class ActorCritic(Policy):
    """A distribution over actions and a value, from one backbone or from two.

    Args:
        network: The backbone's blocks, and whether actor and critic share one or the critic has
            blocks of its own.
        observation_space: Of one environment.
        action_space: Of one environment.
        normalize: Keep running statistics of vector observations.
        extra: What `act` returns in its extras: the `log_prob` of the actions, for agents that
            learn from rollouts of older weights; or the `features` of a shared backbone without
            memory, so that `unroll` need not compute them again (6 % of PPO on Pong).
        gaussian: The standard deviation of a Box's actions; None: its defaults.
    """

    def __init__(
        self,
        network: NetworkConfig,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        normalize: bool,
        extra: Extra | None = None,
        gaussian: GaussianConfig | None = None,
    ) -> None:
        super().__init__(observation_space, action_space, normalize)
        self.extra = extra
        self.actor = build(network.blocks, self.input_space)
        self.critic = None if network.shared else build(network.critic_blocks, self.input_space)
        self.head = action_head(action_space, self.actor.out_size, gain=0.01, gaussian=gaussian)
        self.value = linear((self.critic or self.actor).out_size, 1, gain=1.0)
        self.noise_size = self.head.noise_size

    def initial_state(self, batch: int) -> Tree:
        """See `Policy.initial_state`: of the shared backbone, or of the actor's and critic's."""
        state = self.actor.initial_state(batch)
        if self.critic is not None:
            state = state, self.critic.initial_state(batch)
        return () if state == ((), ()) else state

    def noise(self, uniform: Tensor, columns: Tensor | None = None) -> Tensor:
        """See `Policy.noise`: Gumbel or normal numbers, as the head takes them."""
        return self.head.noise(uniform)

    def forward(self, obs: Tree, state: Tree, first: Tensor) -> tuple[Tensor, Tensor, Tree]:
        """Distribution parameters [T, B, P], values [T, B] and the memory after row T-1."""
        inputs = self.inputs(obs)
        if self.critic is None:
            actor, state = self.actor(inputs, state, first)
            critic = actor
        else:
            actor_state, critic_state = state or ((), ())
            actor, actor_state = self.actor(inputs, actor_state, first)
            critic, critic_state = self.critic(inputs, critic_state, first)
            state = (actor_state, critic_state) if state else ()
        return self._params(actor, obs), self.value(critic).squeeze(-1), state

    def distribution(self, obs: Tree, state: Tree, first: Tensor) -> Any:
        """What `forward` returns first: distribution parameters [T, B, P]."""
        return self._params(self.features(obs, state, first), obs)

    def features(self, obs: Tree, state: Tree, first: Tensor) -> Tensor:
        """Features [T, B, D] of the actor's backbone."""
        own = state if self.critic is None or state == () else state[0]
        return self.actor(self.inputs(obs), own, first)[0]

    def values(self, obs: Tree, state: Tree, first: Tensor) -> Tensor:
        """What `forward` returns second: values [T, B]."""
        own = state if self.critic is None or state == () else state[1]
        features, _ = (self.critic or self.actor)(self.inputs(obs), own, first)
        return self.value(features).squeeze(-1)

    def _params(self, y: Tensor, obs: Tree) -> Any:
        """Distribution parameters [*, P] of features [*, D] and the mask of their observations."""
        mask = self.mask(obs)
        return self.head(y) if mask is None else self.head(y, mask)

    def act(
        self,
        obs: Tree,
        state: Tree,
        first: Tensor,
        noise: Tensor | None = None,
        greedy: bool = False,
    ) -> ActResult:
        """See `Policy.act`; the critic runs only if it has memory of its own."""
        inputs = map_tree(lambda leaf: leaf[None], self.inputs(obs))
        first = first[None]
        if self.critic is None or state == ():
            y, state = self.actor(inputs, state, first)
        else:
            y, actor_state = self.actor(inputs, state[0], first)
            critic_state = () if state[1] == () else self.critic(inputs, state[1], first)[1]
            state = actor_state, critic_state
        params = self._params(y[0], obs)
        if greedy:
            action = self.head.mode(params)
        else:
            action = self.head.sample(params, self._given_or_drawn(noise, first[0]))
        extras = {}
        if self.extra == "log_prob":
            extras["log_prob"] = self.head.log_prob(params, action)
        elif self.extra == "features" and self.critic is None and state == ():
            extras["features"] = y[0]
        return action, extras, state

    @torch.no_grad()
    def unroll(self, rollout: Rollout[Tensor], length: int) -> tuple[Tensor, Tensor, Tree]:
        """Computes values and log-probabilities of a rollout, and memories within it.

        Args:
            rollout: If it has features in its extras, they must be of these weights.
            length: L, steps from one memory to the next.

        Returns:
            Values of every state [T+1, B]; log-probabilities of the actions [T, B]; and the memory
            at the start of each sequence of L steps, a tree of [*, T/L * B, *] in the order of
            `minibatches.cut`.
        """
        actions = torch.cat((rollout.action, rollout.action[-1:]))  # any for the last state
        cast = torch.is_autocast_enabled(rollout.reward.device.type)
        if "features" in rollout.extras and not cast:  # autocast makes other features
            newest = map_tree(lambda leaf: leaf[-1:], rollout.obs)
            newest = self.actor(self.inputs(newest), (), rollout.first[-1:])[0]
            features = torch.cat((rollout.extras["features"], newest))
            params, value = self._params(features, rollout.obs), self.value(features).squeeze(-1)
            return value, self.head.log_prob(params, actions)[:-1], ()
        state, values, log_probs, starts = rollout.state, [], [], []
        stride = length if state != () else len(actions)
        for begin in range(0, len(actions), stride):
            rows = slice(begin, begin + stride)
            starts.append(state)
            obs = map_tree(lambda leaf, rows=rows: leaf[rows], rollout.obs)
            params, value, state = self(obs, state, rollout.first[rows])
            values.append(value)
            log_probs.append(self.head.log_prob(params, actions[rows]))
        memories = map_tree(lambda *parts: torch.cat(parts, 1), *starts[:-1]) if state != () else ()
        return torch.cat(values), torch.cat(log_probs)[:-1], memories
