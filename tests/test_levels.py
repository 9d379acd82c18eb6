"""What training sees of an environment, and what it does not: levels, and other dynamics."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from neuraxis.configs import load
from neuraxis.envs import EnvConfig, Envs, make


def openings(envs: Envs, steps: int = 400) -> set[bytes]:
    """The first observations of all episodes of so many steps."""
    found = {row.tobytes() for row in envs.reset()}
    over = np.zeros(envs.num_envs, bool)
    for step in range(steps):
        obs, _, terminated, truncated = envs.step(np.full(envs.num_envs, step % 2))
        found |= {obs[column].tobytes() for column in np.flatnonzero(over)}
        over = terminated | truncated
    envs.close()
    return found


def test_training_has_so_many_openings_and_evaluations_have_others() -> None:
    config = EnvConfig(levels=3)
    seen = openings(make(config, 4, 0))
    assert len(seen) == 3
    assert openings(make(config, 4, 0, first_column=7)) == seen, "all columns share them"
    assert not openings(make(config, 4, 1)) & seen, "another run has others"
    assert len(openings(make(config.for_evaluation(), 4, 0))) > 20


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["env.levels=5", "env.reseed=once"], "takes a seed for each episode"),
        (["env.levels=0"], "expected an integer greater than 0"),
    ],
)
def test_what_has_no_levels_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(words)


def test_levels_need_single_environments() -> None:
    with pytest.raises(ValueError, match="levels is for single environments"):
        make(EnvConfig(levels=3, vectorization="native"), 2, 0)


@pytest.mark.parametrize(
    ("name", "steps"), [("CartPole", 60), ("Pendulum", 200)], ids=["cartpole", "pendulum"]
)
def test_with_the_usual_numbers_it_is_gymnasiums(name: str, steps: int) -> None:
    ours, theirs = (gymnasium.make(id) for id in (f"neuraxis/{name}-v0", f"{name}-v1"))
    assert ours.spec and theirs.spec
    assert ours.spec.max_episode_steps == theirs.spec.max_episode_steps
    assert np.array_equal(ours.reset(seed=5)[0], theirs.reset(seed=5)[0])
    ours.action_space.seed(0)
    for _ in range(steps):
        action = ours.action_space.sample()
        one, other = ours.step(action), theirs.step(action)
        assert np.allclose(one[0], other[0])
        assert one[1:4] == other[1:4]
        if one[2]:
            break


def test_each_episode_draws_its_own_numbers_from_its_seed() -> None:
    env: Any = gymnasium.make("neuraxis/CartPole-v0", length=[0.25, 2.0], pole_mass=0.3).unwrapped
    drawn = []
    for seed in (1, 2, 3, 1):
        env.reset(seed=seed)
        drawn.append(env.length)
        assert env.masspole == 0.3 and env.total_mass == 1.3
        assert env.polemass_length == 0.3 * env.length
    assert drawn[0] == drawn[3] and len({*drawn}) == 3
    assert all(0.25 <= length <= 2.0 for length in drawn)


@pytest.mark.parametrize("value", [0, [2.0, 1.0], [1.0], [-1.0, 1.0]])
@pytest.mark.parametrize("key", ["CartPole-v0 force", "Pendulum-v0 gravity"])
def test_numbers_that_cannot_be_are_refused(key: str, value: Any) -> None:
    name, _, argument = key.partition(" ")
    config = EnvConfig(id=f"neuraxis/{name}", kwargs={argument: value})
    with pytest.raises(ValueError, match="expected a number above 0, or"):
        make(config, 1, 0)
