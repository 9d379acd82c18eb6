"""Hindsight: what was achieved later serves as the goal (Andrychowicz et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from torch import Tensor

from ...core.devices import to_device
from ...core.errors import shorten
from ...core.goals import GoalRewards, has_goals
from ...core.rollout import Rollout
from .episodes import Episodes
from .replay import Replay
from .sample import Sample

Strategy = Literal["future", "final", "episode"]


class HindsightReplay(Replay):
    """A replay in which most windows get another goal than the one they were collected with.

    The goals are drawn anew whenever a window is gathered. All rows of a window that are of one
    episode have one goal, so n-step returns and sequences have one, too. It is what a later row of
    that episode achieved: `future`, any row after the first one of the window; `final`, the newest
    row; `episode`, any row of the episode. Only rows that are in the ring count; an episode that
    still runs ends, so far, with the newest one. Rewards, and terminations where the environment
    knows them from the goals, are those of the new goal. The memory that was stored with the old
    goal is forgotten: such a window opens as an episode does.

    Args:
        rewards: Computes the rewards of the new goals; None: nothing is ever gathered.
        strategy: Which rows the goals are from.
        n_sampled_goal: Windows with another goal for each one with its own.
        settings: Of `Replay`.
    """

    def __init__(
        self,
        rewards: GoalRewards | None,
        strategy: Strategy,
        n_sampled_goal: int,
        *settings: Any,
        **more: Any,
    ) -> None:
        super().__init__(*settings, **more)
        self.rewards, self.strategy = rewards, strategy
        self.share = n_sampled_goal / (n_sampled_goal + 1)
        self.episodes = Episodes(self.steps.rows, self.num_envs)

    def add(self, rollout: Rollout[Tensor]) -> None:
        """See `Replay.add`."""
        columns = rollout.columns.cpu().numpy()
        begin = self.windows.written[columns]
        self.episodes.add(begin, columns, rollout.first.cpu().numpy())
        super().add(rollout)

    def gather(self, starts: np.ndarray, weight: np.ndarray) -> Sample:
        """See `Replay.gather`; with new goals."""
        sample = super().gather(starts, weight)
        picked, wanted = self._goals(starts, sample.first.cpu().numpy())
        changed = to_device(wanted, self.steps.device)
        obs, columns = sample.obs, starts % self.num_envs
        goal = self.steps.pick(self.steps.trees["obs"]["achieved_goal"], picked, columns)
        goal = torch.where(_like(changed, goal), goal, obs["desired_goal"])
        first = sample.first.clone()
        first[0] |= changed[0]
        sample = replace(sample, obs={**obs, "desired_goal": goal}, first=first)
        return self._judged(sample, changed[:-1] & sample.valid)

    def _goals(self, starts: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draws for each row [W+1, N] of windows the row that its new goal is from.

        Returns:
            These rows, and which rows of the windows get that goal, bool.
        """
        steps = np.arange(self.window + 1)[:, None]
        begin, columns = self.windows.row(starts)
        # For each row, the window's first row of the same episode: all its rows get one goal.
        opens = np.maximum.accumulate(np.where(first, steps, 0))
        choice, place = self.rng.random((2, *first.shape))[:, opens, np.arange(len(starts))]
        opened, newest = self.episodes.span(begin + steps, columns)
        now = begin + opens
        if self.strategy == "future":
            before = now
        elif self.strategy == "final":
            before = newest - 1
        else:
            before = np.maximum(opened, self.windows.oldest[columns])
        picked = before + 1 + np.floor(place * (newest - before)).astype(np.int64)
        return picked, (choice < self.share) & (now < newest)

    def _judged(self, sample: Sample, changed: Tensor) -> Sample:
        """The windows with rewards and terminations of their goals in the steps `changed`."""
        assert self.rewards is not None
        goals = sample.obs["achieved_goal"][1:], sample.obs["desired_goal"][:-1]
        achieved, desired = (goal.flatten(0, 1).cpu().numpy() for goal in goals)
        reward, over = self.rewards(achieved, desired)
        new = to_device(reward, self.steps.device).view_as(sample.reward)
        reward, discount = torch.where(changed, new, sample.reward), sample.discount
        if over is not None:
            goes_on = to_device(~over, self.steps.device).view_as(discount)
            discount = torch.where(changed, goes_on.to(discount.dtype), discount)
        return replace(sample, reward=reward, discount=discount)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Replay.load_state_dict`; the bounds of episodes are read from the rows."""
        super().load_state_dict(state)
        self.episodes = Episodes(self.steps.rows, self.num_envs)
        oldest, newest = self.windows.oldest, self.windows.written
        for column in newest.nonzero()[0]:
            place = oldest[[column]], np.array([column])
            length = int(newest[column] - oldest[column]) + 1
            rows = self.steps.read(("first",), *place, length)["first"]
            self.episodes.add(*place, rows.cpu().numpy())


def kind_of_replay(
    strategy: Strategy | Literal["none"],
    n_sampled_goal: int,
    space: gymnasium.Space,
    make: Callable[[], GoalRewards] | None,
) -> Callable[..., Replay]:
    """The replay with or without hindsight, to be called with the settings of `Replay`.

    Args:
        strategy: See `HindsightReplay`; none: without.
        n_sampled_goal: See there.
        space: Of observations.
        make: Makes the function for the rewards of new goals; None: nothing is ever gathered.

    Raises:
        ValueError: Observations have no goals.
    """
    if strategy == "none":
        return Replay
    if not has_goals(space):
        raise ValueError(
            f"agent.hindsight={strategy}: expected observations with achieved_goal and "
            f"desired_goal of one shape, neither joined nor nested, got {shorten(space)}"
        )
    rewards = make() if make is not None else None
    return partial(HindsightReplay, rewards, strategy, n_sampled_goal)


def _like(flag: Tensor, leaf: Tensor) -> Tensor:
    """Flags [L, N] with as many axes as a leaf [L, N, *]."""
    return flag.view(*flag.shape, *(1 for _ in leaf.shape[2:]))
