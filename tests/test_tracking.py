"""Tracking without a server; `test_wandb.py` has one."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import wandb

from neuraxis.configs import load
from neuraxis.training.storage.provenance import identified
from neuraxis.training.storage.run import Run
from neuraxis.training.tracking.wandb_client import FOLDERS
from neuraxis.training.tracking.wandb_tracker import CollapseDetector, WandbTracker


def test_disabled_never_imports_wandb(tmp_path: Path) -> None:
    code = (
        "import sys; from neuraxis.training import train\n"
        "train('wandb.mode=disabled', total_steps=100, run_dir='run')\n"
        "assert 'wandb' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_offline_needs_neither_key_nor_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    (tmp_path / "metrics.jsonl").write_text('{"steps": 1, "episode/return": 2, "loss/a": null}\n')
    with caplog.at_level(logging.WARNING):
        run = Run(load(["wandb.group=group", "wandb.tags=[tag]"]), tmp_path)
        tracker = WandbTracker()
        tracker.on_start(run)
        run.summary = {"evaluate/return": 2.0}
        tracker.on_end(run, "finished")
    assert not [record for record in caplog.records if record.name.startswith("neuraxis")]
    wandb.teardown()  # W&B's process has written it all when it ends
    (log,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert b"episode/return" in log.read_bytes()
    assert b"evaluate/return" in log.read_bytes()


def test_wandbs_files_lie_where_its_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on finds its rows there; those of another run count for nothing."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "wandb" / "offline-run-20260101_000000-another").mkdir(parents=True)
    monkeypatch.setenv("WANDB_DIR", str(elsewhere))
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.jsonl").touch()
    for row in ("first", "second"):
        run, tracker = Run(load(), folder), WandbTracker()
        tracker.on_start(run)
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"steps": 1, f"loss/{row}": 1}) + "\n")
        tracker.on_end(run, "finished")
    wandb.teardown()
    logs = sorted(elsewhere.glob("wandb/offline-run-*/run-*.wandb"))
    there = [[row in log.read_bytes() for row in (b"loss/first", b"loss/second")] for log in logs]
    assert there == [[True, False], [False, True]]
    assert [entry.name for entry in folder.iterdir() if entry.is_dir()] == []


@pytest.mark.parametrize("home", ["/proc/1", None])
def test_a_home_that_cannot_be_written_changes_nothing(home: str | None, tmp_path: Path) -> None:
    """As in a container: W&B's process would log its INFO lines on the terminal."""
    environment = {key: os.environ[key] for key in os.environ if key not in ("HOME", *FOLDERS)}
    environment |= {"TMPDIR": str(tmp_path)} | ({} if home is None else {"HOME": home})
    words = ["total_steps=64", "num_envs=2", "eval.final_episodes=1", "run_dir=run", "-q"]
    ended = subprocess.run(
        [sys.executable, "-m", "neuraxis", "train", *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert list(tmp_path.glob("run/wandb/offline-run-*"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"], "what W&B logged is gone"


def test_an_id_that_is_no_text_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text('{"wandb_id": 5, "time": "now"}')
    about = identified(tmp_path)
    assert isinstance(about["wandb_id"], str) and about["time"] == "now"
    assert identified(tmp_path) == about


@pytest.mark.parametrize("name", ["meta.json", "wandb"])
def test_a_folder_that_cannot_be_used_is_said_once(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path = tmp_path / "my run"
    tmp_path.mkdir()
    (tmp_path / "metrics.jsonl").write_text('{"steps": 1}\n')
    if name == "wandb":
        (tmp_path / name).write_text("a file where W&B wants a folder")
    else:
        (tmp_path / name).mkdir()
    run, tracker = Run(load(), tmp_path), WandbTracker()
    tracker.on_start(run)
    tracker.on_end(run, "finished")
    (warning,) = [r.message for r in caplog.records if r.name.startswith("neuraxis")]
    assert f"metrics.jsonl is whole, `neuraxis export '{tmp_path}' --wandb` uploads" in warning


def collapses(scores: list[float], std: float) -> list[int]:
    """The numbers of the evaluations with which a collapse begins."""
    watch = CollapseDetector()
    rows = [
        {"steps": n, "evaluate/return": s, "evaluate/return_std": std} for n, s in enumerate(scores)
    ]
    return [n for n, row in enumerate(rows) if watch.begins(row)]


def test_a_collapse_is_two_evaluations_far_below_the_best() -> None:
    assert collapses([20, 500, 490, 100, 90, 80], std=10) == [4], "said once"
    assert collapses([20, 500, 100, 500, 100, 500], std=10) == [], "each recovered"
    assert collapses([20, 500, 100, 90, 500, 100, 90], std=10) == [3, 6]
    assert collapses([20, 30, 22, 21, 20], std=9) == [], "within the noise"
    assert collapses([-500, -100, -150, -160], std=10) == []
    watch = CollapseDetector()
    assert not watch.begins({"steps": 1, "loss/value": 2.0}), "no evaluation"
