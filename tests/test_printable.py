"""Names that somebody else gave steer neither the terminal nor rich."""

from __future__ import annotations

import io
import json
import logging
import os
from pathlib import Path

import pytest
from rich.console import Console

from neuraxis.core.printable import printable
from neuraxis.training.analysis import report, watch
from neuraxis.training.analysis.compare import compare
from neuraxis.training.cli import exit_codes, main
from neuraxis.training.cli.sweep_display import show_end
from neuraxis.training.sweeps.ranges import Range, SweepConfig
from neuraxis.training.sweeps.trials import Sweep, Trial

from .runs import write_run

EVIL = "[red]x\x1b[2J\x1b]0;title\x07\r\n\u202e[/]"
SHOWN = r"[red]x\x1b[2J\x1b]0;title\x07\r\n\u202e[/]"


def neuraxis(*words: object) -> int:
    return exit_codes.exit_code(main.neuraxis, list(map(str, words)))


def harmless(text: str) -> None:
    steering = {c for c in text if not c.isprintable() and c != "\n"}
    assert not steering and "[red]" in text.replace("\n", "")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs whose names, labels and statuses would steer a terminal."""
    folder = tmp_path / "runs"
    for number, status in enumerate(("finished", EVIL)):
        place = write_run(folder / f"{EVIL}{number}", 3.0, f"seed={number}", status=status)
        config = json.loads((place / "config.yaml").read_text())
        config["env"]["id"] = config["agent"]["name"] = EVIL
        (place / "config.yaml").write_text(json.dumps(config))
    return folder


def test_what_steers_is_written_out() -> None:
    assert printable(EVIL) == SHOWN
    assert printable("\udce9") == r"\udce9" and printable("Grüße, 世界 'ok'") == "Grüße, 世界 'ok'"


def test_watch(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert neuraxis("watch", runs, "--once", "--metric", EVIL) == 0
    harmless(capsys.readouterr().out)
    screen = io.StringIO()
    console = Console(file=screen, width=900, color_system=None)
    console.print(watch.view(watch.look([runs], {}), EVIL, 900))
    assert screen.getvalue().count(SHOWN) == 3, (
        "a status, and the metric as a column and in the chart"
    )


def test_compare(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert neuraxis("compare", runs, "--out", tmp_path / EVIL) == 0
    out = capsys.readouterr().out
    harmless(out)
    assert SHOWN in out.replace("\n", "")
    screen = io.StringIO()
    console = Console(file=screen, width=300, color_system=None)
    report.show(compare([runs]), console)
    harmless(screen.getvalue())


def test_errors_and_warnings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (["evaluate", tmp_path / EVIL], ["train", f"seed={EVIL}"], [EVIL]):
        for traceback in ("0", "1"):
            monkeypatch.setenv("NEURAXIS_TRACEBACK", traceback)
            assert neuraxis(*words) == 2
            harmless(capsys.readouterr().err)
    record = logging.LogRecord("neuraxis", logging.WARNING, "", 0, "%s\n%s", (EVIL, "b"), None)
    assert main.ShownFormatter().format(record) == f"{SHOWN}\nb".replace(r"\n\u202e", "\n\\u202e")


def test_a_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = SweepConfig(parameters={EVIL: Range(choice=(EVIL,))}, metric=EVIL)
    trial = Trial(tmp_path / f"trial_{EVIL}", {EVIL: EVIL}, origin=EVIL)
    show_end(Sweep(tmp_path, (), config), [trial], os.fspath(tmp_path))
    harmless(capsys.readouterr().out)
