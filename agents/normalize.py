"""Running statistics of observations and of returns. Both change only in `Agent.learn`."""

from __future__ import annotations

from typing import Any

import gymnasium
import torch
from gymnasium import spaces
from torch import Tensor, nn

from ..envs.tree import Tree

Moments = tuple[float, Tensor, Tensor]  # count, mean, mean of squared deviations


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of two samples together (Chan et al. 1979)."""
    count = a[0] + b[0]
    delta = b[1] - a[1]
    mean = a[1] + delta * (b[0] / count)
    variance = (a[2] * a[0] + b[2] * b[0] + delta.square() * (a[0] * b[0] / count)) / count
    return count, mean, variance


class Normalizer(nn.Module):
    """Shifts and scales each vector (1-dim Box) to mean 0 and deviation 1, within +-10.

    Images and discrete parts pass unchanged. Statistics are buffers, so they travel with the
    policy's weights; they move in `update` only, after the learner has used the rollout, and so
    the policy that learns sees what the policy that acted saw.

    Args:
        space: Of one observation.

    Attributes:
        space: Of one observation after it.
    """

    limit = 10.0

    def __init__(self, space: gymnasium.Space) -> None:
        super().__init__()
        self.parts: dict[str, Normalizer] = {}
        self.space = space
        if isinstance(space, spaces.Dict):
            self.parts = {f"part_{key}": Normalizer(part) for key, part in space.items()}
            changed = zip(space, self.parts.values(), strict=True)
            self.space = spaces.Dict({key: part.space for key, part in changed})
        elif isinstance(space, spaces.Tuple):
            self.parts = {f"part_{i}": Normalizer(part) for i, part in enumerate(space)}
            self.space = spaces.Tuple(part.space for part in self.parts.values())
        for name, part in self.parts.items():
            self.add_module(name, part)
        self.active = isinstance(space, spaces.Box) and len(space.shape) == 1
        if self.active:
            shape = space.shape or ()
            self.space = spaces.Box(-self.limit, self.limit, shape)
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

    def forward(self, obs: Tree) -> Tree:
        """Normalises `obs` [..., *obs]."""
        if isinstance(obs, dict):
            return {key: self.parts[f"part_{key}"](leaf) for key, leaf in obs.items()}
        if isinstance(obs, tuple):
            return tuple(self.parts[f"part_{i}"](leaf) for i, leaf in enumerate(obs))
        if not self.active:
            return obs
        return torch.addcmul(self.shift, obs, self.scale).clamp(-self.limit, self.limit)

    @torch.no_grad()
    def update(self, obs: Tree) -> None:
        """Takes a rollout's observations [T, B, *obs] into the statistics."""
        if isinstance(obs, dict):
            for key, leaf in obs.items():
                self.parts[f"part_{key}"].update(leaf)
        elif isinstance(obs, tuple):
            for i, leaf in enumerate(obs):
                self.parts[f"part_{i}"].update(leaf)
        elif self.active:
            flat = obs.reshape(-1, obs.shape[-1]).double()
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

    As `VecNormalize` of Stable-Baselines3; the return runs on per column from rollout to rollout.

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
        """Takes rewards [T, B] into the statistics and returns them scaled.

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
        """Takes back what `state_dict` gave."""
        self.running.copy_(state["running"])
        count, mean, variance = state["moments"]
        self.moments = (count, mean, variance)
