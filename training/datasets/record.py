"""Plays episodes of a policy and keeps them.

dataset, rows = record(policy, cfg.env, 50, seed, cfg.num_envs, False, Budget())
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...agents.policies.policy import Policy
from ...core.rollout import Rollout
from ...core.tree import map_tree
from ...envs import EnvConfig
from ..evaluate import Budget, Watch, play, quota
from .dataset import Dataset


def record(
    policy: Policy,
    config: EnvConfig,
    episodes: int,
    seed: int,
    num_envs: int,
    stochastic: bool,
    budget: Budget,
    watch: Watch = lambda played, wanted: False,
) -> tuple[Dataset, np.ndarray]:
    """Returns the episodes that `play` plays with the same arguments, and what it returns.

    Raises:
        ValueError: The policy was not made for such an environment.
    """
    rollouts: list[Rollout[np.ndarray]] = []
    given = policy, config, episodes, seed, num_envs, stochastic
    rows = play(*given, budget=budget, watch=watch, keep=rollouts.append)
    share = quota(episodes, rollouts[0].first.shape[1])
    return dataset_of(rollouts, share, policy), rows


def dataset_of(
    rollouts: Sequence[Rollout[np.ndarray]], share: Sequence[int], policy: Policy
) -> Dataset:
    """The first episodes of each column of a stream, one column after the other.

    Args:
        rollouts: That follow upon one another; the first one opens with `first`.
        share: How many episodes of each column, all of which have ended.
        policy: Its spaces are those of the dataset.
    """
    ended = np.concatenate([rollout.episodes for rollout in rollouts])
    stream = {
        name: map_tree(lambda *parts: np.concatenate(parts), *_parts(rollouts, name))
        for name in ("obs", "first", "action", "reward", "discount")
    }
    places = []
    for column, count in enumerate(share):
        lengths = ended[ended[:, 0] == column, 2].astype(np.int64)[:count]
        begins = np.flatnonzero(stream["first"][:, column])[:count]
        assert len(lengths) == count <= len(begins), "an episode has not ended"
        for begin, length in zip(begins, lengths, strict=True):
            rows = np.arange(begin, begin + length + 1)
            places.append((rows, np.full_like(rows, column), rows == rows[-1]))
    rows, columns, last = (np.concatenate(part) for part in zip(*places, strict=True))
    picked = {
        name: map_tree(lambda leaf: leaf[rows, columns], tree) for name, tree in stream.items()
    }
    picked["action"][last] = 0
    picked["reward"][last], picked["discount"][last] = 0.0, 1.0
    return Dataset(policy.observation_space, policy.action_space, **picked)


def _parts(rollouts: Sequence[Rollout[np.ndarray]], name: str) -> list[object]:
    """What the rollouts have of the stream, in R rows; the last row has a state and no step."""
    parts = [getattr(rollout, name) for rollout in rollouts]
    if name in ("obs", "first"):
        return [map_tree(lambda leaf: leaf[:-1], part) for part in parts[:-1]] + parts[-1:]
    return [*parts, np.zeros_like(parts[-1][-1:])]
