"""TensorBoard's event files, as TensorBoard itself reads them."""

from __future__ import annotations

import io
import json
import logging
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from neuraxis.configs import load_resumed
from neuraxis.training import prepare, train
from neuraxis.training.cli import exit_codes, main
from neuraxis.training.storage.run import Run
from neuraxis.training.tracking import tensorboard_mirror

from .helpers import OnUpdate, config

SMALL = (
    *("total_steps=160", "num_envs=2", "agent.n_steps=16", "log_interval_steps=32", "seed=1"),
    *("eval.interval_steps=64", "eval.episodes=1", "eval.final_episodes=1", "env.time_limit=10"),
    *("checkpoint.interval_steps=64", "checkpoint.keep=9", "wandb.mode=disabled"),
)
Points = Counter[tuple[str, int, float]]
"""Name, step and value, rounded to what single precision keeps, of everything in a file."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with histograms and one film."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    more = "wandb.histogram_interval_steps=100", "eval.video_interval_steps=128"
    train(*SMALL, *more, "tensorboard.enabled=true", run_dir=str(folder))
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(trained, "run"))


def reader(folder: Path) -> EventAccumulator:
    every: dict[str, int] = dict.fromkeys(("scalars", "images", "histograms", "tensors"), 0)
    return EventAccumulator(str(folder), every).Reload()


def shown(events: EventAccumulator) -> Points:
    """The scalars that TensorBoard shows."""
    return Counter(
        (name, event.step, float(f"{event.value:.5g}"))
        for name in events.Tags()["scalars"]
        for event in events.Scalars(name)
    )


def logged(folder: Path) -> Points:
    """The same of metrics.jsonl."""
    return Counter(
        (name, row["steps"], float(f"{value:.5g}"))
        for row in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        for name, value in row.items()
        if name != "steps" and value is not None
    )


def test_every_row_is_there_at_its_step_and_time(run: Path) -> None:
    events = reader(run / "tensorboard")
    assert shown(events) == logged(run)
    begin = tensorboard_mirror._begin(run)
    seconds = events.Scalars("time/seconds")
    assert [e.wall_time - begin for e in seconds] == pytest.approx([e.value for e in seconds], 1e-3)
    assert begin > 1.7e9, "this century"


def test_histograms_and_films_are_those_of_the_run(run: Path) -> None:
    events = reader(run / "tensorboard")
    files = {int(file.stem[5:]): file for file in run.glob("histograms/*.json")}
    assert files
    for step, file in files.items():
        for name, (counts, edges) in json.loads(file.read_text()).items():
            (found,) = (e.histogram_value for e in events.Histograms(name) if e.step == step)
            assert (found.bucket, found.bucket_limit) == (counts, edges[1:])
            assert (found.min, found.max, found.num) == (edges[0], edges[-1], sum(counts))
    (film,) = run.glob("videos/*.mp4")
    (picture,) = events.Images("videos/evaluate")
    gif: Any = Image.open(io.BytesIO(picture.encoded_image_string))
    assert picture.step == int(film.stem[5:])
    assert gif.format == "GIF" and gif.size == (picture.width, picture.height) == (600, 400)
    assert 2 <= gif.n_frames <= 11, "at most every frame of 10 steps"


def test_the_settings_are_text_and_hyperparameters(run: Path) -> None:
    events = reader(run / "tensorboard")
    (text,) = events.Tensors("config/text_summary")
    assert b"n_steps: 16" in text.tensor_proto.string_val[0]
    start = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    assert b"agent.n_steps" in start and b"CartPole-v1" in start


def test_a_resume_drops_the_rows_that_metrics_jsonl_drops(run: Path) -> None:
    """From a checkpoint in the middle; also in a TensorBoard that is open all the time."""
    events = reader(run / "tensorboard")
    before = shown(events)
    middle = sorted(run.glob("checkpoints/step_*"))[0].name
    cfg = load_resumed(run / "config.yaml", ["total_steps=192", "eval.video_interval_steps=0"])
    prepare(cfg, run, middle).run()
    assert shown(reader(run / "tensorboard")) == logged(run) != before
    assert shown(events.Reload()) == logged(run)
    sizes = sorted(file.stat().st_size > 0 for file in (run / "tensorboard").iterdir())
    assert sizes == [False, True]


def test_an_old_run_is_exported_once(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    native = reader(run / "tensorboard")
    shutil.rmtree(run / "tensorboard")
    assert exit_codes.exit_code(main.neuraxis, ["export", "run", "--tensorboard", "logs"]) == 0
    assert "tensorboard --logdir logs" in capsys.readouterr().out
    exported = reader(Path("logs", "run"))
    assert shown(exported) == shown(native) and exported.Tags() == native.Tags()
    assert exit_codes.exit_code(main.neuraxis, ["export", "run", "--tensorboard", "logs"]) == 2
    says = "error: --tensorboard logs: logs/run exists; give another folder\n"
    assert capsys.readouterr().err == says
    assert [path.name for path in Path("logs").iterdir()] == ["run"]


def test_an_export_that_fails_leaves_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    next(run.glob("videos/*.mp4")).write_text("no film")
    assert exit_codes.exit_code(main.neuraxis, ["export", "run", "--tensorboard", "logs"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "ffmpeg" in line
    assert list(Path("logs").iterdir()) == []


@pytest.mark.parametrize("when", ["start", "later"])
def test_a_disk_that_is_full_is_said_once_and_training_goes_on(
    when: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "my run"

    def fill(run: Run) -> None:
        for file in (folder / "tensorboard").glob("*tfevents*"):
            if not file.is_symlink():
                file.unlink()
                file.symlink_to("/dev/full")

    words = (*SMALL, "eval.interval_steps=0", "tensorboard.enabled=true", f"run_dir={folder}")
    session = prepare(config(*words))
    if when == "start":
        (folder / "tensorboard").write_text("a file where a folder should be")
    with caplog.at_level(logging.WARNING):
        ended = session.run([OnUpdate(fill)] if when == "later" else [])
    assert ended.summary["status"] == "finished"
    (warning,) = [r.message for r in caplog.records if "tensorboard" in r.message]
    reason = "No space left on device" if when == "later" else "File exists"
    assert f"{reason}; metrics.jsonl is whole, `neuraxis export '{folder}' --tensor" in warning


def test_without_the_package_a_run_is_refused_before_it_begins(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard")
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for command, key in (
        ("train tensorboard.enabled=true run_dir=new", "tensorboard.enabled=true"),
        ("baseline tensorboard.enabled=true run_dir=new", "tensorboard.enabled=true"),
        ("export run --tensorboard new", "--tensorboard"),
    ):
        assert exit_codes.exit_code(main.neuraxis, command.split()) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {key}: ") and "pip install 'neuraxis[tensorboard]'" in line
        assert not Path("new").exists()
