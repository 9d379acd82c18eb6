"""Action heads: features to the parameters of a distribution, and what is asked of it.

Shapes: y [...,D], params [...,*], noise [...,noise_size], action [...,*action]; log_prob and
entropy [...]. Sampling is a pure function of `noise`, made from uniforms in [0,1) that are drawn
for each column, a whole rollout at once. Nothing here is `torch.distributions`, which costs more
than the network; tests compare the two.
"""

from __future__ import annotations

import math
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import Float32Linear, initialise

P = TypeVar("P")  # the parameters of the distribution
EPSILON = 2.0**-24  # of uniforms in float32: keeps 0 and a rounded-up 1 from becoming infinite
INVALID = -1e9  # log-probability of a choice that does not exist


class ActionHead(nn.Module, Generic[P]):
    """A linear layer and the distribution of actions that its outputs mean."""

    noise_size: int

    def __init__(self, in_size: int, out_size: int, gain: float) -> None:
        super().__init__()
        self.linear = initialise(Float32Linear(in_size, out_size), "orthogonal", gain)

    def forward(self, y: Tensor) -> P:
        """The parameters of the distribution for features y [...,D]."""
        raise NotImplementedError

    def noise(self, uniform: Tensor) -> Tensor:
        """What `sample` takes, from uniforms [...,noise_size] in [0,1)."""
        return uniform

    def sample(self, params: P, noise: Tensor) -> Tensor:
        """The action that `noise` [...,noise_size] chooses."""
        raise NotImplementedError

    def mode(self, params: P) -> Tensor:
        """The most likely action."""
        raise NotImplementedError

    def log_prob(self, params: P, action: Tensor) -> Tensor:
        """The log-probability (density for a Box) of an action."""
        raise NotImplementedError

    def entropy(self, params: P) -> Tensor:
        """The entropy in nats (differential for a Box)."""
        raise NotImplementedError


class Categorical(ActionHead[Tensor]):
    """Discrete: params are normalised log-probabilities [...,n]; actions [...] int64."""

    def __init__(self, in_size: int, gain: float, space: spaces.Discrete[Any]) -> None:
        super().__init__(in_size, int(space.n), gain)
        self.noise_size = int(space.n)

    def forward(self, y: Tensor) -> Tensor:
        """Log-probabilities [...,n]."""
        return self.linear(y).log_softmax(-1)

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
        missing = torch.tensor(np.arange(self.shape[1]) >= space.nvec[:, None])
        self.register_buffer("missing", missing if missing.any() else None, persistent=False)

    def forward(self, y: Tensor) -> Tensor:
        """Log-probabilities [...,k,n], normalised in each part."""
        logits = self.linear(y).unflatten(-1, self.shape)
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


class Bernoulli(ActionHead[Tensor]):
    """MultiBinary of k bits: params are logits [...,k]; actions [...,k] int8."""

    def __init__(self, in_size: int, gain: float, space: spaces.MultiBinary) -> None:
        super().__init__(in_size, math.prod(space.shape), gain)
        self.noise_size = math.prod(space.shape)

    def forward(self, y: Tensor) -> Tensor:
        """Logits [...,k]."""
        return self.linear(y)

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


class Gaussian(ActionHead[tuple[Tensor, Tensor]]):
    """Box of A numbers: params (mean [...,A], log_std [A]); actions [...,A], not clipped.

    The standard deviation is a parameter that does not depend on the observation.
    """

    def __init__(self, in_size: int, gain: float, space: spaces.Box, log_std: float) -> None:
        super().__init__(in_size, math.prod(space.shape), gain)
        self.noise_size = math.prod(space.shape)
        self.log_std = nn.Parameter(torch.full((self.noise_size,), log_std))

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [...,A] and log standard deviation [A]."""
        return self.linear(y), self.log_std

    def noise(self, uniform: Tensor) -> Tensor:
        """Normal numbers [...,A], the quantiles of the uniforms."""
        return torch.special.ndtri(uniform.clamp(EPSILON, 1.0 - EPSILON))

    def sample(self, params: tuple[Tensor, Tensor], noise: Tensor) -> Tensor:
        """Mean + std * noise."""
        mean, log_std = params
        return torch.addcmul(mean, noise, log_std.exp())

    def mode(self, params: tuple[Tensor, Tensor]) -> Tensor:
        """The mean."""
        return params[0]

    def log_prob(self, params: tuple[Tensor, Tensor], action: Tensor) -> Tensor:
        """The log-density, summed over the numbers of an action."""
        mean, log_std = params
        deviation = (action - mean) * (-log_std).exp()
        constant = 0.5 * math.log(2.0 * math.pi) * self.noise_size
        return -0.5 * deviation.square().sum(-1) - (log_std.sum() + constant)

    def entropy(self, params: tuple[Tensor, Tensor]) -> Tensor:
        """Sum of log_std + log(2 pi e) / 2; the same for every observation."""
        mean, log_std = params
        constant = 0.5 * math.log(2.0 * math.pi * math.e) * self.noise_size
        return (log_std.sum() + constant).expand(mean.shape[:-1])


def gumbel(uniform: Tensor) -> Tensor:
    """Gumbel numbers from uniforms: the argmax of log-probabilities and them is a sample."""
    return uniform.clamp(EPSILON, 1.0 - EPSILON).log_().neg_().log_().neg_()


def action_head(
    space: Space, in_size: int, gain: float = 0.01, log_std: float = 0.0
) -> ActionHead[Any]:
    """The head for an action space; `log_std` is where a Box's standard deviation starts.

    Discrete actions count from 0 to it: `envs.make` sees to that.

    Raises `ValueError` for a space without head.
    """
    if len(space.shape or ()) <= 1:
        match space:
            case spaces.Discrete():
                return Categorical(in_size, gain, space)
            case spaces.MultiDiscrete():
                return MultiCategorical(in_size, gain, space)
            case spaces.MultiBinary():
                return Bernoulli(in_size, gain, space)
            case spaces.Box() if len(space.shape) == 1:
                return Gaussian(in_size, gain, space, log_std)
    raise ValueError(
        f"action space {space}: no head; expected Discrete, or MultiDiscrete, MultiBinary or Box "
        "with one axis"
    )
