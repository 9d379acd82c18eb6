"""The constructor of Stable-Baselines3 or sb3-contrib that builds a policy like one of ours."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from gymnasium import spaces
from torch import nn

from ....agents.agent import Agent
from ....agents.off_policy_actor_critic import OffPolicyActorCritic
from ....agents.policies.actor_critic import ActorCritic
from ....agents.policies.deterministic import Deterministic
from ....agents.policies.q_values import QPolicy
from ....agents.policies.squashed import SquashedGaussian
from ....core.errors import shorten
from ....networks.backbone import Chain
from ....networks.cnn import CNN
from ....networks.heads.squashed import Squashed
from ....networks.heads.state_noise import StateNoise
from ....networks.lstm import LSTM
from ....networks.mlp import MLP
from ....networks.observation import Image
from .sb3_towers import ACTIVATIONS, is_bytes

SOURCES = {
    **{"PPO": "sb3/ppo", "A2C": "sb3/a2c", "DQN": "sb3/dqn", "SAC": "sb3/sac", "TD3": "sb3/td3"},
    **{"DDPG": "sb3/ddpg", "RecurrentPPO": "sb3_contrib/recurrent_ppo"},
    "QRDQN": "sb3_contrib/qr_dqn",
}
"""By the algorithm, its name among the baselines."""
DEVIATION = -20.0, 2.0
"""The limits of the logarithm of SAC's deviation there."""


def algorithm_of(agent: Agent) -> str:
    """The algorithm whose policy is like the agent's.

    Raises:
        ValueError: There is none; says why.
    """
    policy, settings = agent.policy, agent.setup
    read = _settings(agent)
    acts = shorten(settings.action_space)
    if policy.mask_path:
        raise ValueError("env.action_mask: Stable-Baselines3 knows no masks")
    if isinstance(policy, ActorCritic):
        if isinstance(policy.head, Squashed):
            raise ValueError("agent.gaussian.squashed=true: Stable-Baselines3 clips actions")
        if agent.has_memory:
            return "RecurrentPPO"
        return "A2C" if read.get("optimizer") == "rmsprop" and read.get("n_epochs") == 1 else "PPO"
    if isinstance(policy, QPolicy) and isinstance(settings.action_space, spaces.Discrete):
        kind = {"none": "DQN", "quantile": "QRDQN"}.get(read.get("distribution", "none"))
        if kind is not None and not read.get("value_rescaling"):
            return kind
    if isinstance(policy, SquashedGaussian):
        if policy.limits != DEVIATION:
            raise ValueError(f"agent.log_std_min and log_std_max: expected {DEVIATION}, as there")
        return "SAC"
    if isinstance(policy, Deterministic):
        return "DDPG" if read.get("n_critics") == 1 else "TD3"
    raise ValueError(f"agent={agent.name}: Stable-Baselines3 has no such policy for {acts}")


def policy_of(agent: Agent, algorithm: str) -> str:
    """The name of the library's policy for the agent's observations.

    Raises:
        ValueError: An image is read in another way there.
    """
    seen = agent.setup.observation_space
    leaves = list(seen.values()) if isinstance(seen, spaces.Dict) else [seen]
    convolved = any(isinstance(leaf, Image) for leaf in _chains(agent)[0].encoder.leaves)
    for leaf in leaves:
        if isinstance(leaf, spaces.Box) and len(leaf.shape) == 3 and is_bytes(leaf) != convolved:
            raise ValueError(
                f"observations {shorten(leaf)}: Stable-Baselines3 reads images of bytes up to 255 "
                "by convolutions, and others without"
            )
    kind = "MultiInput" if isinstance(seen, spaces.Dict) else "Cnn" if convolved else "Mlp"
    return f"{kind}{'Lstm' if algorithm == 'RecurrentPPO' else ''}Policy"


def policy_arguments(agent: Agent) -> dict[str, Any]:
    """`policy_kwargs`, which build a network of the same shapes.

    Raises:
        ValueError: Its activations are several.
    """
    first, last = _chains(agent)
    mlps = [[b for b in chain.blocks if isinstance(b, MLP)] for chain in (first, last)]
    sizes = [[own.out_features for m in found for own in m.linears] for found in mlps]
    found: dict[str, Any] = {"net_arch": sizes[0]}
    if isinstance(agent.policy, ActorCritic) or isinstance(agent, OffPolicyActorCritic):
        values = "vf" if isinstance(agent.policy, ActorCritic) else "qf"
        found["net_arch"] = {"pi": sizes[0], values: sizes[1]}
    activations = {m.activation for pair in mlps for m in pair}
    if len(activations) > 1:
        raise ValueError(f"network: activations {', '.join(sorted(activations))}; expected one")
    for name in activations:
        known = {own: theirs for theirs, own in ACTIVATIONS.items()}
        found["activation_fn"] = getattr(nn, known[name])
    images = [leaf.block for leaf in first.encoder.leaves if isinstance(leaf, Image)]
    if images and isinstance(images[0], CNN):
        is_dict = isinstance(agent.setup.observation_space, spaces.Dict)
        key = "cnn_output_dim" if is_dict else "features_dim"
        found["features_extractor_kwargs"] = {key: images[0].out_size}
        if isinstance(agent.policy, ActorCritic):
            found["share_features_extractor"] = agent.policy.critic is None
    for lstm in (b for b in first.blocks if isinstance(b, LSTM)):
        found |= {"lstm_hidden_size": lstm.out_size, "n_lstm_layers": lstm.core.num_layers}
    if isinstance(agent, OffPolicyActorCritic):
        found["n_critics"] = len(agent.critics.backbones)
    if isinstance(agent.policy, QPolicy) and agent.policy.returns.numbers > 1:
        found["n_quantiles"] = agent.policy.returns.numbers
    return found


def _chains(agent: Agent) -> tuple[Chain, Chain]:
    """The chain of what acts, and that of the values; the same where there is one."""
    policy = agent.policy
    if isinstance(policy, ActorCritic):
        return policy.actor, policy.critic or policy.actor
    assert isinstance(policy, QPolicy | SquashedGaussian | Deterministic)
    first, values = policy.backbone, policy.backbone
    if isinstance(agent, OffPolicyActorCritic):
        values = agent.critics.backbones[0]
    assert isinstance(first, Chain) and isinstance(values, Chain)
    return first, values


def arguments(agent: Agent, algorithm: Any) -> dict[str, Any]:
    """The settings of learning, as far as they have the same names there."""
    read = _settings(agent)
    known = inspect.signature(algorithm).parameters
    plain = {key: x for key, x in read.items() if isinstance(x, int | float | str)}
    found = {key: plain[key] for key in known if key in plain}
    found.pop("buffer_size", None)  # only the policy is built here
    if isinstance(agent.policy, ActorCritic):
        gsde = isinstance(agent.policy.head, StateNoise)
        found |= {"use_sde": True, "sde_sample_freq": agent.policy.head.steps} if gsde else {}
    elif "n_step" in read and "n_steps" in known:
        found["n_steps"] = read["n_step"]
    return found


def _settings(agent: Agent) -> Mapping[str, Any]:
    """The agent's settings, as its configuration has them."""
    config = getattr(agent, "config", None)
    return {} if config is None else config.model_dump()
