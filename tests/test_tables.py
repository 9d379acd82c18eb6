"""Every table of the command line at 60, 80 and 120 columns: no line is longer, no number cut."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from neuraxis.training.analysis.terminal import Column, fit, shortened
from neuraxis.training.cli import exit_codes, main, output
from neuraxis.training.cli.sweep_display import SweepDisplay, show_end
from neuraxis.training.sweeps.ranges import parse_sweep
from neuraxis.training.sweeps.trials import Sweep, Trial, ranked

from .runs import write_run

WIDTHS = 60, 80, 120
LONG = {
    "ppo-mlp-transformer": ("agent=ppo", "network=transformer", "agent.learning_rate=0.00025"),
    "ppo-mlp-transformer-2": ("agent=ppo", "network=transformer", "agent.learning_rate=0.0005"),
    "dqn-mlp-lstm": ("agent=dqn", "network=lstm", "agent.learning_rate=0.00025"),
}
RETURN = -1234.5678


def neuraxis(*words: Any) -> int:
    return exit_codes.exit_code(main.neuraxis, list(map(str, words)))


@pytest.fixture(params=WIDTHS)
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """So many columns, which a command learns from COLUMNS."""
    monkeypatch.setenv("COLUMNS", str(request.param))
    return request.param


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Groups with names as they come: three settings, five seeds."""
    root = tmp_path_factory.mktemp("runs")
    for number, (name, words) in enumerate(LONG.items()):
        scores = [RETURN + number + seed / 8 for seed in range(5)]
        for seed, score in enumerate(scores):
            folder = root / "CartPole-v1" / name / f"20261123-09253{number}-s{seed}"
            write_run(folder, score, f"seed={seed}", *words, curve=(-9.5, score))
    return root


def shown(capsys: pytest.CaptureFixture[str], width: int) -> list[str]:
    """The lines that were printed, none longer than the terminal."""
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if cell_len(line) > width] == []
    return lines


def test_compare(runs: Path, width: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert neuraxis("compare", runs) == 0
    text, verdict, _ = capsys.readouterr().out.partition("\nCartPole-v1: ")
    assert verdict, "below the table"
    lines = text.splitlines()
    assert [line for line in lines if cell_len(line) > width] == []
    for number in range(3):
        iqm = RETURN + number + 0.25
        assert sum(f"{iqm:.4g} [" in line for line in lines) >= 1
    assert len(re.findall(r" 1\.00 \[0\.64, 1\.00\]", text)) == 2
    for words in LONG.values():
        assert words[-1].removeprefix("agent.") in text
    named = re.search(r"no room for: (.*)", text)
    assert named is None if width == 120 else named is not None and "CPU" in named[1]
    assert ("2,000" in text) == (width > 60) == ("steps" not in (named[1] if named else ""))


def test_without_a_terminal_each_row_is_a_line(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert neuraxis("compare", runs) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if " CartPole-v1 " in line]
    assert len(rows) == 3 and all(line.split()[-1] == "0:02" for line in rows)


def test_watch(runs: Path, width: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert neuraxis("watch", runs, "--once") == 0
    rows = [line.split() for line in shown(capsys, width) if "finished" in line]
    names = [row[0] for row in rows]
    assert len({*names}) == 15 and all("…" in name for name in names) == (width < 120)
    assert all(name[:3] in ("ppo", "dqn") and re.search(r"-s\d$", name) for name in names)
    for row in rows:
        assert row[1:4] == ["finished", "2,000", "100%"]
    found = sorted(row[{60: 4, 80: 6, 120: 6}[width]] for row in rows)
    scores = [RETURN + number + seed / 8 for number in range(3) for seed in range(5)]
    assert found == sorted(f"{score:.4g}" for score in scores)


def test_names_that_would_look_the_same_stay_whole() -> None:
    columns = [Column("run", least=8), Column("steps", number=True)]
    rows = [[f"{'x' * 13}{middle}{'x' * 13}", "1,234,567"] for middle in "ab"]
    shown = lines_of(fit(columns, rows, 30))
    assert {row[0] for row in rows} <= {*shown} and shown.count("  1,234,567") == 2
    told_apart = [[f"{name}-s{seed}", steps] for seed, (name, steps) in enumerate(rows)]
    assert lines_of(fit(columns, told_apart, 30))[3].split() == ["xxxxxxxx…xxxxx-s0", "1,234,567"]
    assert shortened("abcdefghij", 5) == "ab…ij" and shortened("abcde", 5) == "abcde"


def lines_of(table: Any, width: int = 30) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(table)
    return capture.get().splitlines()


def test_list(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert neuraxis("list") == 0
    text = "\n".join(shown(capsys, width))
    sentence = "Deep Q-learning: double, dueling, n-step, prioritised, noisy, distributional are"
    assert sentence in re.sub(r"\s+", " ", text)
    row = re.search(
        r"^ ?r2d2  .*?Discrete, MultiDiscrete, MultiBinary(.*?)^ ?\w", text, re.M | re.S
    )
    assert row is not None


def test_results(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {"steps": 1_000_000.0, "seconds": 86_400.25, "steps_per_second": 11.5}
    for policy in ("evaluate", "best"):
        own = {"return": RETURN, "return_std": 123.456, "episodes": 100, "cut": 37}
        metrics |= {f"{policy}/{name}": float(value) for name, value in own.items()}
    output.results(metrics | {"best/steps": 950_000.0, "evaluate/length": 1_000.0})
    lines = shown(capsys, width)
    assert lines[0].split()[:5] == ["evaluate/return", "-1235", "±", "123.5", "over"]
    best = "37 of them cut, checkpoint of step 950,000, not above the newest"
    assert best in re.sub(r"\s+", " ", " ".join(lines))
    assert lines[-1].split() == ["steps/s", "12"]


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Three trials of two seeds: one has finished, one goes on, one has failed."""
    values = {"choice": [0.00025, 0.0005, 10.0]}
    space = {"agent.learning_rate": values, "agent.gaussian.init_log_std": {"choice": [-0.5]}}
    made = Sweep(tmp_path, ("total_steps=2000",), parse_sweep({"parameters": space, "seeds": 2}))
    for number, rate in enumerate(values["choice"]):
        trial = Trial.create(made, number, {"agent.learning_rate": rate, "agent.ent_coef": 0.01})
        if number == 0:
            for seed in range(2):
                write_run(trial.place / f"s{seed}", RETURN, f"seed={seed}", curve=(1.0, 2.0))
            trial.scores, trial.ended = [(2_000, RETURN)], "finished"
        elif number == 1:
            write_run(trial.place / "s0", status="", curve=(1.0,))
        else:
            trial.ended, trial.reason = "failed", "loss/value is not finite"
        trial.write()
    return made


def test_the_end_of_a_sweep(sweep: Sweep, width: int, capsys: pytest.CaptureFixture[str]) -> None:
    show_end(sweep, ranked(sweep.trials(), "max"), "runs/sweeps/mine")
    lines = shown(capsys, width)
    first = next(line for line in lines if "trial_00" in line)
    assert "finished (best)" in first
    text = "\n".join(lines)
    assert re.search(r"-1235 +-1235 -1235 +4,000/4,000", text)
    assert "learning_rate=0.00025 ent_coef=0.01" in text
    assert "trial_02: loss/value is not finite" in text
    assert "  neuraxis compare runs/sweeps/mine" in text


def test_a_sweep_while_it_runs(sweep: Sweep, width: int) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width, height=40)
    with SweepDisplay(sweep, console) as display:
        display("trial_00  2,000/2,000 steps")
        display.live.refresh()
        lines = [Text.from_ansi(line).plain for line in screen.getvalue().splitlines()]
    assert [line for line in lines if cell_len(line.rstrip("\r")) > width] == []
    text = "\n".join(lines)
    assert re.search(r"trial_00 +finished \(best\)", text)
    assert re.search(r"trial_01 +running", text)
    # of two runs of 2,000 steps 3,000 are left, at 500 a second
    assert re.search(r"1 +1 +1,000/4,000 +0:06", text)
    assert "trial_02: loss/value is not finite" in text
    assert "trial_00  2,000/2,000 steps" in text


def test_a_sweep_that_is_longer_than_the_terminal(sweep: Sweep) -> None:
    """What has ended gives way to what runs."""
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=8)
    display = SweepDisplay(sweep, console)
    text = "\n".join(lines_of(display._view(), 120))
    assert "trial_01" in text and "trial_02" not in text and "more" in text


def test_without_a_terminal_a_sweep_tells_each_change(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    with SweepDisplay(sweep) as display:
        display("trial_00  1,000/2,000 steps")
    assert capsys.readouterr().err == "trial_00  1,000/2,000 steps\n"
