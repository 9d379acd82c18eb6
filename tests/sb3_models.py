"""Models of Stable-Baselines3 with weights that are nowhere 0, and what they say of states."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from torch import Tensor, nn

from neuraxis.agents.agent import Agent
from neuraxis.agents.off_policy_actor_critic import OffPolicyActorCritic
from neuraxis.agents.policies.actor_critic import ActorCritic
from neuraxis.agents.policies.policy import Policy
from neuraxis.agents.policies.q_values import QPolicy
from neuraxis.core.tree import Tree, map_tree
from neuraxis.training.interop.sb3_envs import Described

CLASSES: dict[str, Any] = {
    kind.__name__: kind for kind in (PPO, A2C, DQN, SAC, TD3, DDPG, RecurrentPPO, QRDQN)
}
MANY = 1_000
VECTOR = spaces.Box(-2.0, 2.0, (5,), np.float32)
IMAGE = spaces.Box(0, 255, (36, 37, 2), np.uint8)
"""Height, width, channels; Stable-Baselines3 turns it round."""
DICT = spaces.Dict({"z": spaces.Discrete(4), "image": IMAGE, "a": spaces.Box(-1, 1, (3,))})
FLAT = spaces.Dict({"z": spaces.MultiDiscrete([3, 2]), "bytes": spaces.Box(0, 9, (4,), np.uint8)})
BOUNDED = spaces.Box(np.array([-2.0, 0.5], np.float32), np.array([1.0, 3.0], np.float32))
UNEVEN = spaces.MultiDiscrete([2, 4, 3])
ENV = "test/Given-v0"


class Given(gymnasium.Env[Any, Any]):
    """An environment of one step with given spaces.

    Args:
        seen: Name of the space of observations, in this module.
        acts: Likewise of actions, or their number.
    """

    def __init__(self, seen: str, acts: str | int) -> None:
        self.observation_space = globals()[seen]
        self.action_space = spaces.Discrete(acts) if isinstance(acts, int) else globals()[acts]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 1.0, True, False, {}


gymnasium.register(ENV, lambda **kwargs: Given(**kwargs), disable_env_checker=True)


def words_for(seen: str, acts: str | int) -> tuple[str, ...]:
    """The words of the environment with these spaces."""
    return f"env={ENV}", f"env.kwargs.seen={seen}", f"env.kwargs.acts={acts}"


def model(kind: str, policy: str, seen: str, acts: str | int, **arguments: Any) -> Any:
    """A model with shifted weights; the library writes into arguments, so they are copied."""
    env = Given(seen, acts)
    envs = Described(1, env.observation_space, env.action_space)
    given = {"buffer_size": 99} if kind in ("DQN", "QRDQN", "SAC", "TD3", "DDPG") else {}
    found = CLASSES[kind](policy, envs, device="cpu", seed=3, **given, **copy.deepcopy(arguments))
    shift(found.policy)
    return found


@torch.no_grad()
def shift(module: nn.Module) -> None:
    """Adds numbers to all weights, so that no bias is 0 and no two outputs are alike."""
    generator = torch.Generator().manual_seed(5)
    for weight in module.parameters():
        fan_in = weight[0].numel() if weight.ndim > 1 else 10
        weight.add_(torch.randn(weight.shape, generator=generator) * 0.5 / fan_in**0.5)


def observations(space: gymnasium.Space, count: int = MANY) -> Tree:
    """Random observations [count, *], all different; images differ in their brightness."""
    if isinstance(space, spaces.Dict):
        return {key: observations(part, count) for key, part in space.spaces.items()}
    space.seed(7)
    rows = np.stack([space.sample() for _ in range(count)])
    if rows.ndim < 4:
        return rows
    return (rows * np.linspace(0, 1, count).reshape(-1, 1, 1, 1)).astype(np.uint8)


def chosen(found: Any, obs: Tree) -> np.ndarray:
    """What a model of theirs does, deterministically."""
    return found.predict(obs, deterministic=True)[0]


@torch.no_grad()
def valued(found: Any, obs: Tree) -> Tensor:
    """The values of a model of theirs: [N], or of all critics [count, N] for an action of 0.3."""
    seen = found.policy.obs_to_tensor(obs)[0]
    kind = type(found).__name__
    if kind == "RecurrentPPO":
        state = tuple(torch.zeros(1, MANY, found.policy.lstm_actor.hidden_size) for _ in range(2))
        return found.policy.predict_values(seen, state, torch.ones(MANY)).flatten()
    if kind in ("PPO", "A2C"):
        return found.policy.predict_values(seen).flatten()
    if kind == "DQN":
        return found.q_net(seen)
    if kind == "QRDQN":
        return found.policy.quantile_net(seen).mean(1)
    action = torch.full((MANY, found.action_space.shape[0]), 0.3)
    return torch.stack(found.critic(seen, action)).squeeze(-1)


@torch.no_grad()
def our_values(agent: Agent, obs: Tree) -> Tensor:
    """The same of an agent of ours."""
    policy: Policy = agent.policy
    assert policy.interface is not None
    rows, _ = policy.interface.rows(obs)
    first = np.ones(MANY, bool)
    seen, _ = policy.interface.observe(rows, first, None, None, None)
    tensors = map_tree(lambda leaf: torch.from_numpy(np.asarray(leaf))[None], seen)
    opens, state = torch.ones(1, MANY).bool(), policy.initial_state(MANY)
    if isinstance(policy, ActorCritic):
        return policy.values(tensors, state, opens)[0]
    if isinstance(policy, QPolicy):
        return policy(tensors, state, opens)[0][0]
    assert isinstance(agent, OffPolicyActorCritic)
    action = torch.full((1, MANY, policy.noise_size), 0.3)
    return agent.critics(policy.inputs(tensors), action, opens)[:, 0]
