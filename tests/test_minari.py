"""Minari's datasets are read as if they had been recorded here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuraxis.configs import Config
from neuraxis.core.tree import leaves
from neuraxis.envs import make
from neuraxis.training.datasets.dataset import NAMES, Dataset
from neuraxis.training.datasets.minari_datasets import read
from neuraxis.training.datasets.record import record
from neuraxis.training.evaluate import Budget
from neuraxis.training.session import prepare

from .demonstrations import balance, expert
from .helpers import config, training

minari = pytest.importorskip("minari")
buffers = pytest.importorskip("minari.data_collector.episode_buffer")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Minari keeps its datasets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def swing(obs: Any) -> torch.Tensor:
    return torch.tanh(obs[:, 1:2] + 0.3 * obs[:, 2:])


def walk(obs: Any) -> torch.Tensor:
    return obs % 4


CASES = {
    "discrete": (("env=CartPole-v1",), balance),
    "box": (("env=Pendulum-v1", "env.time_limit=20"), swing),
    "counted": (("env=FrozenLake-v1", "env.time_limit=10"), walk),
}
"""Environments whose observations reach the agent as they are."""


def stored(cfg: Config, rule: Any, name: str = "test/case-v0") -> Dataset:
    """Records episodes here, and gives Minari what the environment gave and got."""
    found, _ = record(expert(cfg, rule), cfg.env, 4, 0, 2, False, Budget())
    raw = make(cfg.env.model_copy(update={"rescale_actions": False}), 1, 0)
    bounds: Any = raw.action_space if found.action_space.shape else None
    episodes = []
    for begin, end in zip(found.begins, found.begins[1:], strict=False):
        steps, action = slice(begin, end - 1), found.action[begin : end - 1]
        if bounds is not None:
            action = action * bounds.high
        episodes.append(
            buffers.EpisodeBuffer(
                observations=found.obs[begin:end],
                actions=action,
                rewards=found.reward[steps].tolist(),
                terminations=(found.discount[steps] == 0).tolist(),
                truncations=[False] * (end - begin - 1),
            )
        )
    with pytest.warns(UserWarning):
        minari.create_dataset_from_buffers(
            name,
            episodes,
            observation_space=raw.observation_space,
            action_space=raw.action_space,
        )
    raw.close()
    return found


@pytest.mark.parametrize("case", CASES)
def test_it_is_what_would_have_been_recorded_here(case: str) -> None:
    words, rule = CASES[case]
    cfg = config(*words)
    expected, found = stored(cfg, rule), read("test/case-v0", cfg.env)
    assert found.observation_space == expected.observation_space
    assert found.action_space == expected.action_space
    for name in NAMES:
        pairs = zip(leaves(getattr(expected, name)), leaves(getattr(found, name)), strict=True)
        for one, two in pairs:
            assert one.dtype == two.dtype
            np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-6)
    assert found.digest == read("test/case-v0", cfg.env).digest != ""


def test_the_agent_sees_it_as_the_run_says() -> None:
    words = ("env=CartPole-v1", "env.mask_velocity=true")
    found = stored(config(words[0]), balance)
    masked = read("test/case-v0", config(*words).env)
    assert np.array_equal(masked.obs, found.obs[:, [0, 2]])
    cfg = config("env=FrozenLake-v1", "env.time_limit=10")
    found = stored(cfg, walk, "test/lake-v0")
    flat = read("test/lake-v0", config("env=FrozenLake-v1", "env.flatten=true").env)
    assert np.array_equal(flat.obs.argmax(1), found.obs) and flat.obs.shape == (len(flat.first), 16)


def test_it_is_cloned() -> None:
    stored(config("env=Pendulum-v1", "env.time_limit=20"), swing)
    run = training("agent=bc", "env=Pendulum-v1", "agent.dataset=minari:test/case-v0")
    losses = [run.step()["loss/policy"] for _ in range(20)]
    assert losses[-1] < losses[0]


def refused(*words: str) -> str:
    with pytest.raises(ValueError) as error:
        prepare(config("agent=bc", *words))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_cannot_be_read_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stored(config("env=Pendulum-v1", "env.time_limit=20"), swing)
    given = "agent.dataset=minari:test/case-v0"
    assert "observation_space Box" in refused(given, "env=CartPole-v1")
    assert (
        "env.frame_stack=4: agent.dataset=minari:test/case-v0 has single observations"
        in refused(given, "env=Pendulum-v1", "env.frame_stack=4")
    )
    assert "`minari download test/none-v0` fetches it" in refused(
        "agent.dataset=minari:test/none-v0", "env=Pendulum-v1"
    )
    assert "agent.dataset=minari:none" in refused("agent.dataset=minari:none")
    monkeypatch.setitem(sys.modules, "minari", None)
    assert "pip install 'neuraxis[offline]'" in refused(given, "env=Pendulum-v1")
