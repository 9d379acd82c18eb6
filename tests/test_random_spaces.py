"""Every space that Gymnasium can declare is trained on, or refused in one line."""

from __future__ import annotations

import pytest

from .random_spaces import agents_for, attempt

SPACES = 200  # benchmarks/random_spaces.py has more


@pytest.mark.parametrize("tenth", range(10))
def test_random_spaces_train_or_are_refused_in_one_line(tenth: int) -> None:
    lines = [
        attempt(number, agent)
        for number in range(tenth, SPACES, 10)
        for agent in agents_for(number)
    ]
    assert lines.count(None) > len(lines) / 3, "many are trained on"
