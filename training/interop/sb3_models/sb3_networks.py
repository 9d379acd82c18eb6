"""The policies of Stable-Baselines3 and ours, tensor by tensor: to read its models, and to write.

for pair in pairs(agent, "PPO", keys): theirs[pair.theirs] = pair.give(ours[pair.ours])
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import torch
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
from ....networks.heads.discrete import MultiCategorical
from ....networks.heads.gaussian import Gaussian
from ....networks.lstm import LSTM
from ....networks.mlp import MLP
from .sb3_pairs import Inputs, Pair, layer
from .sb3_towers import CONVOLUTIONS, Tower, actor, critic

OURS = "features.0", "features.2", "features.4", "head.0"
"""The layers of our `cnn`, in the order of `CONVOLUTIONS`."""
Last = Inputs | None
"""The inputs of the network, where its output layer is the first one that reads them."""


def pairs(
    agent: Agent, algorithm: str, keys: Sequence[str], shared_lstm: bool = False
) -> Iterator[Pair]:
    """All pairs of an agent and the algorithm's policy.

    Args:
        agent: Of ours.
        algorithm: Its name in the library.
        keys: Of the environment's Dict observations, in its order; else none.
        shared_lstm: See `sb3_towers.critic`.

    Raises:
        ValueError: A network of ours has no form there.
    """
    policy, tower = agent.policy, actor(algorithm)
    if isinstance(policy, ActorCritic):
        yield from _actor(policy, tower, keys)
        values = critic(algorithm, shared_lstm=shared_lstm)
        name = "actor" if policy.critic is None else "critic"
        inputs = Inputs((policy.critic or policy.actor).encoder, keys, False)
        hidden, last = yield from _chain(name, policy.critic or policy.actor, values, inputs)
        yield from layer("value", values.outputs(hidden)[0], last)
    elif isinstance(policy, QPolicy | SquashedGaussian | Deterministic):
        yield from _backbone(policy, tower, keys)
    else:
        acts = shorten(agent.setup.action_space)
        raise ValueError(f"Stable-Baselines3 has no agent={agent.name} for the actions {acts}")
    if isinstance(agent, OffPolicyActorCritic):
        for number, chain in enumerate(agent.critics.backbones):
            assert isinstance(chain, Chain)
            values = critic(algorithm, number)
            inputs = Inputs(chain.encoder, keys, True)
            hidden, last = yield from _chain(f"critics.backbones.{number}", chain, values, inputs)
            yield from layer(f"critics.heads.{number}", values.outputs(hidden)[0], last)


def _actor(policy: ActorCritic, tower: Tower, keys: Sequence[str]) -> Iterator[Pair]:
    """The pairs of a distribution over actions."""
    inputs = Inputs(policy.actor.encoder, keys, False)
    hidden, last = yield from _chain("actor", policy.actor, tower, inputs)
    head, rows = policy.head, None
    if isinstance(head, MultiCategorical) and head.missing is not None:
        rows = (~head.missing).flatten().nonzero().squeeze(1)
    yield from layer("head.linear", tower.outputs(hidden)[0], last, rows)
    if isinstance(head, Gaussian):
        yield Pair("head.log_std", "log_std", transposed=head.log_std.ndim == 2)


def _backbone(
    policy: QPolicy | SquashedGaussian | Deterministic, tower: Tower, keys: Sequence[str]
) -> Iterator[Pair]:
    """The pairs of a policy on one backbone."""
    chain = policy.backbone
    assert isinstance(chain, Chain)
    hidden, last = yield from _chain("backbone", chain, tower, Inputs(chain.encoder, keys, False))
    outputs = tower.outputs(hidden)
    if isinstance(policy, SquashedGaussian):  # mean and deviation are two layers there
        for rows, name in zip(torch.arange(2 * policy.noise_size).chunk(2), outputs, strict=True):
            yield from layer("head", name, last, rows)
    elif isinstance(policy, QPolicy):
        count, numbers = policy.num_actions, policy.returns.numbers
        rows = torch.arange(count * numbers).view(count, numbers).T.flatten()
        yield from layer("advantage.layers.0", outputs[0], last, rows if numbers > 1 else None)
    else:
        yield from layer("head", outputs[0], last)


def _chain(
    name: str, chain: Chain, tower: Tower, inputs: Inputs
) -> Generator[Pair, None, tuple[int, Last]]:
    """The pairs of a chain; returns how many linear layers it has, and what the output reads."""
    for number, key, leaf in inputs.images():
        if not isinstance(leaf.block, CNN) or leaf.block.architecture != "nature":
            raise ValueError("network: Stable-Baselines3 knows of cnn architecture=nature alone")
        extractor = f"{tower.extractor}.extractors.{key}" if key else tower.extractor
        for own, other in zip(OURS, CONVOLUTIONS, strict=True):
            yield from layer(f"{name}.encoder.leaves.{number}.block.{own}", f"{extractor}.{other}")
    kinds = [type(block) for block in chain.blocks]
    memory = [LSTM] if tower.lstm else []
    if kinds not in (memory, [*memory, MLP]):
        named = ", ".join(kind.__name__.lower() for kind in kinds)
        known = "lstm, or lstm and mlp" if tower.lstm else "mlp alone"
        raise ValueError(f"network: after the encoder it has {named}; expected {known}")
    if tower.lstm:
        yield from _lstm(f"{name}.blocks.0.core", chain, tower.lstm, inputs)
    first = None if tower.lstm else inputs
    hidden, mlp = 0, chain.blocks[-1] if kinds else None
    for place, own in enumerate(mlp.layers if isinstance(mlp, MLP) else ()):
        if isinstance(own, nn.Linear):
            ours = f"{name}.blocks.{len(memory)}.layers.{place}"
            yield from layer(ours, tower.linear(hidden), None if hidden else first)
            hidden += 1
    return hidden, None if hidden else first


def _lstm(ours: str, chain: Chain, theirs: str, inputs: Inputs) -> Iterator[Pair]:
    """The pairs of an LSTM."""
    lstm = chain.blocks[0]
    assert isinstance(lstm, LSTM)
    for name, _ in lstm.core.named_parameters():
        order = inputs.order() if name == "weight_ih_l0" else (None, None)
        yield Pair(f"{ours}.{name}", f"{theirs}.{name}", None, *order)
