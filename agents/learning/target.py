"""The target network: a slower copy of a network, by which targets are computed."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import torch
from torch import nn

from .optimizer import Optimizer
from .vector import flatten

M = TypeVar("M", bound=nn.Module)


class TargetNetwork(nn.Module, Generic[M]):
    """A copy of a network that is trained, and follows it by copying or by Polyak averaging.

    It is always in eval mode, and no gradient reaches it. Buffers (statistics of batch
    normalisation, noise) are copied, not averaged. "Human-level control through deep reinforcement
    learning" by Mnih et al. (2015) copies; "Continuous control with deep reinforcement learning" by
    Lillicrap et al. (2016) averages.

    Args:
        network: A network like the trained one; it takes over the weights of that one. The two may
            share submodules without parameters, such as a normaliser.
        optimizer: The optimizer of the trained network.
        tau: Share of the newest weights that `follow` takes; 1 copies.

    Attributes:
        network: The target.
        optimizer: The optimizer of the network that the target follows.
    """

    def __init__(self, network: M, optimizer: Optimizer, tau: float = 1.0) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.tau = tau
        self.optimizer = optimizer
        self.copy()
        self.align()
        self.train()

    def copy(self) -> None:
        """Takes over the present weights, also those that are not trained."""
        self.network.load_state_dict(self.optimizer.trained.state_dict())

    def align(self) -> None:
        """Puts the weights in the order in which the optimizer has those that they follow."""
        named, newest = dict(self.network.named_parameters()), self.optimizer
        parameters = [named[name] for name in newest.order]
        self.flat = flatten(parameters) if parameters else newest.whole.clone()

    @torch.no_grad()
    def follow(self, times: int = 1) -> None:
        """Moves by `tau` towards the trained weights, and copies all buffers.

        Args:
            times: How often; n times at once are one step with the share 1 - (1 - tau)^n.
        """
        share = 1 - (1 - self.tau) ** times
        newest = self.optimizer.whole
        if share == 1:
            self.flat.copy_(newest)
        else:
            self.flat.lerp_(newest, share)
        pairs = zip(self.network.buffers(), self.optimizer.trained.buffers(), strict=True)
        for buffer, source in pairs:
            if buffer is not source:
                buffer.copy_(source)

    def train(self, mode: bool = True) -> TargetNetwork[M]:
        """Does nothing: the network stays in eval mode, whatever `mode` is."""
        return super().train(False)

    def forward(self, *args: Any) -> Any:
        """Calls the network."""
        return self.network(*args)
