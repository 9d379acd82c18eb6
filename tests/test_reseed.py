"""`env.reseed`: who draws the episodes after the first one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from neuraxis.configs import load
from neuraxis.envs.builtin.counting import Episode, Step
from neuraxis.training import train
from neuraxis.training.cli import exit_codes, main
from neuraxis.training.distributed.groups import open_group

from .helpers import Counting


class Task(Episode):
    """Which of four arms pays is drawn where a seed is given; ten pulls, the best return is 10."""

    opened: ClassVar[list[Task]] = []

    def __init__(self) -> None:
        Task.opened.append(self)
        self.observation_space = spaces.Box(0, 1, (1,), np.float32)
        self.action_space = spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        obs, info = super().reset(seed=seed)
        if seed is not None:
            self.arm = int(self.np_random.integers(4))
        return obs, info

    def step(self, action: Any) -> Step:
        self._count += 1
        return self._open(), float(action == self.arm), False, self._count == 10, {}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    make: Any = Task
    gymnasium.register("reseed/Task-v0", make, disable_env_checker=True)
    yield
    del gymnasium.registry["reseed/Task-v0"]


def words(folder: Path, reseed: str) -> list[str]:
    return [
        *("env=reseed/Task-v0", "num_envs=1", "total_steps=3_000", "device=cpu", "seed=1"),
        *("agent.n_steps=64", "agent.batch_size=64", "agent.learning_rate=1e-2", "compile=false"),
        *("wandb.mode=disabled", "eval.final_episodes=20", "eval.interval_steps=1_000"),
        *(f"env.reseed={reseed}", f"run_dir={folder / 'run'}"),
    ]


@pytest.mark.parametrize(("reseed", "low", "high"), [("once", 10, 10), ("episode", 0, 5)])
def test_a_task_that_is_drawn_from_the_seed_is_learned_if_that_comes_once(
    reseed: str, low: float, high: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(*words(tmp_path, reseed))
    assert low <= run.summary["evaluate/return"] <= high
    assert exit_codes.exit_code(main.neuraxis, ["evaluate", str(run.dir), "--episodes", "8"]) == 0
    told = capsys.readouterr().out
    assert ("evaluate/return  10 ± 0 over 8 episodes" in told) == (reseed == "once")


def test_columns_that_are_opened_anew_keep_their_tasks() -> None:
    """After a fault of a worker, for instance; only the noise of the actions is another."""
    cfg = load(["env=reseed/Task-v0", "env.reseed=once", "num_envs=8"])

    def arms(generation: int) -> list[int]:
        Task.opened.clear()
        open_group(cfg, Counting(), 4, 0, generation)
        return [task.arm for task in Task.opened]

    assert arms(0) == arms(1)
    assert len(set(arms(0))) > 1
