"""The command line: help, lists, exit codes, live progress and what is printed at the end."""

import io
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from rich.console import Console

from neuraxis.configs import Config, dump, load
from neuraxis.core.errors import RunError
from neuraxis.envs import EnvError
from neuraxis.training import progress_display
from neuraxis.training.analysis.terminal import clock
from neuraxis.training.cli import exit_codes, main, stored_policy
from neuraxis.training.film import View
from neuraxis.training.progress_display import EvaluationDisplay, ProgressDisplay


class FakeRun:
    """What the command line sees of a run."""

    def __init__(self, cfg: Config, folder: Path) -> None:
        self.cfg, self.dir, self.steps = cfg, folder, 0
        self.latest: dict[str, float] = {}
        self.summary: dict[str, Any] = {}


class FakeLoop(types.ModuleType):
    """Stands in for training.session and others: counts to total_steps, ends as told."""

    def __init__(self, folder: Path) -> None:
        super().__init__("neuraxis.training.session")
        self.folder = folder
        self.ending: Exception | str = "finished"
        self.prepared: list[tuple[Config, Path | None]] = []
        self.observation_space: spaces.Space = spaces.Box(-1, 1, (4,))
        self.execution = "recorded"
        self.current_run = types.SimpleNamespace(steps=100)

    @property
    def agent(self) -> Any:
        setup = types.SimpleNamespace(
            network=self.prepared[-1][0].network, observation_space=self.observation_space
        )
        agent = {
            "setup": setup,
            "execution": self.execution,
            "freezing": None,
            "notes": (),
            "outside": False,
        }
        return types.SimpleNamespace(**agent)

    def prepare(
        self,
        cfg: Config,
        resume_from: Path | None = None,
        checkpoint: str = "last",
        trust: bool = False,
    ) -> "FakeLoop":
        self.prepared.append((cfg, resume_from))
        return self

    def run(self, callbacks: list[Any]) -> FakeRun:
        cfg, _ = self.prepared[-1]
        run = FakeRun(cfg, self.folder)
        for callback in callbacks:
            callback.on_start(run)
        for steps in range(0, cfg.total_steps + 1, cfg.total_steps // 20):
            run.steps, run.latest = steps, {"episode/return": steps / 10}
            for callback in callbacks:
                callback.on_update(run, {})
        if isinstance(self.ending, Exception):
            raise self.ending
        evaluation = {
            "evaluate/return": 499.5,
            "evaluate/return_std": 2.0,
            "evaluate/episodes": 100,
        }
        cost = {"steps": run.steps, "seconds": 31.25, "steps_per_second": 3200.0}
        run.summary = {"status": self.ending, **evaluation, **cost}
        return run

    def load_checkpoint(self, folder: Path, checkpoint: Path, trust: bool) -> str:
        return f"policy {checkpoint.name}"


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeLoop:
    fake = FakeLoop(tmp_path / "my run")
    checkpoint = fake.folder / "checkpoints" / "step_000000100"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").touch()
    (fake.folder / "config.yaml").write_text(dump(load(run_dir="my run").model_dump(mode="json")))
    monkeypatch.setitem(sys.modules, "neuraxis.training.session", fake)
    monkeypatch.setattr(stored_policy, "load_checkpoint", fake.load_checkpoint)
    monkeypatch.chdir(tmp_path)
    return fake


def neuraxis(*words: str) -> int:
    return exit_codes.exit_code(main.neuraxis, list(words))


COMMANDS = [(), *((name,) for name in main.neuraxis.commands)]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_examples_that_name_the_command(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert neuraxis(*command, "--help") == 0
    text = capsys.readouterr().out
    assert f"  neuraxis {' '.join(command)}".rstrip() in text.partition("Examples:")[2]


def test_lists_show_every_choice_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert neuraxis("list") == 0
    everything = capsys.readouterr().out.splitlines()
    for what, choice in {"agents": "ppo", "envs": "memory", "networks": "gru"}.items():
        assert neuraxis("list", what) == 0
        text, _, claims = capsys.readouterr().out.partition("what the agents learn\n")
        assert sum(line.split()[0] == choice for line in text.splitlines()) == 1
        assert set(text.splitlines()) <= set(everything)
        if what == "agents":
            lines = filter(str.strip, claims.splitlines())
            heading, _, *rows = (re.split("  +", line.strip()) for line in lines)
            found = {row[0]: dict(zip(heading, row, strict=True)) for row in rows}
            kinds = "Discrete, MultiDiscrete, MultiBinary"
            assert found["dqn"]["lstm"] == "yes" and found["dqn"]["actions"] == kinds
            assert found["rainbow"] == found["dqn"] | {"agent": "rainbow"}, "a preset of dqn"
            assert found["sarsa"]["mlp"] == "-" and found["ppo"]["ray.mode=async"] == "no"


def test_help_and_lists_of_names_do_not_wait_for_torch() -> None:
    code = (
        "import sys; from neuraxis.training.cli import exit_codes, main;"
        "assert exit_codes.exit_code(main.neuraxis, ['list', 'networks']) == 0;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd="/")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["trian"], "error: trian: no such command; did you mean train? (choices: train, "),
        (["list", "agnts"], "error: agnts: no such list; did you mean agents? (choices: agents, "),
        (["train", "--speed"], "error: --speed: no such option; did you mean seed=VALUE?"),
        (["train", "num_envs=-1"], "error: num_envs=-1: expected an integer greater than 0"),
        (["train", "network=lstmm"], "error: network=lstmm: no such network; did you mean lstm?"),
        (["train", "--from", "nowhere.yaml"], "error: nowhere.yaml: cannot read"),
        (["resume", "nowhere"], "error: nowhere: no such run"),
        (["resume", "my run", "seed=3"], "error: seed=3: cannot change in a resumed run"),
        (["evaluate", "my run", "--checkpoint", "step_1"], "error: checkpoint step_1: expected"),
        (["evaluate", "my run", "--episodes", "0"], "error: Invalid value for '--episodes'"),
        (["evaluate", "my run", "--video", "a.avi"], "error: --video a.avi: expected a file"),
    ],
)
def test_wrong_words_exit_2_with_one_line(
    words: list[str], line: str, loop: FakeLoop, capsys: pytest.CaptureFixture[str]
) -> None:
    assert neuraxis(*words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(line) and err.count("\n") == 1
    assert not loop.prepared


@pytest.mark.parametrize("error", [EnvError("my env\nbroke"), RunError("disk full"), OSError("no")])
def test_what_fails_while_running_exits_1_with_one_line(
    error: Exception, loop: FakeLoop, capsys: pytest.CaptureFixture[str]
) -> None:
    loop.ending = error
    assert neuraxis("train", "-q") == 1
    assert capsys.readouterr() == ("", f"error: {' '.join(str(error).split())}\n")


def test_a_bug_is_not_hidden(loop: FakeLoop) -> None:
    loop.ending = ValueError("shapes differ")
    with pytest.raises(ValueError, match="shapes differ"):
        neuraxis("train", "-q")


def test_the_traceback_can_be_asked_for(
    loop: FakeLoop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NEURAXIS_TRACEBACK", "1")
    assert neuraxis("train", "seed=-1") == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_run_shows_progress_results_and_next_steps(
    loop: FakeLoop, capsys: pytest.CaptureFixture[str]
) -> None:
    assert neuraxis("train", "experiment=cartpole_ppo", "total_steps=1000") == 0
    out, err = capsys.readouterr()
    assert loop.prepared == [(load(["experiment=cartpole_ppo", "total_steps=1000"]), None)]
    assert "499.5 ± 2 over 100 episodes" in out and "3,200" in out
    assert f"run: {loop.folder}" in out
    assert f"neuraxis evaluate '{loop.folder}' --episodes 1 --video" in out, "quoted for the shell"
    assert f"neuraxis resume '{loop.folder}' total_steps=2000" in out
    lines = err.splitlines()
    assert len(lines) == 10, "without a terminal: a line each tenth"
    assert lines[-1].startswith("1,000/1,000 steps") and "return 100" in lines[-1]


def test_images_in_a_network_without_eyes_are_told(
    loop: FakeLoop, capsys: pytest.CaptureFixture[str]
) -> None:
    loop.observation_space = spaces.Box(0, 255, (84, 84, 4), np.uint8)
    for network, told in (("mlp", True), ("cnn", False)):
        assert neuraxis("train", f"network={network}") == 0
        assert ("network=cnn sees pictures" in capsys.readouterr().err) == told


def test_the_wait_for_the_compiler_is_told(
    loop: FakeLoop, capsys: pytest.CaptureFixture[str]
) -> None:
    for loop.execution, told in (("recorded", False), ("compiled", True)):
        assert neuraxis("train") == 0
        assert ("compiled first" in capsys.readouterr().err) == told


def test_quiet_is_silent(loop: FakeLoop, capsys: pytest.CaptureFixture[str]) -> None:
    loop.execution = "compiled"
    assert neuraxis("train", "-q") == 0
    assert capsys.readouterr() == ("", "")


def test_after_ctrl_c_the_way_on_is_told(
    loop: FakeLoop, capsys: pytest.CaptureFixture[str]
) -> None:
    loop.ending = "interrupted"
    assert neuraxis("train", "-q") == 130
    assert f"neuraxis resume '{loop.folder}'" in capsys.readouterr().err


def test_resume_and_from_read_the_config_of_the_run(loop: FakeLoop) -> None:
    file = str(loop.folder / "config.yaml")
    assert neuraxis("resume", "my run", "total_steps=7000", "-q") == 0
    assert neuraxis("train", "--from", file, "seed=4", "-q") == 0
    assert neuraxis("train", "--from", "my run", "run_dir=other", "-q") == 0
    stored = load(base=Path(file))
    assert loop.prepared == [
        (stored.model_copy(update={"total_steps": 7000}), Path("my run")),
        (stored.model_copy(update={"seed": 4, "run_dir": None}), None),
        (stored.model_copy(update={"run_dir": "other"}), None),
    ]


def test_evaluate_plays_the_chosen_checkpoint(
    loop: FakeLoop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from neuraxis.training import evaluate, evaluator

    asked: list[Any] = []

    def play(*arguments: Any, view: Any, budget: Any, watch: Any) -> dict[str, float]:
        asked.append((*arguments, view, budget))
        assert not watch(1, 3)
        return {"evaluate/return": 1.0, "evaluate/return_std": 0.5, "evaluate/episodes": 3}

    monkeypatch.setattr(evaluator, "evaluate", play)
    torch.set_num_threads(2)
    words = [
        "--episodes",
        "3",
        "--checkpoint",
        "last",
        "--stochastic",
        "--video",
        "a.mp4",
        "--values",
    ]
    assert neuraxis("evaluate", "my run", *words) == 0
    cfg = load()
    seed = evaluate.evaluation_seed(0, 3)
    settings = (cfg.env, 3, seed, cfg.num_envs, True, View(Path("a.mp4"), values=True))
    assert asked == [("policy step_000000100", *settings, evaluate.Budget())]
    assert "1 ± 0.5 over 3 episodes" in capsys.readouterr().out
    assert torch.get_num_threads() == cfg.threads == 1, "as in training"


def test_a_terminal_gets_a_bar_with_steps_rate_return_and_time_left() -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=120)
    run: Any = FakeRun(load(), Path())
    display = ProgressDisplay(1000, terminal)
    display.on_start(run)
    for steps in (500, 600):
        run.steps, run.latest = steps, {"episode/return": 12.5}
        display.on_update(run, {})
    display.bar.refresh()
    display.on_play(run, 3, 10)
    display.bar.refresh()
    display.on_end(run, "finished")
    text = screen.getvalue()
    for part in ("60%", "600/1,000 steps", "steps/s", "return 12.5", "ETA 0:00"):
        assert part in text
    assert "600/1,000 steps  evaluation: 3/10 episodes" in text


def test_without_a_terminal_a_long_evaluation_is_told_in_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = iter(range(0, 1000, 4))
    monkeypatch.setattr(progress_display.time, "monotonic", lambda: next(seconds))
    files = io.StringIO(), io.StringIO()
    run: Any = FakeRun(load(), Path())
    run.steps = 600
    display = ProgressDisplay(1000, Console(file=files[0]))
    with EvaluationDisplay(Console(file=files[1])) as watch:
        for played in range(7):
            display.on_play(run, played, 10)
            watch(played, 10)
    assert "600/1,000 steps  evaluation: 2/10 episodes" in files[0].getvalue()
    assert files[0].getvalue().count("\n") > 1
    assert "/10 episodes" in files[1].getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.6, "1:02"), (7384, "2:03:04")])
def test_time_is_shown_as_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_train_resume_and_evaluate_really_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "my_agent.py").write_text(
        "from neuraxis.agents.ppo import PPO\n"
        "class Mine(PPO):\n"
        "    class Config(PPO.Config):\n"
        "        name: str = 'my_package.my_agent'\n"
    )
    small = ["num_envs=2", "agent.n_steps=16", "eval.final_episodes=2", "wandb.mode=disabled"]
    words = ["agent=my_package.my_agent", *small, "run_dir=run"]
    assert neuraxis("train", *words, "total_steps=64", "-q") == 0
    assert neuraxis("resume", "run", "total_steps=128", "-q") == 0
    assert neuraxis("evaluate", "run", "--episodes", "1", "--checkpoint", "last") == 0
    assert "over 1 episode\n" in capsys.readouterr().out
    assert neuraxis("train", *words) == 2
    assert "neuraxis resume run" in capsys.readouterr().err
