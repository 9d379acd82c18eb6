import logging
import subprocess
import sys
from pathlib import Path

import pytest

from neuraxis.configs import WandbConfig
from neuraxis.training.tracking import Tracker


def test_disabled_never_imports_wandb() -> None:
    code = (
        "import sys; from pathlib import Path; from neuraxis.training.tracking import Tracker\n"
        "from types import SimpleNamespace\n"
        "t = Tracker(SimpleNamespace(mode='disabled'), Path('.'), 'id', 'name', {})\n"
        "t.log({'steps': 1}); t.finish({}); assert 'wandb' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


def test_online_without_a_key_goes_offline_and_failures_never_stop_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    config = WandbConfig(mode="online", group="group", tags=("tag",))
    with caplog.at_level(logging.WARNING):
        tracker = Tracker(config, tmp_path, "theid", "name", {"seed": 0})
        assert [record.message for record in caplog.records] == [
            "wandb.mode=online: no API key found, going on offline; `wandb login` sets one"
        ]
        tracker.log({"steps": 1, "episode/return": 2.0, "policy/nan": float("nan")})
        tracker.finish({"evaluate/return": 2.0})
        tracker.finish({})
    (log,) = tmp_path.glob("wandb/offline-run-*-theid/run-theid.wandb")
    assert b"episode/return" in log.read_bytes()
    assert b"evaluate/return" in log.read_bytes()

    class Broken:
        def log(self, row: dict[str, float]) -> None:
            raise ConnectionResetError("Connection lost")

    monkeypatch.setattr(tracker, "_run", Broken())
    caplog.clear()
    for _ in range(2):
        tracker.log({"steps": 2})
    assert [record.message for record in caplog.records] == [
        "wandb: log failed (Connection lost); training goes on, metrics.jsonl is whole"
    ]
