"""How a run ends when it is told to: where it may hang, in time, and with nothing lost."""

from __future__ import annotations

import ctypes
import fcntl
import json
import logging
import multiprocessing
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from neuraxis.configs import load, load_resumed
from neuraxis.core import signals
from neuraxis.envs.builtin.diagnostic import Identity
from neuraxis.training.session import prepare
from neuraxis.training.storage import run as run_module
from neuraxis.training.storage.run import Run

from .helpers import OnUpdate

ENV = "tests.test_signals:Hanging-v0"
WORDS = (f"env={ENV}", "wandb.mode=disabled", "device=cpu", "num_envs=2", "total_steps=120")
WORDS = (*WORDS, "agent=ppo", "agent.n_steps=16", "agent.batch_size=16", "agent.n_epochs=1")
WORDS = (*WORDS, "eval.interval_steps=50", "eval.episodes=1", "eval.final_episodes=1")
WORDS = (*WORDS, "log_interval_steps=16", "network.blocks.0.sizes=[8]")

FINISHED = ("wandb.mode=disabled", "device=cpu", "num_envs=2", "total_steps=32", "agent.n_steps=16")
FINISHED = (*FINISHED, "agent.batch_size=16", "eval.interval_steps=0", "eval.final_episodes=1")


class Hanging(Identity):
    """At a step of the process, over all environments, it sends a signal, and never returns."""

    left: int | None = None
    sent = signal.SIGTERM
    in_c = False

    def step(self, action: Any) -> Any:
        if Hanging.left is not None:
            Hanging.left -= 1
            if Hanging.left == 0:
                if Hanging.in_c:
                    hang_in_c()
                os.kill(os.getpid(), Hanging.sent)
                time.sleep(60)
        return super().step(action)


def hang_in_c() -> None:
    """Hangs where no handler in Python is called, and is told to end: a mutex is locked twice."""
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    lock = getattr(ctypes.CDLL(None), "pthread_mutex_lock")  # noqa: B009
    mutex = ctypes.create_string_buffer(64)
    lock(mutex)
    lock(mutex)


gymnasium.register("Hanging-v0", Hanging)  # pyright: ignore[reportArgumentType]


def lines(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


def resumed(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run that is resumed and ends."""
    assert prepare(load_resumed(folder / "config.yaml", ()), folder).run().steps >= 120
    return lines(folder)


@pytest.fixture(autouse=True)
def _hangups_count() -> Iterator[None]:
    """As in a terminal: `nohup make test` switches SIGHUP off, and a run leaves it so."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The lines of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    prepare(load([*WORDS, f"run_dir={folder}"])).run()
    return lines(folder)


@pytest.mark.parametrize(
    ("step", "saved"),
    [(5, 0), (64, 0), (104, 30), (139, 60), (184, 60)],
    ids=["evaluation at step 0", "first rollout", "second", "evaluation", "third"],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_hung_environment_is_left_at_once(
    number: int,
    step: int,
    saved: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: list[dict[str, Any]],
) -> None:
    session = prepare(load([*WORDS, f"run_dir={tmp_path / 'run'}"]))
    monkeypatch.setattr(Hanging, "left", step)
    monkeypatch.setattr(Hanging, "sent", number)
    begin = time.monotonic()
    run = session.run()
    assert time.monotonic() - begin < 10 and Hanging.left == 0
    assert run.summary["status"] == "interrupted"
    assert run.read()["progress"]["steps"] == saved
    assert resumed(run.dir) == whole


@pytest.mark.parametrize("step", [104, 139], ids=["second rollout", "evaluation"])
def test_so_is_one_that_no_exception_reaches(
    step: int, tmp_path: Path, whole: list[dict[str, Any]]
) -> None:
    """The process ends itself after six seconds, with a checkpoint."""
    code = f"""
from tests import test_signals as this
session = this.prepare(this.load([*this.WORDS, "run_dir={tmp_path}"]))
this.Hanging.left, this.Hanging.in_c = {step}, True
session.run()
"""
    ended = subprocess.run([sys.executable, "-c", code], timeout=60)
    assert ended.returncode == 130
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "interrupted"
    assert resumed(tmp_path) == whole


def test_what_hangs_in_closing_is_not_waited_for(tmp_path: Path) -> None:
    code = f"""
from tests import test_signals as this
session = this.prepare(this.load([*this.WORDS, "run_dir={tmp_path}"]))
session.learner.close = this.hang_in_c
session.run([this.OnUpdate(lambda run: session.interrupt())])
"""
    ended = subprocess.run([sys.executable, "-c", code], timeout=60)
    assert ended.returncode == 130
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["status"] == "interrupted" and summary["steps"] == 30


def test_compiling_is_broken_off(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    whole: list[dict[str, Any]],
) -> None:
    """The rest of this turn runs as it does without a compiler, and the run ends as usual."""

    def compiling(*args: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr("torch._inductor.compile", compiling)
    session = prepare(load([*WORDS, "compile=true", f"run_dir={tmp_path / 'run'}"]))
    begin = time.monotonic()
    run = session.run()
    assert time.monotonic() - begin < 10
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert run.summary["status"] == "interrupted" and run.read()["progress"]["steps"] == 30
    assert lines(run.dir)[0] == whole[0]


def test_a_terminal_that_closes_ends_a_run_as_sigterm_does(tmp_path: Path) -> None:
    """It is gone before the display and the last message are."""
    ours, theirs = pty.openpty()
    words = (f"env={ENV}", "total_steps=1_000_000", "log_interval_steps=100", f"run_dir={tmp_path}")
    program = str(Path(sys.executable).with_name("neuraxis"))
    process = subprocess.Popen(
        [program, "train", *words, "wandb.mode=disabled"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    os.set_blocking(ours, False)
    shown = b""
    while not (tmp_path / "metrics.jsonl").exists() or not lines(tmp_path):
        time.sleep(0.05)
        with suppress(BlockingIOError):
            shown += os.read(ours, 10_000)  # a terminal that nobody reads would stop the display
        assert process.poll() is None, shown
    os.close(ours)
    assert process.wait(30) == 130
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "interrupted"


def test_a_hangup_that_nohup_has_switched_off_stays_so(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        session = prepare(load([*WORDS, f"run_dir={tmp_path / 'run'}"]))
        run = session.run([OnUpdate(lambda run: os.kill(os.getpid(), signal.SIGHUP))])
        assert run.summary["status"] == "finished"
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_forked_process_ends_by_its_own_signals_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As environments may have them: `terminate` must work, and not end the run."""
    monkeypatch.setattr(signals, "ENDING_SECONDS", 0.0)
    codes = []

    def fork(run: Run) -> None:
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()
        child.terminate()
        child.join(10)
        codes.append(child.exitcode)

    session = prepare(load([*WORDS, f"run_dir={tmp_path / 'run'}"]))
    assert session.run([OnUpdate(fork)]).summary["status"] == "finished"
    assert {*codes} == {-signal.SIGTERM}


def test_no_thread_is_left_that_frees_the_run_while_python_ends() -> None:
    """It would abort the process (exit code -6): Ray's handler of terminations is called there."""
    for _ in range(20):
        with signals.ends_on_signals(lambda number: None, lambda: None):
            assert "signals" in [thread.name for thread in threading.enumerate()]
        assert "signals" not in [thread.name for thread in threading.enumerate()]


def test_a_second_signal_waits_for_the_summary(tmp_path: Path, monkeypatch: Any) -> None:
    """While the run ends itself, the thread that would end it for a hanging one has to wait."""
    session = prepare(load([*FINISHED, f"run_dir={tmp_path / 'run'}"]))
    seen: list[bool] = []
    summary = tmp_path / "run" / "summary.json"

    def second() -> None:
        session._end_at_last()
        seen.append(summary.exists())

    thread = threading.Thread(target=second)
    write = run_module.write_json

    def slow(path: Path, content: Any) -> None:
        if path == summary:
            thread.start()
            thread.join(0.5)
        write(path, content)

    monkeypatch.setattr(run_module, "write_json", slow)
    session.run()
    thread.join()
    assert seen == [True]
    assert json.loads(summary.read_text())["status"] == "finished"
