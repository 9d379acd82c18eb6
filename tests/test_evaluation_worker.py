"""`eval.mode=worker`: the same metrics, best checkpoint and weights as inline."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv

from neuraxis.configs import Config, load, load_resumed
from neuraxis.core.errors import EnvError
from neuraxis.training import Callback, evaluation_worker, prepare, train
from neuraxis.training import load as load_policy
from neuraxis.training import session as sessions
from neuraxis.training.distributed import helper
from neuraxis.training.distributed.packed_weights import pack
from neuraxis.training.evaluation_process import Player
from neuraxis.training.evaluation_worker import EvaluationWorker
from neuraxis.training.storage import layout
from neuraxis.training.storage.progress import PendingEvaluation
from neuraxis.training.storage.run import Run
from neuraxis.training.storage.stored_run import read_rows
from neuraxis.training.tracking.new_rows import NewRows

from .helpers import OnUpdate, processes_with, training

SMALL = (
    *("wandb.mode=disabled", "device=cpu", "num_envs=4", "agent.n_steps=16", "agent.batch_size=32"),
    *("agent.n_epochs=1", "eval.episodes=2", "eval.final_episodes=2", "log_interval_steps=40"),
    *("eval.interval_steps=200", "checkpoint.interval_steps=150"),
)
RUN = (*SMALL, "total_steps=600")
WORKER = "eval.mode=worker"


class LateWorker:
    """Plays in this process, and has a result after so many turns of the loop."""

    turns = 2

    def __init__(self, cfg: Config, policy: Any) -> None:
        self._player = Player(lambda: False)
        self._player.open(pickle.dumps((cfg, copy.deepcopy(policy))))
        self._asked: Any = None

    def begin(self, pending: PendingEvaluation, film: Path | None) -> None:
        assert self._asked is None, "one at a time"
        self._asked, self._left = (pending, film), self.turns

    def ready(self, seconds: float = 0.0) -> bool:
        self._left -= 1
        return self._left < 0

    def result(self) -> dict[str, float]:
        asked, self._asked = self._asked, None
        return self._player.play(*asked)

    def close(self) -> None:
        pass


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> type[LateWorker]:
    """The worker of sessions, as `LateWorker`."""
    monkeypatch.setattr(sessions, "EvaluationWorker", LateWorker)
    return LateWorker


def rows(folder: Path) -> list[dict[str, Any]]:
    """Those of a run in the order of their steps, without times."""
    return [
        {key: value for key, value in row.items() if not key.startswith("time/")}
        for row in read_rows(folder)
    ]


def logged(folder: Path) -> list[tuple[int, bool]]:
    """Step of each line as it was written, and whether it is an evaluation."""
    found = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [(row["steps"], "evaluate/return" in row) for row in found]


def assert_same(one: Any, other: Any) -> None:
    """Two runs have the same rows, trained weights, best weights and numbers in their summaries."""
    assert rows(one.dir) == rows(other.dir)
    for which in ("last", "best"):
        pairs = [load_policy(run.dir, which).state_dict() for run in (one, other)]
        assert all(torch.equal(pairs[0][name], pairs[1][name]) for name in pairs[0])
    best = [(run.checkpoints / "best").read_text() for run in (one, other)]
    assert best[0] == best[1]
    kept = [{k: v for k, v in run.summary.items() if "second" not in k} for run in (one, other)]
    assert kept[0] == kept[1]


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that evaluates in its own process."""
    folder = tmp_path_factory.mktemp("inline") / "run"
    return prepare(load([*RUN, f"run_dir={folder}"])).run()


@pytest.mark.parametrize("turns", [0, 99])
def test_whenever_results_come_they_are_those_of_inline(
    turns: int, late: type[LateWorker], inline: Run, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(late, "turns", turns)
    run = prepare(load([*RUN, WORKER, f"run_dir={tmp_path / 'run'}"])).run()
    assert_same(run, inline)
    steps = [step for step, _ in logged(run.dir)]
    assert (steps == sorted(steps)) == (turns == 0), "a later one has the step of its weights"
    file = layout.histogram_file(run.dir, 244)
    file.parent.mkdir()
    file.touch()
    drawn = [row.values["steps"] for row in NewRows(run.dir).read() if row.histograms]
    assert drawn == [244], "with the first line of the step alone, as W&B and TensorBoard show it"


class Crash(BaseException):
    """What ends a run in the middle, as a kill does."""


@pytest.mark.parametrize(
    ("at", "saved", "pending", "mode"),
    [(250, 244, 244, "worker"), (310, 305, 244, "inline"), (440, 428, 428, "worker")],
)
def test_a_killed_run_does_again_what_was_pending(
    at: int,
    saved: int,
    pending: int,
    mode: str,
    late: type[LateWorker],
    inline: Run,
    tmp_path: Path,
) -> None:
    """Also if it then evaluates in the other way; its best checkpoint is not lost meanwhile."""

    def crash(run: Run) -> None:
        if run.steps > at:
            raise Crash

    with pytest.raises(Crash):
        prepare(load([*RUN, WORKER, f"run_dir={tmp_path / 'run'}"])).run([OnUpdate(crash)])
    torn = Run.open(tmp_path / "run")
    progress = torn.read()["progress"]
    assert (progress["steps"], progress["pending"]["steps"]) == (saved, pending)
    assert (torn.checkpoints / f"step_{pending:09d}").is_dir()
    cfg = load_resumed(torn.dir / "config.yaml", [f"eval.mode={mode}"])
    assert_same(prepare(cfg, torn.dir).run(), inline)


class Told(Callback):
    """The steps of a run when it was told of evaluations."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_evaluation(self, run: Run, metrics: Any) -> None:
        self.steps.append(run.steps)


def test_callbacks_and_patience_learn_of_it_later(late: type[LateWorker], tmp_path: Path) -> None:
    words = (*RUN, WORKER, "eval.patience=1", f"run_dir={tmp_path / 'run'}", "seed=4")
    told = Told()
    run = prepare(load(words)).run([told])
    played = [step for step, score in sorted(logged(run.dir)) if score]
    assert all(later > step for later, step in zip(told.steps, played, strict=True))
    scores = [row["evaluate/return"] for row in rows(run.dir) if "evaluate/return" in row]
    assert run.summary["status"] == "stopped" and scores[-1] <= max(scores[:-1])


def test_it_films_too(late: type[LateWorker], tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    words = (*SMALL, WORKER, "eval.video_interval_steps=1", "total_steps=250")
    run = prepare(load([*words, f"run_dir={tmp_path / 'run'}"])).run()
    (film,) = (run.dir / "videos").iterdir()
    assert film.name == "step_000000244.mp4"


def processes() -> list[int]:
    """Those of workers that this process has started."""
    return [process.pid for process in processes_with("evaluation_process")]


def test_a_process_plays_an_environment_of_this_program(tmp_path: Path) -> None:
    class Own(CartPoleEnv):
        """No other program can import it."""

    seen: list[list[int]] = []
    words = (*SMALL, "total_steps=500")
    one, other = (
        train(
            *(*words, f"eval.mode={mode}", f"run_dir={tmp_path / mode}"),
            env=Own,
            callbacks=[OnUpdate(lambda run: seen.append(processes()))],
        )
        for mode in ("inline", "worker")
    )
    assert_same(one, other)
    assert max(map(len, seen)) == 1 and not processes()


def answer(patch: pytest.MonkeyPatch, folder: Path, then: str) -> None:
    """Puts a process in its place that does something at the first evaluation."""
    (folder / "fake_evaluation_process.py").write_text(
        "import os, time\nfrom multiprocessing.connection import Connection\n"
        "def main(file):\n    pipe = Connection(file)\n"
        f"    pipe.recv(); pipe.send(None); pipe.recv_bytes(); {then}\n"
    )
    patch.syspath_prepend(folder)
    patch.setattr(evaluation_worker, "_MODULE", "fake_evaluation_process")


def test_a_process_that_ends_by_itself_is_said_in_one_line(
    inline: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel ends it when memory is short."""
    answer(monkeypatch, tmp_path, "os.kill(os.getpid(), 9)")
    words = (*RUN, WORKER, f"run_dir={tmp_path / 'run'}")
    said = r"^the process that plays evaluations has ended \(SIGKILL\); eval.mode=inline plays them"
    with pytest.raises(EnvError, match=said):
        prepare(load(words)).run()
    assert not processes()
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "failed"
    cfg = load_resumed(tmp_path / "run" / "config.yaml", ["eval.mode=inline"])
    monkeypatch.setattr(sessions, "EvaluationWorker", LateWorker)
    assert_same(prepare(cfg, tmp_path / "run").run(), inline)


def test_ctrl_c_leaves_it_at_once(
    inline: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the loop waits for an evaluation that hangs."""
    answer(monkeypatch, tmp_path, "time.sleep(60)")
    monkeypatch.setattr(helper, "CLOSING_SECONDS", 0.2)
    session = prepare(load([*RUN, WORKER, f"run_dir={tmp_path / 'run'}"]))
    kill = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    wait = session.evaluations.wait

    def waiting(tell: Any) -> None:
        if session.current_run.pending is not None and not kill.ident:
            kill.start()
        wait(tell)

    monkeypatch.setattr(session.evaluations, "wait", waiting)
    begin = time.monotonic()
    run = session.run()
    assert time.monotonic() - begin < 8 and not processes()
    assert run.summary["status"] == "interrupted"
    monkeypatch.setattr(sessions, "EvaluationWorker", LateWorker)
    assert_same(prepare(load_resumed(run.dir / "config.yaml", ()), run.dir).run(), inline)


def test_kill_9_of_the_run_leaves_no_process(tmp_path: Path) -> None:
    """It dies in the middle of an evaluation that hangs."""

    class Hanging(CartPoleEnv):
        def step(self, action: Any) -> Any:
            time.sleep(60)

    agent = training("agent=ppo", "env=CartPole-v1", "num_envs=2").agent
    cfg = load(["env=CartPole-v1", "num_envs=2"])
    cfg = cfg.model_copy(update={"env": cfg.env.made_by(Hanging)})
    file = tmp_path / "pid"
    run = os.fork()
    if not run:
        try:
            worker = EvaluationWorker(cfg, agent.policy)
            worker.begin(PendingEvaluation(0, 0, False, pack(agent.policy)), None)
            time.sleep(0.2)  # it plays
            file.write_text(str(worker.helper.process.pid))
            time.sleep(60)
        finally:
            os._exit(1)
    while not file.exists() or not file.read_text():
        assert os.waitpid(run, os.WNOHANG) == (0, 0), "it cannot start"
        time.sleep(0.05)
    pid = int(file.read_text())
    assert psutil.pid_exists(pid)
    os.kill(run, signal.SIGKILL)
    os.waitpid(run, 0)
    deadline = time.monotonic() + 8
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
