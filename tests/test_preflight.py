"""What is tried before a run."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from neuraxis.envs.builtin.counting import Episode, Step
from neuraxis.training import train
from neuraxis.training.cli import exit_codes, main
from neuraxis.training.storage import random_state

SMALL = ("wandb.mode=disabled", "device=cpu", "agent.n_steps=16", "agent.batch_size=32")
ONE = (*SMALL, "num_envs=1", "total_steps=64", "eval.final_episodes=2")


class Bandit(Episode):
    """Episodes of ten steps that are drawn from a source of numbers that is asked for.

    `most` of them may be open at a time.
    """

    open_ones = 0

    def __init__(self, source: str = "np_random", most: int = 99) -> None:
        if Bandit.open_ones >= most:
            raise RuntimeError("the simulator's port is taken")
        Bandit.open_ones += 1
        self.observation_space = spaces.Box(0, 1, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.source = source

    def draw(self, where: str) -> float:
        if self.source == f"numpy {where}":
            return np.random.random()
        if self.source == f"random {where}":
            return random.random()
        if self.source == f"clock {where}":
            return time.time() % 1
        return float(self.np_random.random())

    def _open(self) -> np.ndarray:
        return np.full(1, self.draw("obs"), np.float32)

    def step(self, action: Any) -> Step:
        self._count += 1
        return self._open(), self.draw("reward"), self._count == 10, False, {}

    def close(self) -> None:
        Bandit.open_ones -= 1


@pytest.fixture(autouse=True)
def registered() -> Any:
    make: Any = Bandit
    gymnasium.register("preflight/Bandit-v0", make, disable_env_checker=True)
    yield
    del gymnasium.registry["preflight/Bandit-v0"]
    Bandit.open_ones = 0


def words(folder: Path, *more: str) -> list[str]:
    return [*ONE, "env=preflight/Bandit-v0", f"run_dir={folder / 'run'}", *more]


def test_an_environment_of_which_one_may_be_open_is_trained_and_evaluated(tmp_path: Path) -> None:
    run = train(*words(tmp_path, "env.kwargs.most=1"))
    assert run.summary["status"] == "finished"
    assert run.summary["evaluate/length"] == 10
    assert Bandit.open_ones == 0


def test_evaluations_beside_it_are_refused_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = words(tmp_path, "env.kwargs.most=1", "eval.interval_steps=32")
    assert exit_codes.exit_code(main.neuraxis, ["train", "-q", *line]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: eval.interval_steps=32: evaluations open environments beside")
    assert "the simulator's port is taken (tests/test_preflight.py:" in said
    assert "; eval.interval_steps=0 evaluates only at the end" in said
    assert Bandit.open_ones == 0 and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ("np_random", None),
        ("numpy obs", "at the reset"),
        ("random obs", "at the reset"),
        ("numpy reward", "at step 1"),
        ("random reward", "at step 1"),
        ("clock reward", "at step 1"),
    ],
)
def test_randomness_of_its_own_is_said_once(
    source: str, where: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = random_state.state_dict()
    train(*words(tmp_path, f"env.kwargs.source={source}", "seed=3"))
    said = [text for text in caplog.messages if "does not repeat itself" in text]
    assert len(said) == (where is not None)
    assert where is None or (where in said[0] and "not from np_random" in said[0])
    if source in ("np_random", "clock reward"):
        after = random_state.state_dict()
        assert str({**after, "torch": before["torch"]}) == str(before), "training seeds torch alone"
