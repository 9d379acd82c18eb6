"""A damaged run is named and left out by compare and watch, and the rest is shown."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neuraxis.configs.text import parse
from neuraxis.core.errors import RunError
from neuraxis.training.analysis import watch
from neuraxis.training.analysis.compare import compare
from neuraxis.training.cli import exit_codes, main
from neuraxis.training.storage import stored_run

from .runs import write_run


def neuraxis(*words: object) -> int:
    return exit_codes.exit_code(main.neuraxis, list(map(str, words)))


def rows(*steps: Any) -> Callable[[Path], object]:
    """Writes rows with these steps, as JSON text."""
    lines = "".join(f'{{"steps": {text}, "evaluate/return": 1}}\n' for text in steps)
    return lambda run: (run / "metrics.jsonl").write_text(lines)


def written(name: str, text: str) -> Callable[[Path], object]:
    return lambda run: (run / name).write_text(text)


def setting(key: str, value: Any) -> Callable[[Path], object]:
    """Changes a setting of config.yaml, which is JSON here."""

    def change(run: Path) -> None:
        *parents, last = key.split(".")
        config = node = json.loads((run / "config.yaml").read_text())
        for parent in parents:
            node = node[parent]
        node[last] = value
        (run / "config.yaml").write_text(json.dumps(config))

    return change


def fifo(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    os.mkfifo(run / "metrics.jsonl")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
DIGITS = "1" * 5_000
DAMAGE: dict[str, Callable[[Path], object]] = {
    "rows without steps": written("metrics.jsonl", '{"evaluate/return": 1}\n'),
    "null steps": rows("null"),
    "text steps": rows('"many"'),
    "NaN steps": rows(1, "NaN"),
    "infinite steps": rows("-Infinity"),
    "steps of 5,000 digits": rows(DIGITS),
    "steps of 4,000 digits": rows(DIGITS[:4_000]),
    "steps that are a list": rows("[1]"),
    "rows that are no objects": written("metrics.jsonl", "[1]\n"),
    "rows of deep JSON": written("metrics.jsonl", "[" * 100_000 + "\n"),
    "no file of rows": fifo,
    "summary of deep JSON": written("summary.json", '{"a":' * 100_000),
    "summary without end": written("summary.json", " " * 2_000_000),
    "summary with text steps": written("summary.json", '{"status": "finished", "steps": "1"}'),
    "summary with NaN steps": written("summary.json", '{"status": "finished", "steps": NaN}'),
    "summary with a status that is none": written("summary.json", '{"status": {"a": 1}}'),
    "settings of deep YAML": written("config.yaml", "[" * 20_000),
    "settings of deep mappings": written("config.yaml", "{a: " * 20_000),
    "settings with aliases of aliases": written("config.yaml", BOMB),
    "settings that contain themselves": written("config.yaml", "a: &a [*a]"),
    "settings without end": written("config.yaml", "# " + "x" * 2_000_000),
    "settings of 5,000 digits": written("config.yaml", f"total_steps: {DIGITS}"),
    "settings that are no text": lambda run: (run / "config.yaml").write_bytes(b"\xff\xfe"),
    "settings with a set": written("config.yaml", "a: !!set {b, c}"),
    "settings with a date": written("config.yaml", "a: !!timestamp 2020-01-01"),
    "total_steps that are text": setting("total_steps", "many"),
    "total_steps that are none": setting("total_steps", None),
    "blocks without names": setting("network.blocks", [{"size": 1}, 3]),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_run_is_named_and_the_rest_is_shown(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, name in enumerate(("a", "bad", "z")):
        write_run(tmp_path / name, 1.0, f"seed={seed}")
    DAMAGE[kind](tmp_path / "bad")
    before = time.monotonic()
    comparison = compare([tmp_path])
    (note,) = comparison.notes
    assert note.startswith(f"Left out, damaged: {tmp_path / 'bad'}") and len(note) < 500
    assert [len(runs) for runs in comparison.cells.values()] == [2]
    assert neuraxis("compare", tmp_path) == neuraxis("watch", tmp_path, "--once") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "bad damaged" in out and "a finished" in out and "z finished" in out
    assert f"{tmp_path / 'bad'}" in out
    assert time.monotonic() - before < 20, "a bomb of aliases took 62 s"
    for command in ("compare", "watch"):
        assert neuraxis(command, tmp_path / "bad") in (1, 2), "there is nothing else to show"
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and str(tmp_path / "bad") in err
        assert len(err) < 500


def test_strange_values_are_no_measurements(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", 1.0)
    values = ["1e308", "-1e308", DIGITS[:4_000], "NaN", "null", '"x"', "[[1]]", "true"]
    lines = [
        f'{{"steps": {step}, "evaluate/return": {value}, "time/seconds": {value}}}\n'
        for step, value in enumerate(values)
    ]
    (tmp_path / "a" / "metrics.jsonl").write_text("".join(lines))
    assert neuraxis("compare", tmp_path, "--out", tmp_path / "report") == 0
    assert neuraxis("watch", tmp_path, "--once") == 0


def test_a_label_is_no_formula(tmp_path: Path) -> None:
    for seed, name in enumerate((r"$\frac{$x", "y")):
        write_run(tmp_path / str(seed), 1.0)
        setting("env.kwargs", {"name": name})(tmp_path / str(seed))
        setting("agent.name", name)(tmp_path / str(seed))
        setting("env.id", r"$\frac{$x")(tmp_path / str(seed))
    words = ["--mixed", "--by", "agent.name", "--out", tmp_path / "report"]
    assert neuraxis("compare", tmp_path, *words) == 0
    assert r"$\frac{$x" in (tmp_path / "report" / "table.csv").read_text()


def test_a_run_that_is_damaged_while_it_is_watched(tmp_path: Path) -> None:
    write_run(tmp_path / "a", status="")
    write_run(tmp_path / "b", status="")
    looks = watch.look([tmp_path], {})
    (tmp_path / "b" / "metrics.jsonl").write_text("{\n")
    looks = watch.look([tmp_path], looks)
    assert [look.status for look in looks.values()] == ["running", "damaged"]
    assert "metrics.jsonl: damaged, not JSON" in looks[tmp_path / "b"].damage
    (tmp_path / "b" / "metrics.jsonl").write_text('{"steps": 9}\n')
    looks = watch.look([tmp_path], looks)
    assert looks[tmp_path / "b"].run.steps == 9


def test_relative_and_absolute_folders_are_watched_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", 1.0)
    write_run(tmp_path / "b", 1.0)
    monkeypatch.chdir(tmp_path)
    assert neuraxis("watch", "a", tmp_path / "b", "--once") == 0


@pytest.mark.parametrize("text", ["!!set {a}", "!!binary aGk=", "!!omap [a: 1]", BOMB])
def test_yaml_of_other_values_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


def test_a_trial_of_a_damaged_run_is_one_line(tmp_path: Path) -> None:
    write_run(tmp_path, 1.0)
    rows('"x"')(tmp_path)
    with pytest.raises(RunError, match="damaged, row 1 of its metrics has no steps"):
        stored_run.read(tmp_path)
