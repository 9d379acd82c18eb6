"""Completion by the Tab key, as the shells ask for it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from neuraxis.training.cli import exit_codes, main


def completed(*args: str) -> list[str]:
    """What is offered for the last argument, after the others."""
    asked = ShellComplete(main.neuraxis, {}, "neuraxis", "_NEURAXIS_COMPLETE")
    return [item.value for item in asked.get_completions([*args[:-1]], args[-1])]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (("tra",), ["train"]),
        (("train", "ag"), ["agent="]),
        (("train", "agent=pp"), ["agent=ppo"]),
        (("train", "agent", "=", "pp"), ["ppo"]),
        (("baseline", "agent=sb3/p"), ["agent=sb3/ppo"]),
        (("train", "env=CartP"), ["env=CartPole-v1"]),
        (("check", "env=minigrid_d"), ["env=minigrid_doorkey"]),
        (("train", "agent=dqn", "agent.target_u"), ["agent.target_update_interval="]),
        (("train", "agent", "=", "dqn", "agent.target_u"), ["agent.target_update_interval="]),
        (("train", "agent.target_u"), []),
        (("train", "agent=c51", "agent.distr"), ["agent.distribution="]),
        (("train", "network=lstm", "network.blocks.1.siz"), ["network.blocks.1.size="]),
        (("sweep", "see"), ["seed="]),
        (("train", "seed=1"), []),
        (("completion", "z"), ["zsh"]),
    ],
)
def test_words_are_completed(typed: tuple[str, ...], offered: list[str]) -> None:
    assert completed(*typed) == offered


def test_a_word_that_bash_has_cut_before_its_value_offers_all_values() -> None:
    offered = completed("train", "network", "")
    assert {"mlp", "lstm", "gru", "transformer"} <= set(offered)
    assert "network=" in completed("train", "")


def test_bash_takes_the_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_codes.exit_code(main.neuraxis, ["completion", "bash"]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out + "complete -p neuraxis\n")
    done = subprocess.run(["bash", "--norc", str(script)], capture_output=True, text=True)
    assert done.stderr == "" and "neuraxis" in done.stdout
    assert exit_codes.exit_code(main.neuraxis, ["completion", "tcsh"]) == 2
