"""Weights as one vector of bytes: how a policy gets to another process."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...agents.policies.policy import Policy


def pack(policy: Policy) -> np.ndarray:
    """A policy's state (weights, statistics, exploration) as bytes [S], by one copy off a GPU."""
    parts = [tensor.detach().reshape(-1).view(torch.uint8) for _, tensor in _ordered(policy)]
    return torch.cat(parts).cpu().numpy()


class Unpacker:
    """Writes what `pack` gave into a policy of the same form."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        sizes = [tensor.numel() * tensor.element_size() for _, tensor in _ordered(policy)]
        # What Ray hands out is read-only, which PyTorch's tensors cannot be.
        self._bytes = np.empty(sum(sizes), np.uint8)
        parts = torch.from_numpy(self._bytes).split(sizes)
        self._state = {
            name: part.view(tensor.dtype).view(tensor.shape)
            for part, (name, tensor) in zip(parts, _ordered(policy), strict=True)
        }

    def __call__(self, packed: np.ndarray) -> None:
        """Takes over the bytes [S]."""
        np.copyto(self._bytes, packed)
        self._policy.load_state_dict(self._state)


def _ordered(policy: Policy) -> list[tuple[str, Tensor]]:
    """The tensors of the state, the widest elements first: so each begins where its type may."""
    return sorted(policy.state_dict().items(), key=lambda item: -item[1].element_size())
