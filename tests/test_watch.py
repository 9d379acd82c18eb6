"""`neuraxis watch`: where runs stand, read from what they write."""

import io
import json
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from neuraxis.core.errors import RunError
from neuraxis.training import train
from neuraxis.training.analysis import watch
from neuraxis.training.cli import exit_codes, main

from .helpers import OnUpdate
from .runs import write_run


def neuraxis(*words: Any) -> int:
    return exit_codes.exit_code(main.neuraxis, list(map(str, words)))


def look(folder: Path) -> watch.Look:
    (only,) = watch.look([folder], {}).values()
    return only


def append(folder: Path, **row: float) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def text(looks: dict[Path, watch.Look], room: int | None = None) -> str:
    console = Console(file=io.StringIO(), width=100)
    with console.capture() as capture:
        console.print(watch.view(looks, "evaluate/return", 100, room))
    return capture.get()


def test_where_a_run_stands(tmp_path: Path) -> None:
    write_run(tmp_path / "a", None, status="", curve=(5, 30, 20))
    append(tmp_path / "a", steps=3_500, **{"time/seconds": 7.0, "episode/return": 21.0})
    config = tmp_path / "a" / "config.yaml"
    config.write_text(config.read_text().replace('"total_steps": 3000', '"total_steps": 10000'))
    shown = text(watch.look([tmp_path], {}))
    line = next(line for line in shown.splitlines() if " a " in line)
    # 6,500 steps are left at 500 a second
    assert line.split() == [
        *("a", "running", "3,500", "35%", "500", "21", "20", "30", "0:07", "0:13"),
    ]
    assert "10,000" in shown, "the end of the curve's axis"
    assert re.search("[\u2801-\u28ff]", shown), "a curve in braille"


@pytest.mark.parametrize("status", ["finished", "interrupted", "failed"])
def test_how_a_run_ended(status: str, tmp_path: Path) -> None:
    found = look(write_run(tmp_path, 3.0, status=status))
    assert (found.ended, found.status) == (True, status)


def test_the_speed_of_a_run_that_ended_is_that_of_the_whole(tmp_path: Path) -> None:
    write_run(tmp_path, 3.0)
    append(tmp_path, steps=3_000, **{"time/seconds": 6.0, "time/steps_per_second": 9_876.0})
    shown = text(watch.look([tmp_path], {}))
    assert " 500 " in shown and "9,876" not in shown


def test_a_run_that_goes_on_after_a_resume_has_not_ended(tmp_path: Path) -> None:
    write_run(tmp_path, 3.0, status="interrupted")
    append(tmp_path, steps=4_000)
    assert look(tmp_path).status == "running"
    write_run(tmp_path, 3.0)
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace('"total_steps": 3000', '"total_steps": 9000'))
    assert look(tmp_path).status == "running", "it was given more steps"


def test_a_run_that_writes_nothing_is_silent(tmp_path: Path) -> None:
    write_run(tmp_path, status="")
    before = time.time() - 150
    for file in tmp_path.iterdir():
        os.utime(file, (before, before))
    found = look(tmp_path)
    assert (found.ended, found.status) == (False, "silent 2:30")


def test_a_run_without_a_line_is_shown(tmp_path: Path) -> None:
    write_run(tmp_path, status="", curve=())
    (tmp_path / "metrics.jsonl").unlink()
    shown = text(watch.look([tmp_path], {}))
    assert "running" in shown and "no evaluate/return yet" in shown


def test_a_run_that_ended_without_a_curve_will_have_none(tmp_path: Path) -> None:
    write_run(tmp_path, 3.0, curve=())
    shown = text(watch.look([tmp_path], {}))
    assert "no curve of evaluate/return" in shown and "yet" not in shown


def test_only_what_changed_is_read_again(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 1.0)
    write_run(tmp_path / "b", status="")
    first = watch.look([tmp_path], {})
    append(tmp_path / "b", steps=3_500)
    second = watch.look([tmp_path], first)
    assert second[tmp_path / "a"] is first[tmp_path / "a"]
    assert second[tmp_path / "b"].run.steps == 3_500
    (tmp_path / "b" / "metrics.jsonl").write_text('{"steps": 1000}\n')  # `resume` has cut it
    assert watch.look([tmp_path], second)[tmp_path / "b"].run.steps == 1_000


def test_runs_that_have_ended_give_way(tmp_path: Path) -> None:
    for number in range(12):
        write_run(tmp_path / f"r{number:02}", 1.0, status="finished" if number else "")
    write_run(tmp_path / "z", status="")
    shown = text(watch.look([tmp_path], {}), room=8)
    assert "and 5 more" in shown
    lines = [line.split()[0] for line in shown.splitlines() if "%" in line]
    assert lines == ["r00", "z", "r01", "r02", "r03", "r04", "r05", "r06"]


def test_once_shows_and_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", status="")
    assert neuraxis("watch", tmp_path, "--once") == 0
    assert "running" in capsys.readouterr().out


def test_it_ends_when_all_runs_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run ends while it is watched, and another joins and ends later."""
    monkeypatch.setattr(watch, "INTERVAL_SECONDS", 0.02)
    write_run(tmp_path / "a", status="")
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=100, height=60)
    watching = threading.Thread(
        target=watch.watch, args=([tmp_path],), kwargs={"console": terminal}
    )
    watching.start()
    deadline = time.monotonic() + 20

    def wait_for(line: str) -> None:
        while not re.search(line, screen.getvalue()):
            assert watching.is_alive() and time.monotonic() < deadline
            time.sleep(0.02)

    write_run(tmp_path / "late", status="")
    wait_for("late.*running")  # before the other one ends, or all that were seen would have
    write_run(tmp_path / "a", 1.0)
    wait_for("finished")
    assert watching.is_alive()
    write_run(tmp_path / "late", 1.0)
    watching.join(20)
    assert not watching.is_alive()
    assert re.search("late.*finished", screen.getvalue())


def test_ctrl_c_is_the_way_to_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    write_run(tmp_path, status="")
    monkeypatch.setattr(watch.time, "sleep", interrupt)
    assert neuraxis("watch", tmp_path) == 0
    assert "running" in capsys.readouterr().out, "without a terminal the last view is printed"


def test_a_training_can_be_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["num_envs=2", "agent.n_steps=32", "agent.batch_size=64", "eval.final_episodes=2"]
    small += ["wandb.mode=disabled", "env.time_limit=50", "log_interval_steps=100"]
    seen = []
    looking = OnUpdate(lambda run: seen.append(look(run.dir)))
    train(*small, total_steps=500, run_dir="run", callbacks=[looking])
    steps = [found.run.steps for found in seen]
    assert not any(found.ended for found in seen)
    assert steps == sorted(steps) and steps[-1] > 0
    assert neuraxis("watch", "run") == 0, "it has ended, so there is nothing to wait for"
    assert re.search("run +finished", capsys.readouterr().out)


def test_wrong_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert neuraxis("watch", tmp_path / "nowhere") == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/nowhere: no such run")
    write_run(tmp_path, 1.0)
    (tmp_path / "summary.json").write_text("{")
    assert neuraxis("watch", tmp_path) == 1
    assert "summary.json: damaged" in capsys.readouterr().err
    with pytest.raises(RunError):
        look(tmp_path)
