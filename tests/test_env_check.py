"""What `neuraxis check` says of an environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from neuraxis.training.checks import env_check
from neuraxis.training.checks.env_check import check_env
from neuraxis.training.cli import exit_codes, main


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env_check, "STEPS", 100)


def said(kind: str, **given: Any) -> list[str]:
    return [finding.text for finding in check_env(**given) if finding.kind == kind]


class Sound(gymnasium.Env[Any, Any]):
    """Without a fault; others below have one each."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)
    action_space: spaces.Space[Any] = spaces.Discrete(2)
    length, value = 7, 0.5

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.observe(), self.reward(action), False, self.steps == self.length, {}

    def observe(self) -> Any:
        return np.full(3, self.value * self.np_random.random(), np.float32)

    def reward(self, action: Any) -> float:
        return float(action)


class Endless(Sound):
    length = -1


class Unseeded(Sound):
    count = 0

    def observe(self) -> Any:
        Unseeded.count += 1
        return np.full(3, Unseeded.count % 97 / 97, np.float32)


class Large(Sound):
    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    value = 5e3

    def reward(self, action: Any) -> float:
        return 400.0 * float(action)


class Silent(Sound):
    def reward(self, action: Any) -> float:
        return 0.0


class Misshapen(Sound):
    def observe(self) -> Any:
        return np.zeros(4, np.float32)


class Scaled(Sound):
    action_space = spaces.Box(-3, 3, (2,), np.float32)

    def reward(self, action: Any) -> float:
        return float(action[0])


class NotANumber(Sound):
    def reward(self, action: Any) -> float:
        return float("nan") if self.steps == 5 else 1.0


class Blind(Sound):
    def observe(self) -> Any:
        return np.full(3, np.nan if self.steps == 5 else 0, np.float32)


class Broken(Sound):
    def reward(self, action: Any) -> float:
        raise ZeroDivisionError("no wheels")


def test_a_sound_environment_has_no_notes_but_that_it_has_no_pictures() -> None:
    assert said("fault", env=Sound) == []
    (note,) = said("note", env=Sound)
    assert note.startswith("no videos: ") and "no render mode" in note
    oks = said("ok", env=Sound)
    assert "14 episodes of 7 to 7 steps ended, 14 of them truncated" in " ".join(oks)
    assert {"rewards from 0 to 1", "the same seed gives the same episode"} <= set(oks)
    assert "Gymnasium's own check passes" in oks


@pytest.mark.parametrize(
    ("env", "note"),
    [
        (Endless, "no episode ended in 100 random steps"),
        (Unseeded, "Unseeded does not repeat itself: "),
        (Large, "rewards are large: env.reward_scale"),
        (Large, "observations have numbers up to "),
        (Silent, "every reward was 0: "),
    ],
)
def test_what_may_matter_is_noted(env: type[Sound], note: str) -> None:
    notes = said("note", env=env)
    assert any(note in text for text in notes), notes
    assert all(note not in text for text in said("note", env=Sound))


@pytest.mark.parametrize(
    ("env", "fault"),
    [
        (Misshapen, "shape"),
        (NotANumber, "gave nan as reward in step 5, run seed 0; rewards must be finite"),
        (
            Blind,
            "gave nan as observation at [0] in step 5, run seed 0; observations must be finite",
        ),
        (Broken, "ZeroDivisionError: no wheels"),
    ],
)
def test_what_must_be_mended_is_a_fault(env: type[Sound], fault: str) -> None:
    (found,) = said("fault", env=env)
    assert fault in found and "\n" not in found


def test_advice_that_was_taken_is_not_given_again() -> None:
    taken = {"env.reward_scale": 0.001, "agent.normalize_observations": True}
    notes = said("note", env=Large, **taken)
    assert not [note for note in notes if "are large" in note or "have numbers" in note]


def test_a_fault_that_gymnasium_alone_sees() -> None:
    class Deaf(Sound):
        def reset(self, **settings: Any) -> tuple[Any, dict[str, Any]]:
            return super().reset()

    faults = said("fault", env=Deaf)
    assert any(text.startswith("Gymnasium's check: ") for text in faults), faults


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"env": Sound}, "observation: 3 numbers (float32) between -1 and 1"),
        ({"env": Sound}, "action: one of 2"),
        ({"env": Scaled}, "action: 2 numbers between -1 and 1, for the environment between -3 and"),
        ({"env": "CliffWalking-v1"}, "observation: one of 48 values, one-hot"),
        (
            {"env": "minigrid_empty"},
            "observation['image']: (7, 7, 3) is read as 7x7 pixels with 3 channels; if that is "
            "wrong, use env.image_layout=chw; a network with convolutions sees it, divided by 10",
        ),
        ({"env": Sound, "env.frame_stack": 4}, "observation: 12 numbers (float32)"),
        (
            {"env": "neuraxis/Masked-v0", "env.action_mask": "info"},
            "observation['action_mask']: a mask of ",
        ),
    ],
)
def test_what_the_agent_sees_is_described(words: dict[str, Any], sentence: str) -> None:
    described = said("sees", **words)
    assert any(text.startswith(sentence) for text in described), described


def test_memory_and_agents_are_told() -> None:
    described = said("sees", env=Scaled)
    assert any("1,000,000 steps in a replay take 11 MiB" in text for text in described)
    (agents,) = [text for text in described if text.startswith("agents")]
    assert "sac" in agents and "dqn" not in agents


def test_masks_that_nobody_uses_are_noted() -> None:
    (note,) = [n for n in said("note", env="neuraxis/Masked-v0") if "env.action_mask=info" in n]
    assert "which actions are possible" in note


def test_the_command_ends_with_1_for_faults(capsys: pytest.CaptureFixture[str]) -> None:
    def code(*words: str) -> int:
        return exit_codes.exit_code(main.neuraxis, ["check", *words])

    assert code("env=CartPole-v1") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("0 faults, ")
    assert code(f"env={__name__}:Broken") == 1
    out = capsys.readouterr().out
    assert "ZeroDivisionError: no wheels" in out and out.splitlines()[-1] == "1 fault, 0 notes"
    assert code("env=CratPole-v1") == 2
    assert "did you mean CartPole-v1" in capsys.readouterr().err
