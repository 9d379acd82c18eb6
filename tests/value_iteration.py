"""Exact values of Gymnasium's toy environments, whose transitions are known.

Also for `benchmarks/tabular.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium
import numpy as np


@dataclass(frozen=True)
class Model:
    """What an environment does, in expectation; S observations, A actions."""

    successor: np.ndarray
    """[S, A, S]: probability of what follows, where the episode goes on."""
    reward: np.ndarray
    """[S, A]: expected reward."""
    start: np.ndarray
    """[S]: probability of the first observation."""
    gamma: float

    def best(self) -> np.ndarray:
        """[S, A]: the values of the best policy, to 1e-10."""
        q = np.zeros_like(self.reward)
        while True:
            newer = self.reward + self.gamma * self.successor @ q.max(1)
            if np.abs(newer - q).max() < 1e-10:
                return newer
            q = newer

    def value(self, action: np.ndarray) -> float:
        """The expected discounted return of a policy, one action [S] for each observation."""
        every = np.arange(len(action))
        follows = np.eye(len(action)) - self.gamma * self.successor[every, action]
        return float(self.start @ np.linalg.solve(follows, self.reward[every, action]))


def model_of(env_id: str, gamma: float, **kwargs: object) -> Model:
    """The model of an environment that tells it as `P`, as those of `gymnasium.envs.toy_text` do.

    Args:
        env_id: Gymnasium id.
        gamma: Discount per step.
        kwargs: Of the environment's constructor.
    """
    env: gymnasium.Env = gymnasium.make(env_id, **kwargs).unwrapped  # type: ignore[arg-type]
    table: dict[int, dict[int, list[tuple[float, int, float, bool]]]] = env.get_wrapper_attr("P")
    size, actions = len(table), len(table[0])
    successor, reward = np.zeros((size, actions, size)), np.zeros((size, actions))
    for s in range(size):
        for a in range(actions):
            for chance, follows, pays, ends in table[s][a]:
                reward[s, a] += chance * pays
                successor[s, a, follows] += chance * (not ends)
    start = np.asarray(env.get_wrapper_attr("initial_state_distrib"), np.float64)
    return Model(successor, reward, start / start.sum(), gamma)
