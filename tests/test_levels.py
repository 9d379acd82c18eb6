"""What training sees of an environment, and what it does not: levels, and other dynamics."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from neuraxis.configs import load
from neuraxis.envs import EnvConfig, Envs, make
from neuraxis.training import train
from neuraxis.training.cli import exit_codes, main
from neuraxis.training.distributed.groups import open_group

from .helpers import training


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
    others = openings(make(config.for_evaluation(), 4, 0))
    assert len(others) > 20 and not others & seen


def test_a_group_that_is_opened_again_has_the_same_levels() -> None:
    """After a fault of a worker, and when an asynchronous run is resumed."""
    run = training("env.levels=3", "num_envs=4")
    found = []
    for generation in (0, 1):
        collector, _ = open_group(run.cfg, run.agent.policy, 400, 0, generation)
        rollout = collector.collect()
        found.append({row.tobytes() for row in rollout.obs[rollout.first]})
    assert found[0] == found[1] and len(found[0]) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["env.levels=5", "env.reseed=once"], r"env.levels=5: expected null with reseed=once"),
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


@pytest.mark.parametrize("task", ["CartPole-v1", "Pendulum-v1"])
def test_a_background_stays_for_an_episode_and_changes_nothing(task: str) -> None:
    plain = gymnasium.make(task)
    env = gymnasium.make("neuraxis/Background-v0", task=task, size=3)
    plain.action_space.seed(0)
    found = []
    for seed in (1, 2, 1):
        bare, obs = plain.reset(seed=seed)[0], env.reset(seed=seed)[0]
        found.append(tuple(obs[-3:]))
        for _ in range(5):
            assert np.array_equal(obs[:-3], bare) and tuple(obs[-3:]) == found[-1]
            assert obs in env.observation_space
            action = plain.action_space.sample()
            (bare, *rest), (obs, *others) = plain.step(action), env.step(action)
            assert rest == others
    assert found[0] == found[2] != found[1]
    assert np.unique(found).size == 6


def test_training_sees_few_backgrounds_and_evaluations_others() -> None:
    """And what was stopped goes on with the background of its episode."""
    config = EnvConfig(id="neuraxis/Background-v0", kwargs={"choices": 3}, levels=2)
    envs = make(config, 4, 0)
    seen = {row.tobytes() for row in envs.reset()[:, 3:]}
    assert len(seen) <= 2
    assert not seen & {row.tobytes() for row in make(config.for_evaluation(), 8, 0).reset()[:, 3:]}
    envs.step(np.zeros(4, int))
    again = make(config, 4, 0)
    assert again.restore(envs.snapshot()).all()
    np.testing.assert_array_equal(again.obs, envs.obs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"task": "os:x"}, "task=os:x: expected an id that is registered"),
        ({"size": 0}, "size=0: expected a whole number, 1 or more"),
        ({"choices": True}, "choices=True: expected a whole number, 2 or more"),
        ({"task": "Taxi-v4"}, "task=Taxi-v4: has the observations Discrete.*; expected a vector"),
        (
            {"task": "CartPole-v1", "choices": 3},
            "choices=3: expected null, CartPole-v1 has choices",
        ),
    ],
)
def test_backgrounds_that_cannot_be_are_refused(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(EnvConfig(id="neuraxis/Background-v0", kwargs=kwargs), 1, 0)


def test_a_policy_is_evaluated_under_other_dynamics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("env=neuraxis/CartPole-v0", "total_steps=200", "wandb.mode=disabled")
    train(*words, "eval.final_episodes=1", run_dir=tmp_path / "run")
    returns = []
    for word in ("force=10.0", "force=0.001"):
        given = ["evaluate", str(tmp_path / "run"), f"env.kwargs.{word}", "--episodes", "4"]
        assert exit_codes.exit_code(main.neuraxis, given) == 0
        returns.append(capsys.readouterr().out.splitlines()[1])
    assert returns[0] != returns[1]
    given = ["evaluate", str(tmp_path / "run"), "env.kwargs.forse=1"]
    assert exit_codes.exit_code(main.neuraxis, given) == 2
    assert "has no such argument; did you mean force" in capsys.readouterr().err
    given[-1] = "env.kwargs.force"
    assert exit_codes.exit_code(main.neuraxis, given) == 2
    assert "env.kwargs.force: expected KEY=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize(
    "value", [0, [2.0, 1.0], [1.0], [-1.0, 1.0], True, "ab", None, {"a": 1, "b": 2}, math.inf]
)
@pytest.mark.parametrize("key", ["CartPole-v0 force", "Pendulum-v0 gravity"])
def test_numbers_that_cannot_be_are_refused(key: str, value: Any) -> None:
    name, _, argument = key.partition(" ")
    config = EnvConfig(id=f"neuraxis/{name}", kwargs={argument: value})
    with pytest.raises(ValueError, match=rf"{argument}=.*: expected a number above 0, or"):
        make(config, 1, 0)
