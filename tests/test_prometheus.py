"""The metrics of a run, as Prometheus asks for them."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from neuraxis.configs import load_resumed
from neuraxis.training import Callback, prepare
from neuraxis.training.cli import exit_codes, main
from neuraxis.training.storage.run import Run

from .helpers import config

SMALL = (
    *("total_steps=96", "num_envs=2", "agent.n_steps=16", "log_interval_steps=32", "seed=1"),
    *("eval.interval_steps=64", "eval.episodes=1", "eval.final_episodes=1", "env.time_limit=10"),
)


@pytest.fixture
def port() -> int:
    """One that is free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Asking(Callback):
    """What Prometheus would see at the start, and after each line."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.seen: list[dict[str, float]] = []
        self.labels: list[dict[str, str]] = []

    def on_start(self, run: Run) -> None:
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        assert {family.type for family in families} == {"gauge"}
        samples = [sample for family in families for sample in family.samples]
        self.seen.append({sample.name: sample.value for sample in samples})
        self.labels += [sample.labels for sample in samples]

    def on_log(self, run: Run, row: Mapping[str, float]) -> None:
        self.on_start(run)
        latest = {f"neuraxis_{name.replace('/', '_')}": value for name, value in run.latest.items()}
        assert self.seen[-1] == pytest.approx(latest, nan_ok=True)


def test_prometheus_sees_the_newest_metrics_while_a_run_goes_on(tmp_path: Path, port: int) -> None:
    words = (*SMALL, f"prometheus.port={port}", f"run_dir={tmp_path}/first")
    asking = Asking(port)
    run = prepare(config(*words)).run([asking])
    assert asking.seen[0] == {"neuraxis_steps": 0.0}, "before the first line"
    assert "neuraxis_evaluate_return" in asking.seen[-1]
    said = {"run": "first", "agent": "ppo", "env": "CartPole-v1"}
    assert all(labels == said for labels in asking.labels)
    before = run.latest
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        pass
    changed = load_resumed(run.dir / "config.yaml", ["total_steps=128"])
    again = Asking(port)
    prepare(changed, run.dir).run([again])
    assert again.seen[0]["neuraxis_steps"] == before["steps"]
    off = load_resumed(run.dir / "config.yaml", ["total_steps=160", "prometheus.port=null"])
    assert prepare(off, run.dir).run().summary["status"] == "finished"


def test_a_port_that_is_taken_is_refused_before_a_run_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        key = f"prometheus.port={server.getsockname()[1]}"
        words = ["train", *SMALL, key, f"run_dir={tmp_path}/run"]
        assert exit_codes.exit_code(main.neuraxis, words) == 2
    at = "cannot listen at prometheus.address=127.0.0.1 (Address already in use)"
    assert capsys.readouterr().err == f"error: {key}: {at}; expected a free port\n"
    words = [*words, "prometheus.address=nobody.invalid"]
    assert exit_codes.exit_code(main.neuraxis, words) == 2
    line = rf"error: {key}: cannot listen at prometheus.address=nobody.invalid \(.+\n"
    assert re.fullmatch(line, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_a_port_that_is_taken_later_does_not_stop_a_run(
    tmp_path: Path, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    session = prepare(config(*SMALL, f"prometheus.port={port}", f"run_dir={tmp_path}/run"))
    with socket.create_server(("127.0.0.1", port)):
        assert session.run().summary["status"] == "finished"
    says = f"prometheus.port={port}: Address already in use; the run goes on"
    assert [record.getMessage() for record in caplog.records] == [says]


def test_a_sweep_has_more_runs_than_a_port(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "sweep=ppo", "prometheus.port=9100"]
    assert exit_codes.exit_code(main.neuraxis, words) == 2
    says = "error: prometheus.port=9100: expected null in a sweep, whose trials run side by side"
    assert capsys.readouterr().err.startswith(says)
