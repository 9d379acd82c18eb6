"""What a model of Stable-Baselines3 has learned, as a policy that our collectors ask."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.running_mean_std import RunningMeanStd
from torch import Tensor

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
        shape = observation_space.shape or ()
        self.statistics = RunningMeanStd(shape=shape) if normalize else None

    def get_extra_state(self) -> Any:
        """The statistics of the observations, for `state_dict`."""
        found = self.statistics
        return None if found is None else {"mean": found.mean.copy(), "var": found.var.copy()}

    def set_extra_state(self, state: Any) -> None:
        """Takes over these statistics."""
        if self.statistics is not None:
            self.statistics.mean, self.statistics.var = state["mean"].copy(), state["var"].copy()

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
        """See `Policy.act`; a Box action is within its bounds."""
        seen = map_tree(lambda leaf: leaf.cpu().numpy(), obs)
        if self.statistics is not None:
            scaled = (seen - self.statistics.mean) / np.sqrt(self.statistics.var + EPSILON)
            seen = np.clip(scaled, -LIMIT, LIMIT).astype(np.float32)
        memory = map_tree(lambda leaf: leaf.numpy(), state) or None
        opens = first.cpu().numpy()
        action, memory = self.model_policy.predict(seen, memory, opens, deterministic=greedy)
        after = () if memory is None else map_tree(torch.from_numpy, tuple(memory))
        return torch.from_numpy(np.asarray(action)), {}, after

    def act_functions(self, greedy: bool) -> Callable[[], ActFunction]:
        """See `Policy.act_functions`; nothing is recorded, for the model computes in NumPy."""
        return lambda: functools.partial(self.act, greedy=greedy)
