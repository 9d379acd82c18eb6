"""What a policy of action values learns of each action's return: its mean, or its distribution.

A distribution is [*, A, N]: N numbers for each of A actions. The policy acts by its mean.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn

from ...core.tree import Tree
from ...networks.layers import HIDDEN_GAIN, linear
from ..learning.distributional import divergence, project, quantile_huber
from ..learning.losses import huber
from ..learning.returns import bootstrap_rows, n_step_returns, rescale, unscale

Stream = tuple[Tensor, Tensor, Tensor]
"""Rewards, discounts and whether steps are valid, [T, B] each; see `learning.returns`."""


class ReturnConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Settings of what a policy learns of each action's return."""

    distribution: Literal["none", "categorical", "quantile", "implicit"] = "none"
    """What is learned of a return: none, its mean alone; categorical, the probabilities of fixed
    values (C51); quantile, its quantiles (QR-DQN); implicit, a function of the fraction (IQN)."""
    n_atoms: int = Field(default=51, ge=2)
    """Values of a categorical distribution."""
    v_min: float = Field(default=-10.0, allow_inf_nan=False)
    """The least of these values; smaller returns count as this."""
    v_max: float = Field(default=10.0, allow_inf_nan=False)
    """The greatest of these values; greater returns count as this."""
    n_quantiles: int = Field(default=32, gt=0)
    """Quantiles of a quantile distribution; fractions that an implicit one draws for each step, for
    the target as well, and by which it acts."""
    n_cosines: int = Field(default=64, gt=0)
    """Cosines from which an implicit distribution computes the features of a fraction."""
    value_rescaling: bool = False
    """Learn h(Q), not Q (Pohlen et al. 2018): for returns of very different sizes. `v_min` and
    `v_max` are then in units of h."""

    @model_validator(mode="after")
    def _in_order(self) -> ReturnConfig:
        if self.v_min >= self.v_max:
            raise ValueError(f"v_min={self.v_min}: expected less than v_max={self.v_max}")
        return self


class Mean(nn.Module):
    """The mean alone, [*, A]: plain Q-learning (Mnih et al. 2015).

    Args:
        config: Of a kind of distribution.
        features: D, of the backbone.

    Attributes:
        numbers: Outputs of the network for each action.
        action_axis: Where the actions are.
    """

    numbers = 1
    action_axis = -1
    random = False
    """Whether each minibatch has fractions of its own."""

    def __init__(self, config: ReturnConfig, features: int) -> None:
        super().__init__()
        self.rescaled = config.value_rescaling

    def draw(self, *shape: int) -> Tree:
        """Draws fractions [*, K] for steps [*] from torch's generator; () if it needs none."""
        return ()

    def features(self, y: Tensor, tau: Tree = ()) -> Tensor:
        """What the output layers read, from features [*, D] and fractions [*, K] or ()."""
        return y

    def arrange(self, x: Tensor) -> Tensor:
        """The outputs of a layer, `numbers` for each action, with an axis for the actions."""
        return x

    def of(self, q: Tensor, action: Tensor) -> Tensor:
        """The distributions [*, N] of joint actions [*]."""
        index = action[(..., *[None] * -self.action_axis)]
        return q.take_along_dim(index, self.action_axis).squeeze(self.action_axis)

    def mean(self, q: Tensor) -> Tensor:
        """The mean [*] of distributions [*, N]."""
        return q

    def target(self, q: Tensor, stream: Stream, gamma: float, n: int) -> Tensor:
        """The targets of the distributions of the actions taken: those of n-step returns.

        Args:
            q: [T, B, *], of the states 1 to T.
            stream: [T, B] each.
            gamma: Discount per step.
            n: Steps before the bootstrap.

        Returns:
            Of the first T-n+1 steps, [T-n+1, B, *].
        """
        value = bootstrap_rows(unscale(q) if self.rescaled else q)
        returns = n_step_returns(*stream, value, gamma, n)
        return rescale(returns) if self.rescaled else returns

    def loss(self, q: Tensor, target: Tensor, tau: Tree) -> tuple[Tensor, Tensor]:
        """The distances [*] of distributions from their targets, and the errors of the means."""
        error = target - q
        return huber(error), error


class Distribution(Mean):
    """N numbers of each action, [*, A, N], that are outputs of the network."""

    action_axis = -2

    def arrange(self, x: Tensor) -> Tensor:
        """See `Mean.arrange`: [*, A N] -> [*, A, N]."""
        return x.unflatten(-1, (-1, self.numbers))


class Categorical(Distribution):
    """Probabilities of evenly spaced values: C51 (Bellemare et al. 2017). Outputs are logits."""

    def __init__(self, config: ReturnConfig, features: int) -> None:
        super().__init__(config, features)
        self.numbers = config.n_atoms
        support = torch.linspace(config.v_min, config.v_max, config.n_atoms)
        self.support: Tensor
        self.worth: Tensor  # in units of the return
        self.register_buffer("support", support, persistent=False)
        worth = unscale(support) if self.rescaled else support.clone()
        self.register_buffer("worth", worth, persistent=False)

    def mean(self, q: Tensor) -> Tensor:
        """See `Mean.mean`."""
        return (q.softmax(-1) * self.worth).sum(-1)

    def target(self, q: Tensor, stream: Stream, gamma: float, n: int) -> Tensor:
        """See `Mean.target`: the shifted distribution, projected onto the support."""
        probability = q.softmax(-1)
        atoms = super().target(self.support.expand_as(q), stream, gamma, n)
        reward, discount, valid = stream  # no rewards: then it is the state's after n steps
        still = torch.zeros_like(reward), torch.ones_like(discount), valid
        return project(
            atoms, n_step_returns(*still, bootstrap_rows(probability), 1.0, n), self.support
        )

    def loss(self, q: Tensor, target: Tensor, tau: Tree) -> tuple[Tensor, Tensor]:
        """See `Mean.loss`: the Kullback-Leibler divergence."""
        log_probability = q.log_softmax(-1)
        change = target - log_probability.exp()
        return divergence(target, log_probability), (change * self.worth).sum(-1)


class Quantile(Distribution):
    """The values at the middles of N equal shares of the probability: QR-DQN (Dabney 2018a)."""

    def __init__(self, config: ReturnConfig, features: int) -> None:
        super().__init__(config, features)
        self.numbers = count = config.n_quantiles
        self.tau: Tensor
        self.register_buffer("tau", (torch.arange(count) + 0.5) / count, persistent=False)

    def mean(self, q: Tensor) -> Tensor:
        """See `Mean.mean`."""
        return (unscale(q) if self.rescaled else q).mean(-1)

    def loss(self, q: Tensor, target: Tensor, tau: Tree) -> tuple[Tensor, Tensor]:
        """See `Mean.loss`: the quantile Huber loss."""
        tau = tau if isinstance(tau, Tensor) else self.tau
        return quantile_huber(q, tau, target), self.mean(target) - self.mean(q)


class ImplicitQuantile(Quantile):
    """The value as a function of the fraction: IQN (Dabney et al. 2018b, section 3).

    The features are multiplied by those of the fraction, relu(W cos(pi i tau) + b), i = 0, 1, ...

    Deviations: it acts by the middles of equal shares, and not by fractions that are drawn. The
    fractions of a target are the same for all states of a window; a target reads one state.
    """

    random = True

    def __init__(self, config: ReturnConfig, features: int) -> None:
        super().__init__(config, features)
        self.numbers, self.count = 1, config.n_quantiles
        self.embedding = linear(config.n_cosines, features, HIDDEN_GAIN)
        self.frequencies: Tensor
        frequencies = math.pi * torch.arange(config.n_cosines)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def draw(self, *shape: int) -> Tree:
        """See `Mean.draw`."""
        return torch.rand(*shape, self.count).to(self.tau.device)

    def features(self, y: Tensor, tau: Tree = ()) -> Tensor:
        """See `Mean.features`: [*, K, D]."""
        tau = tau if isinstance(tau, Tensor) else self.tau
        cosines = (tau[..., None] * self.frequencies).cos()
        return y.unsqueeze(-2) * self.embedding(cosines).relu()

    def arrange(self, x: Tensor) -> Tensor:
        """See `Mean.arrange`: [*, K, A] -> [*, A, K]."""
        return x.mT


KINDS: dict[str, type[Mean]] = {
    "none": Mean,
    "categorical": Categorical,
    "quantile": Quantile,
    "implicit": ImplicitQuantile,
}
"""By `ReturnConfig.distribution`."""
