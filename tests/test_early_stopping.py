"""Early stopping: after how many evaluations, what is said of it, and that a resume counts on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from neuraxis.configs import load
from neuraxis.configs.resumed import load_resumed
from neuraxis.training import evaluator, prepare
from neuraxis.training.storage.run import Run
from neuraxis.training.sweeps.advance import advance_run

from .helpers import OnUpdate

SMALL = (
    *("wandb.mode=disabled", "device=cpu", "num_envs=4", "agent.n_steps=8", "agent.batch_size=32"),
    *("agent.n_epochs=1", "eval.episodes=1", "eval.final_episodes=1", "log_interval_steps=50"),
    *("eval.interval_steps=100", "checkpoint.interval_steps=50", "total_steps=1000"),
)


@pytest.fixture
def returns(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the evaluations find, the last one again and again."""
    scores = [1.0]

    def evaluate(policy: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        score = scores.pop(0) if len(scores) > 1 else scores[0]
        return {"evaluate/return": score, "evaluate/episodes": 1}

    monkeypatch.setattr(evaluator, "evaluate", evaluate)
    return scores


def run(folder: Path, *words: str) -> Run:
    return prepare(load([*SMALL, *words, f"run_dir={folder}"])).run()


def evaluated(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["evaluate/return"] for row in rows if "evaluate/return" in row]


def test_it_stops_after_as_many_evaluations_without_a_better_one(
    returns: list[float], tmp_path: Path
) -> None:
    """An equal one is no better, and neither is one that is not finite. The first is at step 0."""
    returns[:] = [1.0, 2.0, 1.5, 3.0, 3.0, math.nan, 2.0, 9.0]
    summary = run(tmp_path, "eval.patience=3").summary
    assert evaluated(tmp_path) == [1.0, 2.0, 1.5, 3.0, 3.0, None, 2.0]
    assert summary["status"] == "stopped" and 600 <= summary["steps"] < 700
    assert summary["reason"] == "eval.patience=3: evaluate/return was not above 3 again"
    assert summary["evaluate/return"] == 9.0, "the final evaluation"


def test_without_it_a_run_goes_on(returns: list[float], tmp_path: Path) -> None:
    assert run(tmp_path).summary["status"] == "finished"
    assert len(evaluated(tmp_path)) == 11


def test_at_the_end_there_is_nothing_to_stop(returns: list[float], tmp_path: Path) -> None:
    summary = run(tmp_path, "eval.patience=10").summary
    assert summary["status"] == "finished" and "reason" not in summary


class Crash(BaseException):
    """What ends a run in the middle, as a kill does."""


def test_a_resumed_run_counts_on(returns: list[float], tmp_path: Path) -> None:
    returns[:] = [5.0, 1.0]

    def crash(run: Run) -> None:
        if run.steps > 150:
            raise Crash

    session = prepare(load([*SMALL, "eval.patience=3", f"run_dir={tmp_path}"]))
    with pytest.raises(Crash):
        session.run([OnUpdate(crash)])
    assert evaluated(tmp_path) == [5.0, 1.0]
    again = prepare(load_resumed(tmp_path / "config.yaml", ()), tmp_path).run()
    assert evaluated(tmp_path) == [5.0, 1.0, 1.0, 1.0]
    assert again.summary["status"] == "stopped"
    on = prepare(load_resumed(tmp_path / "config.yaml", ["eval.patience=0"]), tmp_path).run()
    assert on.summary["status"] == "finished"


def test_a_run_of_a_sweep_may_stop_before_its_rung(returns: list[float], tmp_path: Path) -> None:
    cfg = load([*SMALL, "eval.patience=2", f"run_dir={tmp_path}"])
    for _ in range(2):
        advance_run(cfg, tmp_path, 900)
        assert len(evaluated(tmp_path)) == 3


def test_it_needs_evaluations() -> None:
    with pytest.raises(ValueError, match=r"patience=2: expected 0, because it counts evaluations"):
        load(["eval.patience=2", "eval.interval_steps=0"])
