"""The last action and its reward as a part of the observation, for networks with memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from ...core.tree import Tree
from ..observations import Space
from ..rewards import scaled
from ..vector import Envs, Step
from .transforms import flatten


class LastAction:
    """Makes observations a Dict of `observation`, `last_action` and `last_reward`.

    The action is a float32 vector [B,A], one-hot where it is a choice; the reward [B,1] is the one
    that the agent learns from. Both are 0 in the first observation of an episode.

    Args:
        observation_space: Of one observation without them.
        action_space: The agent's.
        reward_scale: Factor on the reward.
        reward_clip: Its limit, after the factor; None for no limit.

    Attributes:
        space: Of one observation with them.
    """

    def __init__(
        self,
        observation_space: Space,
        action_space: Space,
        reward_scale: float,
        reward_clip: float | None,
    ) -> None:
        vector, self._to_vector = flatten(action_space)
        if isinstance(action_space, spaces.Box):  # as the agent chose it, before any clipping
            vector = spaces.Box(-np.inf, np.inf, vector.shape, np.float32)
        self.space = spaces.Dict(
            {
                "last_action": vector,
                "last_reward": spaces.Box(-np.inf, np.inf, (1,), np.float32),
                "observation": observation_space,
            }
        )
        self._size = vector.shape or ()
        self._reward_scale, self._reward_clip = reward_scale, reward_clip

    def __call__(
        self, obs: Tree, action: np.ndarray | None, reward: np.ndarray, first: np.ndarray
    ) -> dict[str, Tree]:
        """The observations [B,*] with the last actions.

        Args:
            obs: Without them.
            action: The agent's last actions [B,*]; None before the first ones.
            reward: Their rewards [B], without factor and limit.
            first: [B] bool: the observation opens an episode.
        """
        if action is None:
            vector = np.zeros((len(first), *self._size), np.float32)
        else:
            vector = self._to_vector(action)
        reward = scaled(reward.astype(np.float32), self._reward_scale, self._reward_clip)[:, None]
        vector[first], reward[first] = 0, 0
        return {"last_action": vector, "last_reward": reward, "observation": obs}


class LastActionEnvs(Envs):
    """Envs whose observations have the last action and its reward; see `LastAction`.

    Args:
        envs: The environments; their action space is the agent's.
        last: Puts the last actions beside their observations.
    """

    def __init__(self, envs: Envs, last: LastAction) -> None:
        self.num_envs = envs.num_envs
        self.action_space = envs.action_space
        self.observation_space = last.space
        self._last = last
        self._envs = envs

    def reset(self) -> Tree:
        """Opens a new episode in every column; returns the observations [B,*]."""
        self._ended = np.zeros(self.num_envs, bool)  # the next step opens an episode
        nothing, opens = np.zeros(self.num_envs), np.ones(self.num_envs, bool)
        self.obs = self._last(self._envs.reset(), None, nothing, opens)
        return self.obs

    def step(self, action: np.ndarray) -> Step:
        """Takes actions [B,*]; see `Envs.step`."""
        obs, reward, terminated, truncated = self._envs.step(action)
        self.obs = self._last(obs, action, reward, self._ended)
        self._ended = terminated | truncated
        return self.obs, reward, terminated, truncated

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
        self.obs = {
            "last_action": action,
            "last_reward": reward,
            "observation": self._envs.obs,
        }
        return restored

    def close(self) -> None:
        """Frees what the environments hold."""
        self._envs.close()
