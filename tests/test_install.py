"""What runs without the extras, and without what only POSIX has."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from neuraxis import training
from neuraxis.core.errors import EXTRAS, installed
from neuraxis.training.cli import exit_codes, main
from neuraxis.training.sweeps import sweep
from neuraxis.training.sweeps.trials import Sweep

from .runs import write_run

PROGRAM = """
    import os, signal, sys
    import filelock, gymnasium, torch  # they have their own ways on Windows
    from neuraxis.core.errors import EXTRAS

    posix = ("fcntl", "grp", "pty", "pwd", "resource", "termios")
    sys.modules.update(dict.fromkeys([*EXTRAS, *posix]))
    for name in ("SIGHUP", "pthread_sigmask"):
        delattr(signal, name)
    for name in ("fork", "geteuid", "getuid", "register_at_fork", "set_blocking"):
        delattr(os, name)
    from neuraxis.training.cli.main import main
    for line in sys.argv[1:]:
        sys.argv = line.split()
        try:
            main()
        except SystemExit as end:
            assert not end.code, line
    from neuraxis import load
    from neuraxis.training.trained_run import TrainedRun
    assert load("policy.safetensors").predict([0.0] * 4)[0] in (0, 1)
    try:
        TrainedRun.open("run").evaluate(1, values=True)
    except ValueError as error:
        assert str(error) == "values: PIL is not installed; pip install 'neuraxis[video]'"
    else:
        raise AssertionError("they were drawn")
"""
LINES = (
    "neuraxis train num_envs=2 total_steps=64 eval.final_episodes=1 run_dir=run",
    "neuraxis evaluate run --episodes 1",
    "neuraxis export run --policy policy.safetensors",
    "neuraxis resume run total_steps=600",
    "neuraxis list",
)
MISSING = {
    "train ray.workers=2": "ray.workers=2: ray | ray",
    "train learner.count=2": "learner.count=2: ray | ray",
    "train wandb.mode=online": "wandb.mode=online: wandb | wandb",
    "train init.from=wandb:team/project/weights:best": ":best: wandb | wandb",
    "train agent=sb3/ppo": "agent=sb3/ppo: ModuleNotFoundError: | sb3",
    "baseline": "neuraxis baseline: stable_baselines3 | sb3",
    "baseline agent=sb3/ppo wandb.mode=online": "neuraxis baseline: stable_baselines3 | sb3",
    "sweep sweep=ppo": "neuraxis sweep: ray | ray",
    "train prometheus.port=9100": "prometheus.port=9100: prometheus_client | prometheus",
    "compare run": "neuraxis compare: scipy | plots",
    "compare run --wandb project": "--wandb project: wandb | wandb",
    "compare wandb:team/project": "neuraxis compare: scipy | plots",
    "watch run --once": "neuraxis watch: plotext | plots",
    "export run --wandb": "the upload to W&B: wandb | wandb",
}


def test_the_core_alone_without_posix_trains_and_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows after `pip install neuraxis`; where wandb is missing, a note says so."""
    monkeypatch.chdir(tmp_path)
    words = [sys.executable, "-c", textwrap.dedent(PROGRAM), *LINES]
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    (note,) = [line for line in ended.stderr.splitlines() if line.startswith("note: ")]
    assert "pip install 'neuraxis[wandb]'" in note
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["steps"] >= 600


@pytest.fixture
def no_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] in EXTRAS or name.startswith("neuraxis.training.interop."):
            monkeypatch.delitem(sys.modules, name)
    for name in EXTRAS:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("no_extras")
@pytest.mark.parametrize("line", MISSING)
def test_what_needs_a_missing_extra_says_so_in_one_line(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run", 1.0)
    before = sorted(tmp_path.rglob("*"))
    says, extra = MISSING[line].split(" | ")
    assert exit_codes.exit_code(main.neuraxis, line.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and says in err and err.endswith(f"; pip install 'neuraxis[{extra}]'\n")
    assert err.startswith("error: ") and err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("no_extras")
def test_so_it_does_from_python(tmp_path: Path) -> None:
    with pytest.raises(ImportError, match=r"stable_baselines3 .* 'neuraxis\[sb3\]'"):
        training.baseline(total_steps=1)
    kept = Sweep(tmp_path, (), sweep.load_sweep("ppo", []))
    with pytest.raises(ValueError, match=r"neuraxis sweep: ray .* 'neuraxis\[ray\]'"):
        sweep.run(kept, print)


def test_a_folder_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B makes a folder `wandb` in the current one, which Python would import as a namespace."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "folder_alone").mkdir()
    assert installed("click") and not installed("folder_alone")
