"""Joint actions: numbers that stand for all parts of an action, and the agents that choose them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from neuraxis.agents.policies.joint_actions import JointActions

from .helpers import action_words, training

SPACES = [
    spaces.Discrete(5),
    spaces.MultiDiscrete([2, 3, 4]),
    spaces.MultiDiscrete(np.array([[2, 3], [1, 4]])),
    spaces.MultiBinary(3),
    spaces.MultiBinary((2, 2)),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_each_number_is_one_action(space: spaces.Space) -> None:
    joint = JointActions(space)
    numbers = torch.arange(joint.count).expand(2, -1)
    actions = joint.action(numbers)
    assert torch.equal(joint.index(actions), numbers) and joint.index(actions).dtype == torch.int64
    assert len({str(action.tolist()) for action in actions[0]}) == joint.count
    for action in actions[0].numpy():
        assert space.contains(action if action.ndim else np.int64(action))


def test_the_last_part_counts_fastest() -> None:
    joint = JointActions(spaces.MultiDiscrete([2, 3]))
    assert joint.action(torch.arange(6)).tolist() == [
        [0, 0],
        [0, 1],
        [0, 2],
        [1, 0],
        [1, 1],
        [1, 2],
    ]
    assert not joint.state_dict()  # the space says it all


@pytest.mark.parametrize("space", [spaces.MultiDiscrete([10] * 5), spaces.MultiBinary(64)], ids=str)
def test_too_many_are_refused_in_one_line(space: spaces.Space) -> None:
    with pytest.raises(ValueError, match=r"joint actions.* at most 10,000; agent=ppo") as refused:
        JointActions(space)
    assert "\n" not in str(refused.value)
    assert JointActions(spaces.MultiDiscrete([10] * 4)).count == 10_000


def test_too_many_are_refused_at_start() -> None:
    with pytest.raises(ValueError, match="16,384 joint actions"):
        training("agent=dqn", *action_words("multibinary", 14))


def test_a_continuum_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"got Box.*no finite search; try .*agent=sac"):
        training("agent=dqn", *action_words("box"))


def test_exploration_draws_all_parts() -> None:
    """With epsilon 1 each joint action comes with the same probability."""
    policy = training("agent=dqn", *action_words("multibinary", 3)).agent.policy
    policy.epsilon.fill_(1.0)
    obs, first = torch.zeros(8_000, 3, dtype=torch.int8), torch.zeros(8_000, dtype=torch.bool)
    action, _, _ = policy.act(obs, (), first)
    assert action.shape == (8_000, 3) and action.dtype == torch.int8
    counts = torch.bincount(policy.joint.index(action), minlength=8)
    assert counts.tolist() == pytest.approx([1_000] * 8, abs=150)  # five deviations
