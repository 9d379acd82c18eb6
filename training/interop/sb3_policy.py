"""What a model of Stable-Baselines3 has learned, as a policy that our collectors ask."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn

from ...agents.policies.policy import Policy
from ...core.acting import ActFunction, ActResult
from ...core.tree import Tree, map_tree

EPSILON, LIMIT = 1e-8, 10.0
"""Of VecNormalize: added to the variance, and the most that an observation is after it."""


class Sb3Policy(Policy):
    """Acts by the model's own `predict`.

    Args:
        observation_space: Of one environment.
        action_space: Of one environment.
        model_policy: The model's policy.
        normalize: Observations are normalised before, as VecNormalize does.
    """

    mean: Tensor
    variance: Tensor
    teaches: ClassVar[bool] = False
    noise_size = 0  # the model draws its own numbers, from PyTorch's generator

    def __init__(
        self,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        model_policy: Any,
        normalize: bool,
    ) -> None:
        super().__init__(observation_space, action_space, normalize=False)
        self.model_policy = model_policy
        self.normalizes = normalize
        if normalize:
            shape = observation_space.shape or ()
            self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
            self.register_buffer("variance", torch.ones(shape, dtype=torch.float64))

    def take_statistics(self, envs: VecNormalize) -> None:
        """Takes over the statistics of the observations as they are now."""
        assert isinstance(envs.obs_rms, RunningMeanStd)
        self.mean.copy_(torch.from_numpy(np.asarray(envs.obs_rms.mean)))
        self.variance.copy_(torch.from_numpy(np.asarray(envs.obs_rms.var)))

    def __deepcopy__(self, memo: dict[int, Any]) -> Sb3Policy:
        """A copy; the last distribution, which has tensors of a graph, stays behind."""
        for module in self.modules():
            last = getattr(module, "action_dist", None)
            for name, value in vars(last).items() if last is not None else ():
                if isinstance(value, torch.distributions.Distribution):
                    setattr(last, name, None)
                elif isinstance(value, Tensor):
                    setattr(last, name, value.detach())
        copied = self.__class__.__new__(self.__class__)
        memo[id(self)] = copied
        nn.Module.__init__(copied)
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied

    def initial_state(self, batch: int) -> Tree:
        """See `Policy.initial_state`: of an LSTM, [layers, B, D] twice."""
        shape = getattr(self.model_policy, "lstm_hidden_state_shape", None)
        if shape is None:
            return ()
        return tuple(torch.zeros(shape[0], batch, shape[2]) for _ in range(2))

    def act(
        self,
        obs: Tree,
        state: Tree,
        first: Tensor,
        noise: Tensor | None = None,
        greedy: bool = False,
    ) -> ActResult:
        """See `Policy.act`; a Box action is within its bounds, and DQN's is always greedy."""
        seen = map_tree(lambda leaf: leaf.cpu().numpy(), obs)
        if self.normalizes:
            scaled = (seen - self.mean.numpy()) / np.sqrt(self.variance.numpy() + EPSILON)
            seen = np.clip(scaled, -LIMIT, LIMIT).astype(np.float32)
        memory = map_tree(lambda leaf: leaf.numpy(), state) or None
        opens = first.cpu().numpy()
        action, memory = self.model_policy.predict(seen, memory, opens, deterministic=greedy)
        after = () if memory is None else map_tree(torch.from_numpy, tuple(memory))
        return torch.from_numpy(np.asarray(action)), {}, after

    def act_functions(self, greedy: bool) -> Callable[[], ActFunction]:
        """See `Policy.act_functions`; nothing is recorded, for the model computes in NumPy."""
        return lambda: functools.partial(self.act, greedy=greedy)
