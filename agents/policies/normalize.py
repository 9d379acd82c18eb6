"""Running statistics of observations and of returns, which change only in `Agent.learn`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from ...core.images import ImageSpace, image_space
from ...core.tree import Tree

Moments = tuple[float, Tensor, Tensor]  # count, mean, mean of squared deviations


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of two samples together (Chan et al. 1979)."""
    count = a[0] + b[0]
    delta = b[1] - a[1]
    mean = a[1] + delta * (b[0] / count)
    variance = (a[2] * a[0] + b[2] * b[0] + delta.square() * (a[0] * b[0] / count)) / count
    return count, mean, variance


class Normalizer(nn.Module):
    """Shifts and scales each number of a Box to mean 0 and deviation 1, within a limit.

    Pictures (`ImageSpace.is_picture`) and discrete parts pass unchanged. The statistics are
    buffers, so workers get them with the policy's weights. Only `update` changes them. An agent
    that learns from fresh rollouts calls it after it has learned from a rollout, so that it learns
    under the statistics of acting; for the first rollout, where there are no statistics yet, it
    calls it before. An agent with a replay calls it when it stores a rollout.

    Args:
        space: Of one observation.
        limit: Of the absolute value of a normalised number.

    Attributes:
        space: Of one normalised observation.
        frozen: Whether its own statistics stay as they are.
    """

    def __init__(self, space: gymnasium.Space, limit: float = 10.0) -> None:
        super().__init__()
        self.frozen = False
        self.limit = limit
        self.parts: dict[str | int, Normalizer] = {}
        self.space = space
        if isinstance(space, spaces.Dict):
            self.parts = {key: Normalizer(part, limit) for key, part in space.spaces.items()}
            self.space = spaces.Dict({key: self.parts[key].space for key in space.spaces})
        elif isinstance(space, spaces.Tuple):
            self.parts = {i: Normalizer(part, limit) for i, part in enumerate(space.spaces)}
            self.space = spaces.Tuple([part.space for part in self.parts.values()])
        for number, part in enumerate(self.parts.values()):
            self.add_module(f"part_{number}", part)  # a key need not be a module's name
        image = image_space(space)
        self.active = isinstance(space, spaces.Box) and (image is None or not image.is_picture)
        if self.active:
            shape = space.shape or ()
            self.space = spaces.Box(-np.inf, np.inf, shape)  # no bound to divide by
            if image is not None:
                self.space = ImageSpace(self.space.low, self.space.high, image.channel_axis)
            self.count: Tensor
            self.mean: Tensor
            self.variance: Tensor
            self.scale: Tensor
            self.shift: Tensor
            self.register_buffer("count", torch.tensor(0.0, dtype=torch.float64))
            self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
            self.register_buffer("variance", torch.ones(shape, dtype=torch.float64))
            self.register_buffer("scale", torch.ones(shape))
            self.register_buffer("shift", torch.zeros(shape))

    @property
    def seen(self) -> bool:
        """Whether all parts that it normalises have statistics: of a rollout, or carried on."""
        return all(part.seen for part in self.parts.values()) and (
            not self.active or bool(self.count > 0)
        )

    def forward(self, obs: Tree) -> Tree:
        """Normalises `obs` [..., *obs]."""
        if isinstance(obs, dict):
            return {key: self.parts[key](leaf) for key, leaf in obs.items()}
        if isinstance(obs, tuple):
            return tuple(self.parts[i](leaf) for i, leaf in enumerate(obs))
        if not self.active:
            return obs
        return torch.addcmul(self.shift, obs, self.scale).clamp(-self.limit, self.limit)

    @torch.no_grad()
    def update(self, obs: Tree) -> None:
        """Adds a rollout's observations [T, B, *obs] to the statistics."""
        if isinstance(obs, dict):
            for key, leaf in obs.items():
                self.parts[key].update(leaf)
        elif isinstance(obs, tuple):
            for i, leaf in enumerate(obs):
                self.parts[i].update(leaf)
        elif self.active and not self.frozen:
            flat = obs.flatten(0, 1).double()
            new = (float(len(flat)), flat.mean(0), flat.var(0, correction=0))
            count, mean, variance = merge((float(self.count), self.mean, self.variance), new)
            self.count.fill_(count)
            self.mean.copy_(mean)
            self.variance.copy_(variance)
            scale = (variance + 1e-8).rsqrt()
            self.scale.copy_(scale)
            self.shift.copy_(-mean * scale)


class ReturnScale:
    """Divides rewards by the running deviation of the discounted return, within +-10.

    As `VecNormalize` of Stable-Baselines3. The return of each column goes on from one rollout to
    the next.

    Args:
        num_envs: Columns of the whole run.
        gamma: Discount of the return.
    """

    limit = 10.0

    def __init__(self, num_envs: int, gamma: float) -> None:
        self.gamma = gamma
        self.running = torch.zeros(num_envs, dtype=torch.float64)
        self.moments: Moments = (0.0, torch.zeros((), dtype=torch.float64), torch.ones(()).double())

    def __call__(self, reward: Tensor, first: Tensor, columns: Tensor) -> Tensor:
        """Adds rewards [T, B] to the statistics and returns them scaled.

        Args:
            reward: [T, B].
            first: [T+1, B] bool.
            columns: [B] int.
        """
        acc = self.running[columns.cpu()]
        rows = []
        for step, opens in zip(reward.cpu().double(), first[:-1].cpu(), strict=True):
            acc = step + self.gamma * acc * ~opens
            rows.append(acc)
        self.running[columns.cpu()] = acc
        returns = torch.stack(rows)[~first[1:].cpu()]
        if len(returns):
            new = (float(len(returns)), returns.mean(), returns.var(correction=0))
            self.moments = merge(self.moments, new)
        scale = float((self.moments[2] + 1e-8).rsqrt())
        return (reward * scale).clamp(-self.limit, self.limit)

    def state_dict(self) -> dict[str, Any]:
        """The statistics and the running returns."""
        return {"running": self.running, "moments": list(self.moments)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` stood."""
        self.running.copy_(state["running"])
        count, mean, variance = state["moments"]
        self.moments = (count, mean, variance)
