"""Callbacks: what they are told, in which order, that they may stop a run, and what they raise."""

from __future__ import annotations

import json
import re
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from neuraxis.configs import load_resumed
from neuraxis.core.errors import RunError
from neuraxis.training import Callback, prepare, train
from neuraxis.training.analysis.compare import compare

SMALL = (
    *("wandb.mode=disabled", "device=cpu", "num_envs=4", "agent.n_steps=16", "agent.batch_size=32"),
    *("agent.n_epochs=1", "eval.episodes=1", "eval.final_episodes=1", "log_interval_steps=100"),
)
EVENTS = ("start", "rollout", "update", "log", "evaluation", "checkpoint", "end")


class Diary(Callback):
    """Writes down every call: the event, the steps, and what came with it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, Any]] = []
        for event in EVENTS:
            setattr(self, f"on_{event}", partial(self.add, event))

    def add(self, event: str, run: Any, what: Any = None) -> None:
        self.calls.append((event, run.steps, what))

    def of(self, event: str) -> list[Any]:
        return [what for name, _, what in self.calls if name == event]


class Stop(Callback):
    """Stops the run at so many steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_update(self, run: Any, metrics: Any) -> None:
        if run.steps >= self.steps:
            run.stop(f"reached {self.steps}")
            run.stop("a second reason")


def test_every_event_is_told_once_and_in_order(tmp_path: Path) -> None:
    diary = Diary()
    intervals = ("eval.interval_steps=200", "checkpoint.interval_steps=150", "total_steps=300")
    run = train(*SMALL, *intervals, run_dir=str(tmp_path / "run"), callbacks=[diary])
    events = [event for event, _, _ in diary.calls if event != "play"]
    assert events[:6] == ["start", "evaluation", "log", "rollout", "update", "rollout"]
    assert diary.calls[-1] == ("end", run.steps, "finished")
    before = [steps for event, steps, _ in diary.calls if event == "rollout"]
    lengths = [rollout.steps for rollout in diary.of("rollout")]
    assert [*before, run.steps] == [*accumulate(lengths, initial=0)]
    assert all("loss/policy" in metrics for metrics in diary.of("update"))
    lines = [json.loads(line) for line in (run.dir / "metrics.jsonl").read_text().splitlines()]
    assert diary.of("log") == lines, "the final evaluation and what was left included"
    assert [found["evaluate/episodes"] for found in diary.of("evaluation")] == [1, 1]
    saved = [path.name for path in diary.of("checkpoint")]
    assert saved == sorted(saved) and (run.checkpoints / "last").read_text().strip() == saved[-1]


def test_a_run_that_was_stopped_says_why_and_trains_on_when_resumed(tmp_path: Path) -> None:
    words = (*SMALL, "total_steps=600", "eval.interval_steps=0", f"run_dir={tmp_path / 'run'}")
    run = train(*words, callbacks=[Stop(250)])
    assert 250 <= run.steps < 400
    assert (run.summary["status"], run.summary["reason"]) == ("stopped", "reached 250")
    assert run.summary["evaluate/episodes"] == 1, "the final evaluation"
    found = compare([run.dir])
    assert [row.seeds for row in found.rows] == [1]
    assert any("stopped before total_steps" in note for note in found.notes)
    again = prepare(load_resumed(run.dir / "config.yaml", ()), run.dir).run()
    assert again.steps >= 600 and again.summary["status"] == "finished"
    assert "reason" not in again.summary
    late = train(*SMALL, total_steps=128, run_dir=str(tmp_path / "late"), callbacks=[Stop(128)])
    assert late.summary["status"] == "finished", "nothing was left to do"


@pytest.mark.parametrize(
    ("callbacks", "line"),
    [
        (Stop(3), "callbacks: expected a list of callbacks, got a Stop; write [Stop(...)]"),
        (Stop, "callbacks: expected a list of callbacks, got the class Stop; write [Stop(...)]"),
        (print, "callbacks: expected a list of callbacks, got a builtin_function_or_method"),
        (None, "callbacks: expected a list of callbacks, got a NoneType"),
        ([Stop], "callbacks[0]: expected a Callback, got the class Stop; write Stop(...)"),
        ([Stop(3), print], "callbacks[1]: expected a Callback, got a builtin_function_or_method"),
    ],
)
def test_what_is_no_callback_is_refused_before_the_run(
    callbacks: Any, line: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        train(*SMALL, total_steps=100, run_dir=str(tmp_path / "run"), callbacks=callbacks)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("event", [*EVENTS, "play"])
def test_what_a_callback_raises_is_told_in_one_line(event: str, tmp_path: Path) -> None:
    class Wrong(Callback):
        pass

    def wrong(self: Callback, run: Any, *what: Any) -> None:
        raise KeyError("retrun")

    setattr(Wrong, f"on_{event}", wrong)
    diary = Diary()
    words = (*SMALL, "total_steps=100", "eval.interval_steps=50", f"run_dir={tmp_path / 'run'}")
    line = rf"^callback Wrong\.on_{event}: KeyError: 'retrun' \(tests/test_callbacks\.py:\d+\)$"
    with pytest.raises(RunError, match=line) as told:
        train(*words, callbacks=[diary, Wrong()])
    assert isinstance(told.value.__cause__, KeyError)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    if event == "end":
        assert summary["status"] == "finished", "it had ended before"
    else:
        assert (summary["status"], summary["reason"]) == ("failed", str(told.value))
    assert diary.calls[-1][0] == "end", "the other callbacks are told of the end"
