"""Rewards and terminations for new goals (hindsight), from an environment's own functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.errors import Guard
from ..core.goals import GoalRewards
from . import ids
from .config import EnvConfig
from .observations import Space
from .rewards import scaled
from .single import building, make_single
from .wrappers.single_wrappers import Env

Judge = Callable[[np.ndarray, np.ndarray], np.ndarray]


def goal_rewards(config: EnvConfig) -> GoalRewards:
    """Makes an environment for its `compute_reward` and `compute_terminated`, if it has one.

    These are Gymnasium-Robotics' names (`GoalEnv`). Their `info` is empty: no replay keeps it.

    Raises:
        ValueError: the environment has no such function, or it fails without `info`, or the agent
            sees the goals in another form.
    """
    if config.frame_stack > 1:
        raise ValueError(
            f"env.frame_stack={config.frame_stack}: expected 1 with agent.hindsight, because "
            "rewards are computed from goals, not from stacks of them"
        )
    with building(config):
        env = make_single(config, ids.find(config), None)
    if not env.has_wrapper_attr("compute_reward"):
        raise ValueError(
            f"env.id={config.id!r}: agent.hindsight needs an environment with "
            "compute_reward(achieved_goal, desired_goal, info), and this one has none"
        )
    reward = _judge(env, "compute_reward", config.id)
    ends = env.has_wrapper_attr("compute_terminated")
    terminated = _judge(env, "compute_terminated", config.id) if ends else None

    def judged(achieved: np.ndarray, desired: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        rewards = reward(achieved, desired).astype(np.float32)
        over = None if terminated is None else terminated(achieved, desired).astype(bool)
        return scaled(rewards, config.reward_scale, config.reward_clip), over

    return judged


def _judge(env: Env, name: str, env_id: str) -> Judge:
    """Wraps a function of the environment for N pairs of goals as the agent sees them, [N,*].

    If its results for N pairs differ from those for single pairs, it is called pair by pair.
    """
    function: Any = env.get_wrapper_attr(name)
    space: Any = env.observation_space
    own = [_to_own(space[key]) for key in ("achieved_goal", "desired_goal")]
    guard = Guard(lambda: f"{env_id}: {name} of N pairs of goals, with an empty info", ValueError)

    def together(*goals: np.ndarray) -> np.ndarray:
        with guard:
            return np.asarray(
                function(*(to(goal) for to, goal in zip(own, goals, strict=True)), {})
            )

    def singly(*goals: np.ndarray) -> np.ndarray:
        pairs = (together(*pair) for pair in zip(*goals, strict=True))
        return np.array([pair.item() for pair in pairs])

    drawn = space["desired_goal"]
    drawn.seed(0)
    tried = [np.stack([drawn.sample() for _ in range(TRIED)]) for _ in own]
    each, all_at_once = singly(*tried), together(*tried)
    same = each.shape == all_at_once.shape and np.allclose(each, all_at_once)
    return together if same else singly


TRIED = 7  # pairs of goals


def _to_own(space: Space) -> Callable[[np.ndarray], np.ndarray]:
    """From a goal as the agent sees it to the environment's: its dtype, counted from its start."""
    start = getattr(space, "start", 0)
    return lambda goal: goal.astype(space.dtype) + start
