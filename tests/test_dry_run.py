"""What `train --print-config` and `train --dry-run` say before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuraxis import configs
from neuraxis.configs.loader import load_with_sources
from neuraxis.training.cli import exit_codes, main

WORDS = ["experiment=cartpole_ppo", "network=lstm", "network.blocks.1.size=32", "seed=3"]


def neuraxis(*words: str) -> int:
    return exit_codes.exit_code(main.neuraxis, [*words])


def comments(text: str) -> dict[str, str]:
    """What is said of each key that has a comment."""
    lines = (line.split("  # ") for line in text.splitlines() if "  # " in line)
    return {setting.partition(":")[0]: said for setting, said in lines}


def test_each_setting_is_shown_with_what_has_set_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert neuraxis("train", *WORDS, "--print-config") == 0
    said = comments(capsys.readouterr().out)
    assert said["agent.gamma"] == "experiment=cartpole_ppo"
    assert said["agent.name"] == "agent=ppo (experiment=cartpole_ppo)"
    assert said["seed"] == "given"
    assert said["network.blocks"] == "network=lstm, given (1.size)"
    assert "agent.adam_beta1" not in said, "a default"


def test_what_was_printed_is_an_experiment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, "run_dir=# 1: [x", "env.kwargs.note='null'", "wandb.tags=[a, 'b: c']"]
    assert neuraxis("train", *words, "--print-config") == 0
    file = tmp_path / "mine.yaml"
    file.write_text(capsys.readouterr().out)
    assert configs.load([f"experiment={file}"]) == configs.load(words)


def test_a_stored_file_and_the_variables_of_wandb_are_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    file, stored = tmp_path / "config.yaml", configs.load(["agent=dqn"]).stored()
    del stored["wandb"]
    file.write_text(configs.dump(stored))
    cfg, sources = load_with_sources(["seed=1"], file)
    assert cfg.agent.name == "dqn" and sources["agent.gamma"] == str(file)
    assert sources["wandb.project"] == "W&B's variables" and sources["seed"] == "given"


def test_a_dry_run_builds_everything_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["agent=dqn", "env=Acrobot-v1", "total_steps=5000", "eval.interval_steps=500"]
    assert neuraxis("train", *words, "network.blocks.0.sizes=[10]", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "Acrobot-v1, 8 of them in this process" in out
    parameters = 6 * 10 + 10 + 10 * 3 + 3
    assert f"dqn with mlp: {parameters} parameters" in out
    assert "every 500 steps, and at the end" in out
    assert not list(tmp_path.iterdir())
    assert neuraxis("train", *words, "network.blocks.0.sizes=[0]", "--dry-run") == 2


def test_a_dry_run_refuses_a_folder_that_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert neuraxis("train", f"run_dir={tmp_path}", "--dry-run") == 2
    assert f"run_dir={tmp_path}: exists and is not an empty folder" in capsys.readouterr().err


def test_a_mapping_that_replaces_others_is_the_source_of_all_its_keys() -> None:
    word = "env.kwargs={map_name: 4x4, is_slippery: true}"
    cfg, sources = load_with_sources(["experiment=frozenlake_sarsa", word])
    assert cfg.env.kwargs["is_slippery"] is True
    assert sources["env.kwargs"] == "given"
    assert not [key for key in sources if key.startswith("env.kwargs.")]
