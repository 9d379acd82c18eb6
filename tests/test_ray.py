"""Ray workers: the same numbers as without Ray, and what happens when one fails.

One Ray for the whole module; each run has workers of its own.
"""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuraxis.agents import agent_names
from neuraxis.configs import RayConfig, load
from neuraxis.configs.loader import load_resumed
from neuraxis.training import ray_start
from neuraxis.training.files import RunError
from neuraxis.training.loop import prepare
from neuraxis.training.ray_source import RaySource
from neuraxis.training.ray_worker import Unpacker, pack
from neuraxis.training.run import Run

from .helpers import training

SMALL = ("num_envs=4", "total_steps=1000", "network.blocks.0.sizes=[16]")
PPO = (*SMALL, "agent=ppo", "agent.n_steps=32", "agent.batch_size=64")
DQN = (*SMALL, "agent=dqn", "agent.learning_starts=64", "agent.batch_size=16")
CASES = {
    "ppo-mlp": (*PPO, "agent.normalize_observations=true"),
    "ppo-lstm": (*PPO, "network=lstm"),
    "ppo-transformer": (*PPO, "network=transformer", "network.blocks.1.memory=8"),
    "dqn-prioritized": (*DQN, "agent.prioritized=true", "agent.n_step=3"),
    "dqn-lstm": (*DQN, "network=lstm", "agent.sequence_length=8", "agent.burn_in=4"),
}


@pytest.fixture(scope="module", autouse=True)
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Ray, and the file of its token."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("ray") / "token"
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
        for name, value in ray_start.ENVIRONMENT.items():
            patch.setenv(name, value)
        ray_start.start(RayConfig(), cpus=8)
        yield path
        ray_start.stop()


def trained(words: tuple[str, ...], updates: int = 5) -> tuple[list[dict[str, float]], Any]:
    """Metrics of the first updates of a run, and the agent's state after them."""
    run = training(*words)
    try:
        return [run.step() for _ in range(updates)], run.agent.state_dict()
    finally:
        run.source.close()


def assert_equal(one: Any, other: Any) -> None:
    """The same tree, bit for bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        for pair in zip(one, other, strict=True):
            assert_equal(*pair)
    else:
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("name", CASES)
def test_workers_are_groups(name: str, workers: int) -> None:
    """Law 4: metrics, weights, moments and replay are those of as many groups without Ray."""
    groups, expected = trained((*CASES[name], f"groups={workers}"))
    found, state = trained((*CASES[name], f"ray.workers={workers}"))
    assert "loss/value" in groups[-1] or "loss/td" in groups[-1]
    assert found == groups
    assert_equal(state, expected)
