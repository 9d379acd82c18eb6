import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuraxis.configs import CheckpointConfig, Config, EvalConfig, WandbConfig
from neuraxis.core.errors import RunError
from neuraxis.core.rollout import Rollout
from neuraxis.training.storage import checkpoint, checkpoint_folder, layout
from neuraxis.training.storage.run import Run
from neuraxis.training.storage.run_folder import RunFolder

STEPS = 7  # of a rollout: no interval is a multiple of it


def rollout(steps: int = STEPS, episodes: Any = ()) -> Rollout:
    """A rollout of one column; of its contents a run reads nothing else."""
    none = np.zeros((steps, 1), np.float32)
    return Rollout(
        obs=np.zeros((steps + 1, 1, 1), np.float32),
        first=np.zeros((steps + 1, 1), bool),
        action=none,
        reward=none,
        discount=none,
        extras={},
        state=(),
        columns=np.zeros(1, int),
        version=0,
        episodes=np.array(episodes, np.float64).reshape(-1, 4),
    )


@dataclass
class Counter:
    """An agent or a source whose whole state is a number and its generator."""

    count: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def next(self) -> float:
        self.count += 1
        return float(self.rng.normal())

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> int:
        self.count = state["count"]
        self.rng.bit_generator.state = state["rng"]
        return 0


def config(folder: Path, **changes: Any) -> Config:
    settings: dict[str, Any] = {
        "run_dir": str(folder),
        "total_steps": 420,
        "log_interval_steps": 25,
        "eval": EvalConfig(interval_steps=60),
        "checkpoint": CheckpointConfig(interval_steps=45, keep=2),
        "wandb": WandbConfig(mode="disabled"),
    }
    return Config(**(settings | changes))


def step(run: Run, agent: Counter, source: Counter) -> None:
    """One turn of a loop such as training's, evaluation and saving included."""
    value = agent.next()
    ended = [(0, source.next(), 3, 1)] * (source.count % 3)
    noise = torch.rand(())  # the global generator counts, too
    run.add(rollout(episodes=ended), {"loss/value": torch.tensor(value), "policy/noise": noise})
    if run.due("eval"):
        run.log({"evaluate/return": agent.next(), "evaluate/episodes": 10})
    if run.due("save"):
        run.save(agent, source)


def train(run: Run, agent: Counter, source: Counter, turns: int = 10**9) -> None:
    while run.steps < run.cfg.total_steps and turns > 0:
        step(run, agent, source)
        turns -= 1


def end(run: Run, agent: Counter, source: Counter) -> None:
    run.save(agent, source)
    run.log({"evaluate/return": agent.next(), "evaluate/episodes": 100})
    run.finish("finished", {"evaluate/return": 12.5})


def lines(folder: Path) -> list[str]:
    """The lines of metrics.jsonl as they are, without the values of time."""
    rows = []
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows.append(json.dumps({k: 0 if k.startswith("time/") else v for k, v in row.items()}))
    return rows


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was never killed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    torch.manual_seed(0)
    run, agent, source = Run.create(config(folder)), Counter(), Counter()
    train(run, agent, source)
    end(run, agent, source)
    return folder


def names(folder: Path) -> dict[str, str]:
    checkpoints = folder / "checkpoints"
    return {name: (checkpoints / name).read_text().strip() for name in ("last", "best")}


@pytest.mark.parametrize("turns", [8, 17, 33, 59])
def test_killed_and_resumed_equals_never_killed(tmp_path: Path, whole: Path, turns: int) -> None:
    folder = tmp_path / "run"
    torch.manual_seed(0)
    train(Run.create(config(folder)), Counter(), Counter(), turns)
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(b'{"episode/return": 12')  # killed in the middle of a line
    stale = folder / "checkpoints" / ".step_000000007.tmp"
    stale.mkdir()
    torch.manual_seed(99)
    run, agent, source = Run.open(folder), Counter(), Counter()
    assert run.load(agent, source) == []
    assert not stale.exists()
    train(run, agent, source)
    end(run, agent, source)
    assert lines(folder) == lines(whole)
    assert names(folder) == names(whole)
    (resumed,) = json.loads((folder / "meta.json").read_text())["resumed"]
    assert resumed["steps"] == max(
        s for s in range(0, turns * STEPS + 1, STEPS) if s <= resumed["steps"]
    )


def test_kill_9_of_a_process(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "run"
    code = (
        "import importlib.util, pathlib, sys, torch; torch.manual_seed(0)\n"
        f"spec = importlib.util.spec_from_file_location('test_run', {__file__!r})\n"
        "t = importlib.util.module_from_spec(spec); sys.modules['test_run'] = t\n"
        "spec.loader.exec_module(t)\n"
        f"run = t.Run.create(t.config(pathlib.Path({str(folder)!r})))\n"
        "t.train(run, t.Counter(), t.Counter(), 29); print('there', flush=True); input()"
    )
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        run, agent, source = Run.open(folder), Counter(), Counter()
        with pytest.raises(RunError, match="another process is training in this run"):
            run.load(agent, source)
        process.send_signal(signal.SIGKILL)
    run.load(agent, source)
    train(run, agent, source)
    end(run, agent, source)
    assert lines(folder) == lines(whole)


def test_a_finished_run_goes_on_as_if_it_had_been_longer(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "run"
    torch.manual_seed(0)
    run, agent, source = Run.create(config(folder, total_steps=200)), Counter(), Counter()
    train(run, agent, source)
    end(run, agent, source)
    run, agent, source = Run.open(folder, config(folder)), Counter(), Counter()
    run.load(agent, source)
    train(run, agent, source)
    end(run, agent, source)
    assert lines(folder) == lines(whole)
    assert Run.open(folder).cfg.total_steps == 420


def test_from_an_older_checkpoint(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "run"
    torch.manual_seed(0)
    train(Run.create(config(folder)), Counter(), Counter(), 40)
    older = checkpoint_folder.steps(folder / "checkpoints")[0].name
    run, agent, source = Run.open(folder), Counter(), Counter()
    run.load(agent, source, older)
    assert names(folder)["last"] == older
    train(run, agent, source)
    end(run, agent, source)
    assert lines(folder) == lines(whole)


def test_the_folder(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {
        *("config.yaml", "meta.json", "metrics.jsonl", "summary.json", "checkpoints", "run.lock")
    }
    run = Run.open(whole)
    assert run.cfg == config(whole)
    summary = run.summary
    assert (summary["status"], summary["steps"]) == ("finished", 420)
    assert summary["evaluate/episodes"] == 100
    assert summary["steps_per_second"] == summary["steps"] / summary["seconds"]
    assert summary["evaluate/return"] == 12.5
    assert {"cpu_seconds", "episode/return", "episode/length"} <= summary.keys()
    meta = json.loads((whole / "meta.json").read_text())
    plain, _, build = torch.__version__.partition("+")  # a wheel for CUDA has the plain one
    assert meta["versions"]["torch"] in (plain, f"{plain}+{build}")
    assert {"time", "command", "git", "host"} <= meta.keys()


def test_a_run_says_where_it_is_and_how_it_ended(tmp_path: Path) -> None:
    run = Run.create(Config(run_dir=str(tmp_path / "run")))
    assert repr(run) == f"Run('{tmp_path}/run': has not ended)"
    run.finish("finished", {"evaluate/return": 499.96, "evaluate/episodes": 10})
    assert repr(run) == f"Run('{tmp_path}/run': finished, 0 steps, evaluate/return 500)"
    assert repr(RunFolder.open(run.dir)) == repr(run)


def test_rows(tmp_path: Path) -> None:
    run = Run.create(config(tmp_path, log_interval_steps=10))
    run.add(rollout(), {"loss/a": torch.tensor(1.0), "b": 1})
    run.add(rollout(2, [(0, 4.0, 2, 1), (0, 8.0, 4, np.nan)]), {"loss/a": torch.tensor(2.0)})
    assert not (tmp_path / "metrics.jsonl").read_text()
    run.add(rollout(21, [(0, 9.0, 3, 0)]), {"loss/a": 6.0, "policy/nan": float("nan")})
    run.log({"evaluate/return": 3.5})
    text = (tmp_path / "metrics.jsonl").read_text()
    first, second = map(json.loads, text.splitlines())
    assert list(first) == sorted(first)
    assert {k: v for k, v in first.items() if not k.startswith("time/")} == {
        "b": 1.0,
        "episode/count": 3,
        "episode/length": 3.0,  # (2 + 4 + 3) / 3
        "episode/return": 7.0,  # (4 + 8 + 9) / 3
        "episode/success": 0.5,  # (1 + 0) / 2, one does not tell
        "loss/a": 3.0,  # (1 + 2 + 6) / 3
        "policy/nan": None,
        "steps": 30,
    }
    assert {"time/seconds", "time/cpu_seconds", "time/steps_per_second"} <= first.keys()
    assert (second["evaluate/return"], second["steps"]) == (3.5, 30)
    assert run.latest["loss/a"] == 3.0
    run.add(rollout(10), {"b": 2})  # no episode ended
    row = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["episode/count"] == 0
    assert "episode/return" not in row


def test_due_by_crossing(tmp_path: Path) -> None:
    run = Run.create(config(tmp_path))
    due = []
    for steps in (0, 59, 1, 59, 1, 130, 49, 1):
        run.add(rollout(steps), {})
        due.append(run.due("eval"))
        assert run.due("eval") == due[-1], "what is broken off stays due"
        run.log({"evaluate/return": 0.0} if due[-1] else {})
        assert not run.due("eval")
    # 0, 59, 60, 119, 120, 250 (two at once), 299, 300: each multiple of 60 once
    assert due == [True, False, True, False, True, True, False, True]
    own = {"eval": EvalConfig(), "checkpoint": CheckpointConfig(), "total_steps": 100_000}
    auto = Run.create(config(tmp_path / "auto", **own))
    due = []
    for number in range(21):
        auto.add(rollout(4_096 if number else 0), {})
        due.append((auto.due("eval"), auto.due("save")))
        if due[-1][0]:
            auto.log({"evaluate/return": -len(due)})
        if due[-1][1]:
            auto.save(Counter(), Counter())
    # every 5 rollouts = 20,480 steps; 10,000 would be every second or third
    assert [n for n, (evaluated, _) in enumerate(due) if evaluated] == [0, 5, 10, 15, 20]
    assert [n for n, (_, saved) in enumerate(due) if saved] == [13]
    never = config(tmp_path / "never", eval=EvalConfig(interval_steps=0))
    run = Run.create(never)
    run.add(rollout(1000), {})
    assert not run.due("eval")


def test_best_is_saved_when_it_is_found_and_never_deleted(tmp_path: Path) -> None:
    settings = CheckpointConfig(interval_steps=45, keep=1)
    run, agent, source = Run.create(config(tmp_path, checkpoint=settings)), Counter(), Counter()
    for score in (1.0, 5.0, 2.0, 3.0, float("nan"), 4.0):
        run.add(rollout(20), {})
        run.log({"evaluate/return": score})
        if run.due("save"):
            run.save(agent, source)
        assert not run.due("save")
    assert names(tmp_path) == {"last": "step_000000100", "best": "step_000000040"}
    # saved at 20 (best), 40 (best), 60 and 100 (crossed 45 and 90)
    run.add(rollout(20), {})
    run.save(agent, source)
    kept = [path.name for path in checkpoint_folder.steps(tmp_path / "checkpoints")]
    assert kept == ["step_000000040", "step_000000100", "step_000000140"]
    run.log({"evaluate/return": 9.0})  # the final evaluation, of what was just saved
    assert names(tmp_path) == {"last": "step_000000140", "best": "step_000000140"}


def test_best_goes_back_with_the_run(tmp_path: Path) -> None:
    settings = CheckpointConfig(interval_steps=45, keep=50)
    run, agent, source = Run.create(config(tmp_path, checkpoint=settings)), Counter(), Counter()
    for score in (2.0, 1.0, 5.0):
        run.add(rollout(20), {})
        run.log({"evaluate/return": score})
        run.save(agent, source)
    run.finish("interrupted")
    for kept in (True, False):
        if not kept:  # pruned by a longer run
            shutil.rmtree(tmp_path / "checkpoints" / "step_000000020")
        run = Run.open(tmp_path)
        run.load(agent, source, "step_000000040")
        run.finish("interrupted")
        assert (tmp_path / "checkpoints" / "last").read_text() == "step_000000040\n"
        assert (tmp_path / "checkpoints" / "best").exists() is kept
        assert run.read("best")["progress"]["steps"] == (20 if kept else 40)
    with pytest.raises(RunError, match=r"metrics.jsonl: \d+ bytes, the checkpoint needs"):
        Run.open(tmp_path).load(agent, source, "step_000000060")  # its lines were cut
    assert (tmp_path / "checkpoints" / "last").read_text() == "step_000000040\n"


def test_without_checkpoints_on_the_way_best_is_last(tmp_path: Path) -> None:
    settings = CheckpointConfig(interval_steps=0)
    run, agent, source = Run.create(config(tmp_path, checkpoint=settings)), Counter(), Counter()
    for score in (5.0, 1.0):
        run.add(rollout(100), {})
        run.log({"evaluate/return": score})
        assert not run.due("save")
    run.save(agent, source)
    run.log({"evaluate/return": 2.0})
    assert not (tmp_path / "checkpoints" / "best").exists()
    assert run.read("best")["progress"]["steps"] == 200


@pytest.mark.parametrize("act", ["add", "save"])
def test_a_loss_that_is_not_finite_is_named_and_never_saved(tmp_path: Path, act: str) -> None:
    run, agent, source = Run.create(config(tmp_path)), Counter(), Counter()
    run.save(agent, source)
    run.add(rollout(20), {"loss/policy": torch.tensor(torch.nan)})
    with pytest.raises(RunError, match=r"loss/policy is nan at step (27|20): .*learning_rate"):
        run.add(rollout(7), {}) if act == "add" else run.save(agent, source)
    run.finish("failed")
    assert names_of_steps(tmp_path) == ["step_000000000"]
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "failed"


def names_of_steps(folder: Path) -> list[str]:
    return [path.name for path in checkpoint_folder.steps(folder / "checkpoints")]


def test_folders_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = config(tmp_path, run_dir=None, seed=3)
    one, two = Run.create(settings), Run.create(settings)
    assert one.dir != two.dir
    assert one.dir.parent == Path("runs/CartPole-v1/ppo-mlp")
    assert one.dir.name.endswith("-s3")
    with pytest.raises(ValueError, match=r"^runs/CartPole: .*did you mean runs/CartPole-v1\?$"):
        Run.open("runs/CartPole")
    with pytest.raises(
        ValueError, match=f"not a run, it has no config.yaml; runs: .*{two.dir.name}"
    ):
        Run.open("runs")
    with pytest.raises(ValueError, match=f"`neuraxis resume {one.dir}`"):
        Run.create(config(one.dir))


def test_a_hint_at_runs_stays_near_and_never_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As below `/`, where `/proc` has folders that cannot be read, and thousands of others."""
    for number in range(2 * layout.HINT_FOLDERS):
        (tmp_path / f"f{number}").mkdir()
    (tmp_path / "near" / "run").mkdir(parents=True)
    (tmp_path / "near" / "run" / "config.yaml").touch()
    scanned: list[Path] = []

    def watched(function: Any) -> Any:
        def read(path: Any) -> Any:
            scanned.append(Path(path))
            if Path(path).name == "f7":
                raise OSError(22, "Invalid argument", str(path))
            return function(path)

        return read

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, watched(getattr(os, name)))
    with pytest.raises(ValueError, match=r"nowhere: no such run$"):
        layout.find(tmp_path / "gone" / "far" / "nowhere")
    assert len(scanned) == 1, "names beside the wrong part, no search"
    with pytest.raises(ValueError, match=r"nowhere: no such run; runs: .*near/run$"):
        layout.find(tmp_path / "near" / "nowhere")
    scanned.clear()
    with pytest.raises(ValueError, match="nowhere: no such run"):
        layout.find(tmp_path / "nowhere")
    assert len(scanned) <= layout.HINT_FOLDERS + 1


def test_what_is_wrong_with_a_run_is_said(tmp_path: Path) -> None:
    run, agent, source = Run.create(config(tmp_path / "a")), Counter(), Counter()
    with pytest.raises(RunError, match="there is no checkpoint"):
        run.read()
    train(run, agent, source, 20)
    run.finish("interrupted")
    with pytest.raises(ValueError, match=r"checkpoint step_1: expected last, best, step_0"):
        run.read("step_1")
    (run.dir / "metrics.jsonl").write_text("")
    with pytest.raises(RunError, match=r"metrics.jsonl: 0 bytes, the checkpoint needs \d+"):
        Run.open(run.dir).load(agent, source)
    (run.dir / "summary.json").write_text("{")
    with pytest.raises(RunError, match=r"summary\.json: damaged, not JSON"):
        Run.open(run.dir)
    (run.dir / "config.yaml").write_text("total_stepz: 3")
    with pytest.raises(ValueError, match="total_steps"):
        Run.open(run.dir)


def test_a_kill_between_two_renames_is_repaired(tmp_path: Path) -> None:
    run, agent, source = Run.create(config(tmp_path)), Counter(), Counter()
    run.save(agent, source)
    run.finish("interrupted")
    place = tmp_path / "checkpoints" / "step_000000000"
    place.rename(place.with_name(".step_000000000.old"))
    again = Run.open(tmp_path)
    again.load(agent, source)
    assert place.is_dir()
    again.finish("interrupted")
    (tmp_path / "checkpoints" / "last").unlink()  # killed after the first write
    Run.open(tmp_path).load(agent, source)
    assert names_of_steps(tmp_path) == ["step_000000000"]


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "METRICS", "/dev/full")
    run = Run.create(config(tmp_path))
    with pytest.raises(RunError, match=r"^/dev/full: No space left on device$"):
        run.log({"evaluate/return": 1.0})


STRANGE: dict[str, Any] = {
    "progress": [None, {"steps": "many"}, {"steps": 64}],
    "metrics_bytes": [None, "all", {}],
    "rng": [None, {"python": 1}, {"python": (3, (1,), None)}],
    "agent": [None, [], {"count": 1, "rng": {"bit_generator": "no"}}],
    "source": [7, {}],
}


@pytest.mark.parametrize("part", STRANGE)
def test_a_checkpoint_of_strange_content_is_refused_in_one_line(tmp_path: Path, part: str) -> None:
    run, agent, source = Run.create(config(tmp_path)), Counter(), Counter()
    train(run, agent, source, 20)
    run.finish("interrupted")
    last = checkpoint_folder.chosen(run.checkpoints, "last")
    tree = checkpoint.read(last)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    for value in STRANGE[part]:
        checkpoint.write(last, tree | {part: value})
        with pytest.raises(
            RunError, match=r"does not fit what config\.yaml describes: \w+"
        ) as found:
            Run.open(tmp_path).load(agent, source)
        assert len(str(found.value)) < 500 and "\n" not in str(found.value)
        assert (tmp_path / "metrics.jsonl").read_bytes() == before


def zipped(folder: Path, target: Path) -> None:
    """Through a zip file: links become what they lead to, names of folders may be lost."""
    shutil.make_archive(str(target), "zip", folder)
    shutil.unpack_archive(f"{target}.zip", target)


def synced(folder: Path, target: Path) -> None:
    """By a program that leaves links out."""
    shutil.copytree(folder, target, symlinks=True)
    for path in target.rglob("*"):
        if path.is_symlink():
            path.unlink()


def linked(folder: Path, target: Path) -> None:
    """The folder as older versions have written it."""
    shutil.copytree(folder, target)
    for pointer in (target / "checkpoints" / "last", target / "checkpoints" / "best"):
        name = pointer.read_text().strip()
        pointer.unlink()
        pointer.symlink_to(name)


def followed(folder: Path, target: Path) -> None:
    """A copy of that which followed the links."""
    linked(folder, target.with_name("linked"))
    shutil.copytree(target.with_name("linked"), target)


@pytest.mark.parametrize("copy", [zipped, synced, linked, followed])
def test_a_run_that_was_copied_resumes(tmp_path: Path, whole: Path, copy: Any) -> None:
    """With the checkpoints that `last` and `best` name, neither of them the newest by name."""
    folder, target = tmp_path / "run", tmp_path / "copy"
    settings = config(folder, checkpoint=CheckpointConfig(interval_steps=45, keep=9))
    torch.manual_seed(0)
    run, agent, source = Run.create(settings), Counter(), Counter()
    train(run, agent, source, 40)
    older, newest = (checkpoint_folder.steps(run.checkpoints)[place].name for place in (2, -1))
    checkpoint_folder.point(run.checkpoints / "last", older)
    checkpoint_folder.point(run.checkpoints / "best", older)
    run.finish("interrupted")
    copy(folder, target)
    for which in ("last", "best"):
        found = RunFolder.open(target).read(which)["progress"]["steps"]
        assert found == int(older[5:]) or (copy is followed and which == "last"), newest
    run, agent, source = Run.open(target), Counter(), Counter()
    run.load(agent, source, older)
    train(run, agent, source)
    end(run, agent, source)
    assert lines(target) == lines(whole)
    assert names(target) == names(whole)


@pytest.mark.parametrize("text", ["", "../../elsewhere", "step_1/..", "\x00", "step_000000007\n/"])
def test_a_pointer_that_names_no_checkpoint_is_passed_over(tmp_path: Path, text: str) -> None:
    run, agent, source = Run.create(config(tmp_path)), Counter(), Counter()
    train(run, agent, source, 20)
    newest = checkpoint_folder.steps(run.checkpoints)[-1]
    for pointer in ("last", "best"):
        (run.checkpoints / pointer).write_text(text)
        assert checkpoint_folder.chosen(run.checkpoints, pointer) == newest
