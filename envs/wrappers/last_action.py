"""The last action and its reward as a part of the observation, for networks with memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from ...core.tree import Tree
from ..rewards import scaled
from ..vector import Envs, Step
from .transforms import flatten


class LastActionEnvs(Envs):
    """Envs whose observation is a Dict of `observation`, `last_action` and `last_reward`.

    The action is a float32 vector [B,A], one-hot where it is a choice; the reward [B,1] is the one
    that the agent learns from. Both are 0 in the first observation of an episode.

    Args:
        envs: The environments; their action space is the agent's.
        reward_scale: Factor on the reward.
        reward_clip: Its limit, after the factor; None for no limit.
    """

    def __init__(self, envs: Envs, reward_scale: float, reward_clip: float | None) -> None:
        self.num_envs = envs.num_envs
        self.action_space = envs.action_space
        action_vector, self._to_vector = flatten(envs.action_space)
        if isinstance(envs.action_space, spaces.Box):  # as the agent chose it, before any clipping
            action_vector = spaces.Box(-np.inf, np.inf, action_vector.shape, np.float32)
        self.observation_space = spaces.Dict(
            {
                "last_action": action_vector,
                "last_reward": spaces.Box(-np.inf, np.inf, (1,), np.float32),
                "observation": envs.observation_space,
            }
        )
        self._envs = envs
        self._reward_scale, self._reward_clip = reward_scale, reward_clip
        self._action_size = action_vector.shape or ()

    def reset(self) -> Tree:
        """Opens a new episode in every column; returns the observations [B,*]."""
        self._ended = np.zeros(self.num_envs, bool)  # the next step opens an episode
        action = np.zeros((self.num_envs, *self._action_size), np.float32)
        return self._with(self._envs.reset(), action, np.zeros((self.num_envs, 1), np.float32))

    def step(self, action: np.ndarray) -> Step:
        """Takes actions [B,*]; see `Envs.step`."""
        obs, reward, terminated, truncated = self._envs.step(action)
        last_action = self._to_vector(action)
        last_reward = scaled(reward.astype(np.float32), self._reward_scale, self._reward_clip)
        last_action[self._ended] = 0
        last_reward[self._ended] = 0
        self._ended = terminated | truncated
        return self._with(obs, last_action, last_reward[:, None]), reward, terminated, truncated

    def successes(self) -> list[float]:
        """Returns and clears the successes of the episodes that ended; see `Envs.successes`."""
        return self._envs.successes()

    def snapshot(self) -> dict[str, Any]:
        """Where each column stands, and the last actions and rewards."""
        return {
            "envs": self._envs.snapshot(),
            "ended": self._ended.copy(),
            "last_action": self.obs["last_action"].copy(),
            "last_reward": self.obs["last_reward"].copy(),
        }

    def restore(self, snapshot: dict[str, Any]) -> np.ndarray:
        """Goes back to a snapshot; see `Envs.restore`."""
        restored = self._envs.restore(snapshot["envs"])
        self.others = self._envs.others
        self._ended = snapshot["ended"] & restored
        action, reward = snapshot["last_action"].copy(), snapshot["last_reward"].copy()
        action[~restored], reward[~restored] = 0, 0
        self._with(self._envs.obs, action, reward)
        return restored

    def close(self) -> None:
        """Frees what the environments hold."""
        self._envs.close()

    def _with(self, obs: Tree, action: np.ndarray, reward: np.ndarray) -> Tree:
        self.obs = {"last_action": action, "last_reward": reward, "observation": obs}
        return self.obs
