"""What is drawn beside the pictures of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from neuraxis.core.tree import map_tree
from neuraxis.envs import EnvConfig
from neuraxis.training.evaluate import play
from neuraxis.training.film import View
from neuraxis.training.panel import WIDTH, Panel, Step, computed

from .helpers import training

SMALL = "network.blocks.0.sizes=[8]", "num_envs=2"
CARTPOLE = EnvConfig(time_limit=4)


def first_step(*words: str) -> tuple[Any, Step, torch.Tensor]:
    """A policy, what it computes for the first observation, and its greedy action there."""
    run = training(*words, *SMALL)
    policy = run.agent.policy.eval()
    obs = map_tree(lambda leaf: leaf[0, :1], run.rollout().obs)
    state, first = policy.initial_state(1), torch.ones(1, dtype=torch.bool)
    with torch.inference_mode():
        action, _, _ = policy.act(obs, state, first, greedy=True)
    return policy, computed(policy, obs, first, state, action), action[0]


@pytest.mark.parametrize("agent", ["ppo", "sac"])
def test_the_most_probable_action_is_the_greedy_one(agent: str) -> None:
    _, step, action = first_step(f"agent={agent}")
    assert step.what == "probabilities of actions" and step.numbers.sum() == pytest.approx(1)
    assert step.chosen == action == step.numbers.argmax()
    assert (step.value is None) == (agent == "sac"), "its critics are not in its policy"


@pytest.mark.parametrize("words", [("agent=dqn",), ("agent=iqn", "agent.noisy=true")])
def test_the_value_of_a_state_is_that_of_its_best_action(words: tuple[str, ...]) -> None:
    _, step, action = first_step(*words)
    assert step.what == "values of actions" and step.chosen == action == step.numbers.argmax()
    assert step.value == step.numbers.max()


def test_what_a_mask_forbids_has_no_number() -> None:
    """At Taxi's borders some moves are impossible."""
    policy, step, action = first_step("agent=dqn", "env=Taxi-v4", "env.action_mask=info")
    forbidden = np.isnan(step.numbers)
    assert 0 < forbidden.sum() < 6 and step.chosen == action == np.nanargmax(step.numbers)
    panel = Panel(policy)
    panel._see(step, True)
    assert panel.extend(np.zeros((400, 600, 3), np.uint8)).shape == (400, 600 + WIDTH, 3)


def test_of_a_box_the_parts_of_the_action_are_shown() -> None:
    _, step, action = first_step("agent=ppo", "env=Pendulum-v1")
    assert (step.what, step.chosen) == ("action", None) and step.value is not None
    assert step.numbers.tolist() == action.tolist()


def test_values_follow_the_memory_of_the_first_environment() -> None:
    """Those of a whole rollout at once, through a reset."""
    run = training("env.time_limit=5", "network.blocks=[{name: lstm, size: 8}]", "num_envs=2")
    policy, seen = run.agent.policy.eval(), []
    panel = Panel(policy)
    panel._see = lambda step, first: seen.append((step, first))
    source: Any = run.source
    source.collectors[0].act_functions = panel.act_functions(False)
    rollout = source.collectors[0].collect().to("cpu")
    rows = len(seen)
    values = policy.values(
        map_tree(lambda leaf: leaf[:rows], rollout.obs), rollout.state, rollout.first[:rows]
    )[:, 0]
    assert [step.value for step, _ in seen] == pytest.approx(values.tolist(), abs=1e-5)
    assert [first for _, first in seen] == rollout.first[:rows, 0].tolist()
    assert sum(first for _, first in seen) > 1


def test_the_picture_stays_and_the_panel_changes() -> None:
    panel = Panel(training("agent=ppo", *SMALL).agent.policy)
    picture = np.random.default_rng(0).integers(0, 256, (101, 150, 3), np.uint8)
    shown = []
    for number, value in enumerate((1.0, 3.0)):
        panel._see(Step("values of actions", np.array([value, 0.0]), 0, value), number == 0)
        shown.append(panel.extend(picture))
    assert np.array_equal(shown[0][:404:4, :600:4], picture), "four times as large, to be seen"
    assert shown[0].shape == (404, 600 + WIDTH, 3)
    assert np.array_equal(shown[0][:, :600], shown[1][:, :600])
    assert not np.array_equal(shown[0][:, 600:], shown[1][:, 600:])


@pytest.mark.parametrize("window", [False, True])
def test_it_is_in_the_film_and_in_the_window(
    window: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pygame: Any = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    sizes: list[tuple[int, int]] = []
    size = pygame.display.get_window_size
    monkeypatch.setattr(pygame.display, "flip", lambda: sizes.append(size()))
    policy = training("agent=ppo", *SMALL).agent.policy
    file = tmp_path / "play.gif"
    given = View(window=True, values=True) if window else View(file, values=True)
    seen = play(policy, CARTPOLE, 1, 0, view=given)
    assert np.array_equal(seen, play(policy, CARTPOLE, 1, 0), equal_nan=True)
    if not window:
        with Image.open(file) as film:
            sizes.append(film.size)
    assert set(sizes) == {(600 + WIDTH, 400)}
