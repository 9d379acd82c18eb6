"""From Python: objects instead of names, progress, and what a run that has ended offers."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv
from rich.console import Console

import neuraxis.training
from neuraxis import train
from neuraxis.agents.reinforce import REINFORCE
from neuraxis.core.registry import PROGRAM
from neuraxis.envs import ids
from neuraxis.networks import Backbone, BlockConfig
from neuraxis.networks.mlp import MLP
from neuraxis.training import RunError, TrainedRun, api, python_objects, saved_policy
from neuraxis.training.analysis.compare import compare
from neuraxis.training.cli.main import neuraxis as command_line
from neuraxis.training.evaluator import EPISODE_STEPS, episode_limit

FEW: dict[str, Any] = {
    "total_steps": 64,
    "num_envs": 2,
    **{"agent.n_steps": 16, "agent.batch_size": 32, "agent.n_epochs": 1},
    **{"eval.final_episodes": 3, "eval.interval_steps": 32, "wandb.mode": "disabled"},
    "log_interval_steps": 32,
}


class Countdown(gymnasium.Env[Any, Any]):
    """Each episode has `length` steps and as much return; it keeps how often it was reset."""

    observation_space = spaces.Box(0, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, length: int = 4, render_mode: str | None = None) -> None:
        self.length, self.render_mode, self.resets = length, render_mode, 0

    def reset(self, **settings: Any) -> tuple[np.ndarray, dict[str, Any]]:
        self.left = self.length
        self.resets += 1
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        return np.ones(2, np.float32), 1.0, not self.left, False, {}

    def render(self) -> np.ndarray:
        return np.full((32, 32, 3), 20 * self.left, np.uint8)


class Own(REINFORCE):
    class Config(REINFORCE.Config, frozen=True):
        name: str = "of no meaning"


class Free(Backbone):
    class Config(BlockConfig, frozen=True):
        pass


Countdown.metadata = {"render_modes": ["rgb_array"]}


def made(length: int = 5) -> Countdown:
    return Countdown(length)


@pytest.mark.parametrize(
    ("env", "name", "returned"),
    [
        (Countdown, f"{Countdown.__module__}:Countdown", 4),
        (made, f"{Countdown.__module__}:made", 5),
        (lambda: Countdown(6), f"{PROGRAM}:lambda", 6),
        (Countdown(7), f"{PROGRAM}:Countdown", 7),
        (gymnasium.wrappers.TimeLimit(Countdown(9), 8), f"{PROGRAM}:Countdown", 8),
    ],
)
def test_an_environment_may_be_a_class_a_function_or_an_object(
    env: Any, name: str, returned: int, tmp_path: Path
) -> None:
    run = train(env=env, run_dir=tmp_path / "run", **FEW)
    assert run.cfg.env.id == name
    assert run.summary["evaluate/return"] == returned
    assert run.evaluate(2)["evaluate/return"] == returned
    if isinstance(env, Countdown):
        assert env.resets == 0, "each column has a copy"


def test_an_object_is_copied_as_it_was_given(tmp_path: Path) -> None:
    env = Countdown(3)
    run = train(env=env, run_dir=tmp_path / "run", **FEW)
    env.length = 30
    assert run.evaluate(2)["evaluate/return"] == 3


def test_a_function_that_makes_one_environment_for_all_columns_is_refused(tmp_path: Path) -> None:
    one = Countdown()
    with pytest.raises(ValueError, match="several columns got the same environment"):
        train(env=lambda: one, run_dir=tmp_path / "run", **FEW)


def test_a_stored_run_is_evaluated_in_another_environment(tmp_path: Path) -> None:
    train(env=lambda: Countdown(3), run_dir=tmp_path / "run", **FEW)
    run = TrainedRun.open(tmp_path / "run")
    assert run.evaluate(2, env=Countdown(9))["evaluate/return"] == 9
    assert run.evaluate(2, env=made)["evaluate/return"] == 5


def test_an_episode_without_an_end_is_cut_for_an_environment_of_a_program() -> None:
    cfg = python_objects.load_config((), {"env": lambda: Countdown(-1)})
    assert ids.time_limit(cfg.env) is None and episode_limit(cfg) == EPISODE_STEPS


def test_compare_says_that_it_knows_their_names_only(tmp_path: Path) -> None:
    for seed in range(2):
        train(env=lambda: Countdown(3), seed=seed, run_dir=tmp_path / str(seed), **FEW)
    (note,) = [n for n in compare([tmp_path]).notes if PROGRAM in n]
    assert "nothing but their names is compared" in note


def test_the_command_line_finds_what_a_module_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "run")
    train(env=Countdown, run_dir=folder, **FEW)
    main("evaluate", folder, "--episodes", "2")
    assert "4 ± 0 over 2 episodes" in capsys.readouterr().out


def test_what_only_a_program_has_is_given_again_by_its_module(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(env=lambda: Countdown(3), run_dir=tmp_path / "run", **FEW)
    main("evaluate", str(tmp_path / "run"), f"env.id={made.__module__}:made", "--episodes", "2")
    assert "5 ± 0 over 2 episodes" in capsys.readouterr().out
    line = f"env.id='{PROGRAM}:lambda': the program that trained has made it; put it into a module"
    with pytest.raises(ValueError, match=f"^{re.escape(line)}"):
        TrainedRun.open(tmp_path / "run").evaluate(1)
    assert saved_policy.load(tmp_path / "run").predict(np.zeros(2, np.float32))[0] in (0, 1)


class Uncopied(Countdown):
    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("holds a lock")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"env": 3}, "env=3: expected an id, a class of gymnasium.Env, a function that makes"),
        ({"env": dict}, "env=<class 'dict'>: expected an id, a class of gymnasium.Env, a function"),
        (
            {"env": gymnasium.make_vec("CartPole-v1")},
            "env: CartPoleVectorEnv has several environments; give one, and num_envs=8",
        ),
        (
            {"env": Uncopied()},
            "env: Uncopied cannot be copied, and each column needs one; give its class, or a "
            "function that makes it: TypeError: holds a lock",
        ),
        ({"env": lambda: 3}, f"env.id='{PROGRAM}:lambda': TypeError: The environment must inherit"),
        ({"agent": dict}, "agent=dict: expected a subclass of Agent with its Config inside"),
        ({"network": REINFORCE}, "network=REINFORCE: expected a subclass of Backbone with its"),
        ({"agent": type("Own", (REINFORCE,), {})}, "agent=Own: expected a class at the top of a"),
        ({"agent": "neuraxis.agents.ppo:PP"}, "agent=neuraxis.agents.ppo:PP: neuraxis.agents.ppo"),
    ],
)
def test_objects_that_cannot_be_used_are_told_in_one_line(
    given: dict[str, Any], line: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(line)}") as told:
        train(run_dir=tmp_path / "run", **given)
    assert "\n" not in str(told.value) and not (tmp_path / "run").exists()


def test_agent_and_network_may_be_classes(tmp_path: Path) -> None:
    few = {key: value for key, value in FEW.items() if not key.startswith("agent.")}
    given = {"agent": Own, "network": MLP, "env": Countdown, "run_dir": tmp_path / "run"}
    run = train("network.blocks.0.sizes=[7]", "agent.n_steps=16", **given, **few)
    assert run.cfg.agent.name == f"{Own.__module__}:Own"
    assert run.cfg.block_names() == ["mlp"], "a choice keeps its name"
    assert saved_policy.load(run.dir).predict(np.zeros(2, np.float32))[0] in (0, 1)


def test_a_class_of_the_program_alone_is_refused_where_others_need_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Free, "__module__", PROGRAM)
    monkeypatch.setattr(sys.modules[PROGRAM], "Free", Free, raising=False)
    cfg = python_objects.load_config((), {"network": Free})
    assert cfg.block_names() == [f"{PROGRAM}:Free"]
    with pytest.raises(ValueError, match=f"^{PROGRAM}:Free: other processes .* cannot import it"):
        python_objects.load_config(["ray.workers=2"], {"network": Free})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    words = {"seed": 3, **FEW}
    return train(env=CartPoleEnv, run_dir=tmp_path_factory.mktemp("python") / "run", **words)


def test_a_run_gives_its_metrics_as_columns(run: TrainedRun) -> None:
    columns = run.metrics()
    rows = [json.loads(line) for line in (run.dir / "metrics.jsonl").read_text().splitlines()]
    assert {len(column) for column in columns.values()} == {len(rows)}
    assert columns["steps"].tolist() == [row["steps"] for row in rows]
    evaluated = columns["evaluate/return"]
    assert np.isnan(evaluated).any() and np.isfinite(evaluated).any()
    for row, value in zip(rows, evaluated, strict=True):
        assert row.get("evaluate/return", np.nan) == pytest.approx(value, nan_ok=True)


def test_a_run_evaluates_as_the_command_does(
    run: TrainedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    played = run.evaluate(5, seed=1, checkpoint="last")
    main("evaluate", str(run.dir), "--episodes", "5", "--seed", "1", "--checkpoint", "last")
    assert f"{played['evaluate/return']:.4g} ± " in capsys.readouterr().out
    assert torch.get_num_threads() == 1
    with pytest.raises(ValueError, match="step_7"):
        run.evaluate(1, checkpoint="step_7")


def test_a_run_is_drawn_and_filmed(run: TrainedRun, tmp_path: Path) -> None:
    axes = run.plot()
    assert [line.get_label() for line in axes.lines] == ["episode/return", "evaluate/return"]
    same = run.plot("loss/value", axes=axes)
    assert same is axes and axes.lines[-1].get_label() == "loss/value"
    with pytest.raises(
        ValueError, match=r"^loss/valeu: .* no such curve; did you mean loss/value\?"
    ):
        run.plot("loss/valeu")
    file = train(env=Countdown, run_dir=tmp_path / "run", **FEW).video(tmp_path / "film.mp4")
    assert file == tmp_path / "film.mp4" and file.stat().st_size


def test_a_stored_run_opens_as_it_ended(run: TrainedRun) -> None:
    stored = TrainedRun.open(run.dir)
    assert stored.steps == run.steps and stored.summary == run.summary
    assert repr(stored) == repr(run)
    assert repr(run).startswith(f"Run({str(run.dir)!r}: finished, {run.steps} steps, evaluate/")


@pytest.mark.parametrize(
    ("terminal", "quiet", "shown"),
    [(True, False, True), (True, True, False), (False, False, False)],
)
def test_progress_is_shown_in_a_terminal_unless_quiet(
    terminal: bool, quiet: bool, shown: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=100)
    monkeypatch.setattr(api, "Console", lambda stderr: console)
    train(env=Countdown, run_dir=tmp_path / "run", quiet=quiet, **FEW)
    assert ("64/64 steps" in screen.getvalue()) is shown
    assert bool(screen.getvalue()) is shown


def test_the_package_says_what_there_is() -> None:
    names = dir(neuraxis.training)
    assert {"Callback", "EnvError", "RunError", "TrainedRun", "load", "train"} <= set(names)
    assert all(getattr(neuraxis.training, name) is not None for name in names)
    assert issubclass(RunError, RuntimeError)


def main(*words: str) -> None:
    assert command_line.main([*words], standalone_mode=False) == 0
