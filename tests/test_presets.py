"""Presets: an agent with other numbers, as YAML in configs/agent."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from neuraxis.agents import agent_names
from neuraxis.configs import load
from neuraxis.configs.groups import read
from neuraxis.configs.loader import load_file
from neuraxis.training.storage.layout import CONFIG

from .helpers import action_words, claimed, quick, training

NAMES = [file.stem for file in (Path(__file__).parent.parent / "configs" / "agent").glob("*.yaml")]
PRESETS = {name: read("agent", name) or {} for name in NAMES}
ENVS = {name: action_words(claimed(data["name"])[0], 3) for name, data in PRESETS.items()}


def test_a_preset_is_no_second_name_of_an_agent() -> None:
    assert PRESETS and not PRESETS.keys() & {*agent_names()}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_read(preset: str) -> None:
    data, agent = PRESETS[preset], load([f"agent={preset}"]).agent.model_dump()
    settings = {key: value for key, value in data.items() if key != "network"}
    assert agent.items() >= settings.items()
    assert agent != load([f"agent={data['name']}"]).agent.model_dump()


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_trains(preset: str) -> None:
    network = ("network=lstm",) if preset == "r2d2" else ()
    run = training(f"agent={preset}", *network, *quick(PRESETS[preset]["name"]), *ENVS[preset])
    before = [optimizer.flat.clone() for optimizer in run.agent.optimizers.values()]
    metrics = [run.step() for _ in range(8)]
    assert all(math.isfinite(value) for value in metrics[-1].values())
    for optimizer, old in zip(run.agent.optimizers.values(), before, strict=True):
        assert (optimizer.flat != old).any() and optimizer.flat.isfinite().all()


def test_an_experiment_may_change_a_presets_numbers(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("# mine\nagent: rainbow\nagent.n_step: 5\nagent.v_max: 100\n")
    agent = load([f"experiment={file}", "agent.v_max=50"]).agent.model_dump()
    assert (agent["name"], agent["distribution"], agent["n_step"]) == ("dqn", "categorical", 5)
    assert (agent["v_max"], agent["noisy"], agent["prioritized_alpha"]) == (50.0, True, 0.5)
    other = load([f"experiment={file}", "agent=dqn"])
    assert other.agent == load(["agent=dqn"]).agent, "Rainbow's numbers are not DQN's"
    same = load([f"experiment={file}", "agent=rainbow"])
    assert same.agent.model_dump()["n_step"] == 5


def test_a_run_has_the_numbers_and_not_the_presets_name(tmp_path: Path) -> None:
    cfg = load(["agent=iqn", "agent.gamma=0.9"])
    (tmp_path / CONFIG).write_text(yaml.safe_dump(cfg.model_dump(mode="json")))
    again = load_file(tmp_path / CONFIG, trust=True)
    assert again == cfg and again.agent.name == "dqn"


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("agent=rainbo", r"^agent=rainbo: no such agent; did you mean rainbow\? \(choices: a2c, "),
        ("agent=qrdqn", r"^agent=qrdqn: no such agent; did you mean qr_dqn\?"),
        ("agent=iqn agent.n_quantile=3", r"^agent.n_quantile=3: unknown key; did you mean"),
    ],
)
def test_what_is_misspelt_is_found(word: str, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        load(word.split())


def test_r2d2_needs_a_network_with_memory() -> None:
    with pytest.raises(ValueError, match=r"agent.burn_in=8: a burn-in needs") as refused:
        training("agent=r2d2", "network=mlp")
    assert "\n" not in str(refused.value) and "network=lstm" in str(refused.value)


def test_rainbow_is_all_of_dqns_switches() -> None:
    agent = load(["agent=rainbow"]).agent.model_dump()
    assert all(agent[key] for key in ("double", "dueling", "noisy", "prioritized"))
    assert (agent["n_step"], agent["distribution"], agent["optimizer_eps"]) == (
        *(3, "categorical", 1.5e-4),
    )
