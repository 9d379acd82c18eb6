"""Tracking without a server; `test_wandb.py` has one."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import wandb

from neuraxis.configs import load
from neuraxis.training.tracking import Collapse, Tracker


def test_disabled_never_imports_wandb() -> None:
    code = (
        "import sys; from pathlib import Path; from neuraxis.configs import load\n"
        "from neuraxis.training.tracking import Tracker\n"
        "t = Tracker(Path('nowhere'), load(['wandb.mode=disabled']))\n"
        "t.finish({}); assert 'wandb' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


def test_offline_needs_neither_key_nor_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    (tmp_path / "metrics.jsonl").write_text('{"steps": 1, "episode/return": 2, "loss/a": null}\n')
    with caplog.at_level(logging.WARNING):
        tracker = Tracker(tmp_path, load(["wandb.group=group", "wandb.tags=[tag]"]))
        tracker.finish({"evaluate/return": 2.0})
        tracker.finish({})
    assert not [record for record in caplog.records if record.name.startswith("neuraxis")]
    wandb.teardown()  # W&B's process has written it all when it ends
    (log,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert b"episode/return" in log.read_bytes()
    assert b"evaluate/return" in log.read_bytes()


@pytest.mark.parametrize("name", ["meta.json", "wandb"])
def test_a_folder_that_cannot_be_used_is_said_once(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"steps": 1}\n')
    if name == "wandb":
        (tmp_path / name).write_text("a file where W&B wants a folder")
    else:
        (tmp_path / name).mkdir()
    tracker = Tracker(tmp_path, load())
    tracker.finish({})
    (warning,) = [r.message for r in caplog.records if r.name.startswith("neuraxis")]
    assert "metrics.jsonl is whole" in warning


def collapses(scores: list[float], std: float) -> list[int]:
    """The numbers of the evaluations with which a collapse begins."""
    watch = Collapse()
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
    watch = Collapse()
    assert not watch.begins({"steps": 1, "loss/value": 2.0}), "no evaluation"
