"""Distributions over choices: Discrete, MultiDiscrete, MultiBinary; shapes as in `distribution`.

A mask [...,n] (see `core.action_mask`) forbids choices: their probability is 0, their logit has no
gradient, and entropy and divergence are those of the choices that are left. As "A closer look at
invalid action masking in policy gradient algorithms" by Huang and Ontañón (2022).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from .distribution import EPSILON, ActionHead

INVALID = -1e9
"""Log-probability or value of a choice that does not exist or is forbidden.

It is finite: its product with a probability of 0 is 0."""


class Categorical(ActionHead[Tensor]):
    """Discrete: params are normalised log-probabilities [...,n]; actions [...] int64."""

    def __init__(self, in_size: int, gain: float, space: spaces.Discrete[Any]) -> None:
        super().__init__(in_size, int(space.n), gain)
        self.noise_size = int(space.n)

    def forward(self, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-probabilities [...,n]; `mask` [...,n] is bool."""
        logits = self.linear(y)
        if mask is not None:
            logits = logits.masked_fill(~mask, INVALID)
        return logits.log_softmax(-1)

    def noise(self, uniform: Tensor) -> Tensor:
        """Gumbel numbers [...,n]."""
        return gumbel(uniform)

    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        """Gumbel-max."""
        return (params + noise).argmax(-1)

    def mode(self, params: Tensor) -> Tensor:
        """The choice with the highest probability."""
        return params.argmax(-1)

    def log_prob(self, params: Tensor, action: Tensor) -> Tensor:
        """The chosen entry."""
        return params.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self, params: Tensor) -> Tensor:
        """-sum p log p."""
        return -(params.exp() * params).sum(-1)

    def kl(self, params: Tensor, other: Tensor) -> Tensor:
        """The sum of p (log p - log q)."""
        return (params.exp() * (params - other)).sum(-1)


class MultiCategorical(ActionHead[Tensor]):
    """MultiDiscrete of k parts: params [...,k,n], n of the largest part; actions [...,k] int64.

    A smaller part's missing choices have log-probability -1e9: one softmax serves all parts.
    """

    def __init__(self, in_size: int, gain: float, space: spaces.MultiDiscrete) -> None:
        shape = (len(space.nvec), int(space.nvec.max()))
        super().__init__(in_size, math.prod(shape), gain)
        self.shape = shape
        self.noise_size = math.prod(shape)
        self.missing: Tensor | None
        self.place: Tensor
        missing = torch.tensor(np.arange(self.shape[1]) >= space.nvec[:, None])
        self.register_buffer("missing", missing if missing.any() else None, persistent=False)
        place = (~missing).flatten().cumsum(0).view(shape) - 1  # of a choice in a mask
        self.register_buffer("place", place, persistent=False)

    def forward(self, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-probabilities [...,k,n], normalised in each part; `mask` [...,sum(nvec)] is bool."""
        logits = self.linear(y).unflatten(-1, self.shape)
        if mask is not None:
            logits = logits.masked_fill(~mask[..., self.place], INVALID)
        if self.missing is not None:
            logits = logits.masked_fill(self.missing, INVALID)
        return logits.log_softmax(-1)

    def noise(self, uniform: Tensor) -> Tensor:
        """Gumbel numbers [...,k*n]."""
        return gumbel(uniform)

    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        """Gumbel-max in each part."""
        return (params + noise.view_as(params)).argmax(-1)

    def mode(self, params: Tensor) -> Tensor:
        """The choice with the highest probability in each part."""
        return params.argmax(-1)

    def log_prob(self, params: Tensor, action: Tensor) -> Tensor:
        """The sum over parts of the chosen entries."""
        return params.gather(-1, action.unsqueeze(-1)).squeeze(-1).sum(-1)

    def entropy(self, params: Tensor) -> Tensor:
        """The sum over parts of -sum p log p."""
        return -(params.exp() * params).sum((-2, -1))

    def kl(self, params: Tensor, other: Tensor) -> Tensor:
        """The sum over parts of sum p (log p - log q)."""
        return (params.exp() * (params - other)).sum((-2, -1))


class Bernoulli(ActionHead[Tensor]):
    """MultiBinary of k bits: params are logits [...,k]; actions [...,k] int8."""

    def __init__(self, in_size: int, gain: float, space: spaces.MultiBinary) -> None:
        super().__init__(in_size, math.prod(space.shape), gain)
        self.noise_size = math.prod(space.shape)

    def forward(self, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [...,k]; `mask` [...,2k] says for each bit whether it may be 0, and may be 1."""
        logits = self.linear(y)
        if mask is not None:
            zero, one = mask.unflatten(-1, (-1, 2)).unbind(-1)
            logits = logits.masked_fill(~zero, -INVALID).masked_fill(~one, INVALID)
        return logits

    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        """1 where the uniform is below the probability."""
        return (noise < params.sigmoid()).to(torch.int8)

    def mode(self, params: Tensor) -> Tensor:
        """1 where that is the likelier."""
        return (params > 0).to(torch.int8)

    def log_prob(self, params: Tensor, action: Tensor) -> Tensor:
        """The sum over bits of a logit - log(1 + exp(logit))."""
        return (action * params - F.softplus(params)).sum(-1)

    def entropy(self, params: Tensor) -> Tensor:
        """The sum over bits of log(1 + exp(logit)) - p logit."""
        return (F.softplus(params) - params.sigmoid() * params).sum(-1)

    def kl(self, params: Tensor, other: Tensor) -> Tensor:
        """The sum over bits of p (a - b) - log(1 + exp(a)) + log(1 + exp(b)), of logits a and b."""
        gain = params.sigmoid() * (params - other)
        return (gain - F.softplus(params) + F.softplus(other)).sum(-1)


def gumbel(uniform: Tensor) -> Tensor:
    """Gumbel numbers from uniforms: added to log-probabilities, their argmax is a sample."""
    return uniform.clamp(EPSILON, 1.0 - EPSILON).log_().neg_().log_().neg_()
