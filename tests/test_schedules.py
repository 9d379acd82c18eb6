"""Schedules: where a value is at the start, in the middle and at the end of a run."""

from __future__ import annotations

import copy
from typing import Any, get_args

import pytest

from neuraxis.agents import agent_class, agent_names
from neuraxis.agents.learning.schedules import Shape, scheduled

from .helpers import Training, action_words, claimed, some_pairs, training

MIDDLE = {"constant": 1.0, "linear": 0.5, "cosine": 0.5}
QUARTER = {"constant": 1.0, "linear": 0.75, "cosine": (1 + 2**-0.5) / 2}


@pytest.mark.parametrize("shape", get_args(Shape))
@pytest.mark.parametrize(("start", "end"), [(3e-4, 0.0), (1.0, 0.05), (0.4, 1.0)])
def test_a_value_goes_from_its_start_to_its_end(shape: Any, start: float, end: float) -> None:
    last = start if shape == "constant" else end
    assert scheduled(start, shape, 0.0, end) == scheduled(start, shape, -1.0, end) == start
    for share, part in ((0.25, QUARTER), (0.5, MIDDLE)):
        expected = end + part[shape] * (start - end)
        assert scheduled(start, shape, share, end) == pytest.approx(expected)
    assert scheduled(start, shape, 1.0, end) == pytest.approx(last)
    assert scheduled(start, shape, 2.0, end) == scheduled(start, shape, 1.0, end)


def test_the_end_of_a_rate_is_exactly_0() -> None:
    assert scheduled(3e-4, "linear", 1.0) == scheduled(3e-4, "cosine", 1.0) == 0.0


RATES = (
    *("learning_rate", "ent_coef", "clip_range", "clip_range_vf"),
    *("prioritized_beta", "exploration", "action_noise_std"),
)
"""Settings, or beginnings of the names of settings, that a schedule may change."""


@pytest.mark.parametrize("agent", agent_names())
def test_every_rate_has_a_schedule_of_every_shape(agent: str) -> None:
    fields = agent_class(agent).Config.model_fields
    for name in RATES:
        if not any(field.startswith(name) for field in fields):
            continue
        assert (
            fields[f"{name}_schedule"].annotation is Shape
            or fields[f"{name}_schedule"].annotation == Shape
        ), f"agent.{name}"


def build(agent: str, shape: str) -> Training:
    fields = agent_class(agent).Config.model_fields
    schedules = [name for name in fields if name.endswith("_schedule")]
    numbers = {
        "clip_range_vf": "agent.clip_range_vf=0.4",
        "ent_coef_schedule": "agent.ent_coef=0.5",
        "prioritized": "agent.prioritized=true",
        "exploration_fraction": "agent.exploration_fraction=1",
        "learning_starts": "agent.learning_starts=8",
        "train_freq": "agent.train_freq=4",
        "n_steps": "agent.n_steps=4",
    }
    if not agent_class(agent).learns_policy:
        del numbers["ent_coef_schedule"]  # both are refused
        schedules.remove("ent_coef_schedule")
    words = [f"agent.{name}={shape}" for name in schedules]
    words += [word for name, word in numbers.items() if name in fields]
    kind = claimed(agent)[0]
    return training(f"agent={agent}", *words, *action_words(kind), "num_envs=4", "total_steps=64")


def values(run: Training) -> dict[str, float]:
    """The present values of what the agent's schedules change."""
    agent, found = run.agent, {}
    if hasattr(agent, "coefficients"):
        found |= {name: float(value) for name, value in agent.coefficients().items()}
    if hasattr(agent.policy, "epsilon"):
        found["epsilon"] = float(agent.policy.epsilon)
    if hasattr(agent, "temperature"):
        found["temperature"] = float(agent.temperature())
    if hasattr(agent.policy, "noise_std"):
        found["noise_std"] = float(agent.policy.noise_std)
    return found


@pytest.mark.parametrize(
    ("agent", "shape"), some_pairs(agent_names(), ["linear", "cosine"], whole=("ppo",))
)
def test_half_way_rates_are_half_and_a_resumed_run_has_the_same(agent: str, shape: str) -> None:
    run = build(agent, shape)
    starts = values(run)
    rates = []
    while run.agent.steps < 32:
        rates.append(run.step().get("train/learning_rate"))
    half = values(run)
    for name, start in starts.items():
        end = run.agent.config.exploration_final_eps if name == "epsilon" else 0.0
        assert half[name] == pytest.approx((start + end) / 2), name
    resumed = build(agent, shape)
    resumed.agent.load_state_dict(copy.deepcopy(run.agent.state_dict()))
    assert values(resumed) == half
    rollout = run.rollout()
    learned = [each.agent.learn(rollout).get("train/learning_rate") for each in (run, resumed)]
    assert learned[0] == learned[1]
    if rates[0] is not None:
        assert float(learned[0]) == pytest.approx(rates[0] / 2)
