"""How the networks of Stable-Baselines3 are built, by the names of their tensors.

Each is a tower: an extractor of features (convolutions, or none), an LSTM or none, linear layers
with activations, and linear outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
from gymnasium import spaces
from torch import Tensor

ACTIVATIONS = {"Tanh": "tanh", "ReLU": "relu", "ELU": "elu", "SiLU": "silu", "GELU": "gelu"}
"""By the name of a class of torch.nn, our name."""
ACTOR_CRITICS = "PPO", "A2C", "RecurrentPPO"
CONVOLUTIONS = "cnn.0", "cnn.2", "cnn.4", "linear.0"
"""The layers of NatureCNN."""


@dataclass(frozen=True)
class Tower:
    """The names of a network's modules in a state dict."""

    extractor: str
    """Of the features."""
    layers: str
    """A Sequential of linear layers and activations; without `heads` its last one is the output."""
    heads: tuple[str, ...] = ()
    """Linear outputs after `layers`."""
    lstm: str = ""
    """Of an LSTM between extractor and layers."""

    def linear(self, number: int) -> str:
        """The name of the n-th linear layer, from 0."""
        return f"{self.layers}.{2 * number}"

    def outputs(self, hidden: int) -> tuple[str, ...]:
        """The names of the outputs after so many hidden layers."""
        return self.heads or (self.linear(hidden),)

    def sizes(self, tensors: Mapping[str, Tensor]) -> list[int]:
        """The units of the hidden layers."""
        found: list[int] = []
        while (name := f"{self.linear(len(found))}.weight") in tensors:
            found.append(len(tensors[name]))
        return found if self.heads else found[:-1]

    def blocks(self, tensors: Mapping[str, Tensor], activation: str) -> list[dict[str, Any]]:
        """Our blocks up to the outputs. Raises ValueError if an LSTM is not there."""
        blocks: list[dict[str, Any]] = []
        last = f".{CONVOLUTIONS[-1]}.bias"
        cnn = [x for name, x in tensors.items() if _within(name, self.extractor, last)]
        if cnn:
            blocks.append({"name": "cnn", "architecture": "nature", "size": len(cnn[0])})
        if self.lstm:
            layers = sum(name.startswith(f"{self.lstm}.weight_hh_l") for name in tensors)
            if (first := f"{self.lstm}.weight_hh_l0") not in tensors:
                raise ValueError(f"the model has no {first}")
            size = tensors[first].shape[-1]
            blocks.append({"name": "lstm", "size": size, "layers": layers})
        if sizes := self.sizes(tensors):
            blocks.append({"name": "mlp", "sizes": sizes, "activation": activation})
        return blocks


def _within(name: str, opening: str, ending: str) -> bool:
    return name.startswith(f"{opening}.") and name.endswith(ending)


def actor(algorithm: str) -> Tower:
    """The tower of what acts."""
    if algorithm in ACTOR_CRITICS:
        lstm = "lstm_actor" if algorithm == "RecurrentPPO" else ""
        layers = "mlp_extractor.policy_net"
        return Tower("pi_features_extractor", layers, ("action_net",), lstm)
    if algorithm == "SAC":
        return Tower("actor.features_extractor", "actor.latent_pi", ("actor.mu", "actor.log_std"))
    if algorithm in ("TD3", "DDPG"):
        return Tower("actor.features_extractor", "actor.mu")
    name = "q_net" if algorithm == "DQN" else "quantile_net"
    return Tower(f"{name}.features_extractor", f"{name}.{name}")


def critic(algorithm: str, number: int = 0, shared_lstm: bool = False) -> Tower:
    """The tower of an estimate of values; DQN and QR-DQN have none.

    Args:
        algorithm: An actor-critic.
        number: Of SAC, TD3 and DDPG: which one, from 0.
        shared_lstm: RecurrentPPO's values read the actor's LSTM.
    """
    if algorithm not in ACTOR_CRITICS:
        return Tower("critic.features_extractor", f"critic.qf{number}")
    lstm = "lstm_actor" if shared_lstm else "lstm_critic"
    lstm = lstm if algorithm == "RecurrentPPO" else ""
    return Tower("vf_features_extractor", "mlp_extractor.value_net", ("value_net",), lstm)


def is_bytes(space: gymnasium.Space) -> bool:
    """Whether the library reads a Box with three axes as an image."""
    bounded = isinstance(space, spaces.Box) and (space.low == 0).all() and (space.high == 255).all()
    return bool(bounded) and space.dtype == "uint8"
