"""Our environments as Stable-Baselines3's vector environment."""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from ...core.tree import Tree, leaves, map_tree
from ...envs import EnvConfig, ids, make
from ...envs.observation_check import check_finite
from ...envs.rewards import scaled
from ...envs.vector import Envs


class Described(VecEnv):
    """The spaces of environments that are not there: what a model needs to be built."""

    def reset(self) -> Any:
        """Refused, as `step`."""
        raise NotImplementedError

    def step_async(self, actions: np.ndarray) -> None:
        """Refused."""
        raise NotImplementedError

    def step_wait(self) -> Any:
        """Refused."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is open."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The render mode, which is none; AttributeError for all else."""
        if attr_name != "render_mode":
            raise AttributeError(attr_name)
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused: environments are made from their configuration."""
        raise AttributeError(attr_name)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        """Refused: what an environment has besides `reset` and `step` is not reached."""
        raise AttributeError(method_name)

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: Any = None) -> Any:
        """Whether a wrapper is there: none that can be reached."""
        return [False] * self.num_envs


class Sb3Envs(Described):
    """The columns of a run, each by itself: a column that has ended opens its next episode at once.

    That is what Stable-Baselines3 expects. Episodes have the seeds that training with neuraxis
    gives them, and all that `env.*` asks for.

    Args:
        config: What to make.
        num_envs: B.
        seed: Of the run.

    Attributes:
        env_seconds: Wall seconds inside the environments.

    Raises:
        ValueError: Such environments cannot be made.
    """

    def __init__(self, config: EnvConfig, num_envs: int, seed: int) -> None:
        if config.vectorization == "auto" and ids.find(config).entry_point is not None:
            config = config.model_copy(update={"vectorization": "sync"})
        self._seed, self._columns = seed, list[Envs]()
        try:
            for column in range(num_envs):
                self._columns.append(make(config, 1, seed, column))
        except BaseException:
            self.close()
            raise
        self.env_seconds = 0.0
        self._steps = 0
        self._scale = config.reward_scale, config.reward_clip
        self._returns, self._lengths = np.zeros(num_envs), np.zeros(num_envs, int)
        self._begin = time.time()
        first = self._columns[0]
        super().__init__(num_envs, first.observation_space, first.action_space)

    def reset(self) -> Any:
        """Opens a new episode in every column; returns the observations [B,*]."""
        self._returns[:] = self._lengths[:] = 0
        return _joined([column.reset() for column in self._columns])

    def step_async(self, actions: np.ndarray) -> None:
        """Takes note of the actions [B,*] for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Steps; returns observations [B,*], rewards [B], whether episodes ended [B], and infos.

        The observation of an ended episode is the first one of the next; the info has its last one.
        """
        begin = time.perf_counter()
        self._steps += 1
        rewards, dones = np.zeros(self.num_envs, np.float32), np.zeros(self.num_envs, bool)
        rows, infos = [], []
        for index, column in enumerate(self._columns):
            obs, reward, terminated, truncated = column.step(self._actions[index : index + 1])
            check_finite("reward", reward[None], (index,), self._steps, self._seed)
            for leaf in leaves(obs):
                check_finite("observation", leaf[None], (index,), self._steps, self._seed)
            rewards[index], dones[index] = reward[0], terminated[0] | truncated[0]
            self._returns[index] += reward[0]
            self._lengths[index] += 1
            info: dict[str, Any] = {}
            if dones[index]:
                info["terminal_observation"] = map_tree(lambda leaf: leaf[0], obs)
                info["TimeLimit.truncated"] = bool(truncated[0] and not terminated[0])
                info |= self._ended(index, column.successes())
                obs, *_ = column.step(self._actions[index : index + 1])  # ignored: it resets
            rows.append(obs)
            infos.append(info)
        self.env_seconds += time.perf_counter() - begin
        return _joined(rows), scaled(rewards, *self._scale), dones, infos

    def _ended(self, index: int, successes: list[float]) -> dict[str, Any]:
        """What Stable-Baselines3's Monitor says of an episode, and whether it was a success."""
        seconds = time.time() - self._begin
        episode = {"r": float(self._returns[index]), "l": int(self._lengths[index]), "t": seconds}
        self._returns[index] = self._lengths[index] = 0
        known = {} if not successes or np.isnan(successes[-1]) else {"is_success": successes[-1]}
        return {"episode": episode, **known}

    def close(self) -> None:
        """Closes the environments."""
        for column in self._columns:
            column.close()


def _joined(rows: list[Tree]) -> Tree:
    """Observations [1,*] of columns as [B,*]."""
    return map_tree(lambda *leaves: np.concatenate(leaves), rows[0], *rows[1:])
