"""A stranger's run imports and executes nothing unless it is trusted; one's own needs no word."""

from __future__ import annotations

import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import yaml
from gymnasium.envs.registration import EnvSpec

from neuraxis import load, train
from neuraxis.configs import load_file, loader
from neuraxis.envs import EnvConfig, ids
from neuraxis.training.cli import exit_codes, main
from neuraxis.training.sweeps.trials import Sweep

from .wandb_server import serving

SMALL = ["wandb.mode=disabled", "num_envs=2", "total_steps=64", "agent.n_steps=16"]
SMALL += ["eval.final_episodes=1", "device=cpu"]
EVIL = "open('executed', 'w').close()\n"
ENVIRONMENT = (
    "import gymnasium\n"
    "gymnasium.register('Own-v0', 'gymnasium.envs.classic_control.cartpole:CartPoleEnv', \n"
    "                   max_episode_steps=20)\n"
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run in the current folder, and modules there that leave the file `executed`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in ("evil_env", "evil_agent", "evil_block"):
        Path(f"{name}.py").write_text(EVIL)
    Path("own_env.py").write_text(ENVIRONMENT)
    Path("evil").mkdir()
    Path("evil/module.py").write_text(EVIL)
    train(*SMALL, "run_dir=run")
    yield tmp_path / "run"
    gymnasium.registry.pop("Own-v0", None)
    for name in ("own_env", "evil", "evil.module", "evil_env"):
        sys.modules.pop(name, None)


def change(file: Path, **changes: Any) -> None:
    """Writes settings, by dotted key, into a config.yaml."""
    data = yaml.safe_load(file.read_text())
    for key, value in changes.items():
        *parents, last = key.split(".")
        node = data
        for parent in parents:
            node = node[int(parent)] if isinstance(node, list) else node[parent]
        node[last] = value
    file.write_text(yaml.safe_dump(data))


def neuraxis(line: str) -> int:
    return exit_codes.exit_code(main.neuraxis, line.split())


SHELL = "sh -c 'touch executed; exec python \"$@\"'"
FOREIGN: dict[str, tuple[dict[str, Any], list[str]]] = {
    # what a stranger wrote, and which of the commands must refuse it
    "env.id=evil_env:X-v0": ({"env.id": "evil_env:X-v0"}, ["resume", "evaluate", "train"]),
    "agent.name=evil.module": ({"agent.name": "evil.module"}, ["resume", "evaluate", "train"]),
    "network.blocks=[{name: evil.module}]": (
        {"network.blocks": [{"name": "evil.module"}]},
        ["resume", "evaluate", "train"],
    ),
    "network.critic=[{name: evil.module}]": (
        {"network.critic": [{"name": "evil.module"}]},
        ["resume", "evaluate", "train"],
    ),
    "agent=evil.yaml": ({"agent": "evil.yaml"}, ["resume", "evaluate"]),
    "agent.name=evil.module, twice": (
        {"agent": {"name": "ppo", "n_steps": 16}, "agent\\name": "evil.module"},
        ["resume", "evaluate"],
    ),
    "env.kwargs.env_id=evil_env:X-v0": (
        {"env.id": "Shimmy-v0", "env.kwargs": {"env_id": "evil_env:X-v0"}},
        ["resume", "evaluate"],
    ),
    "ray.runtime_env.py_executable=sh -c": (
        {"ray.workers": 2, "ray.runtime_env": {"py_executable": SHELL}},
        ["resume", "train"],
    ),
    "ray.address=198.51.100.1:6379": (
        {"ray.workers": 2, "ray.address": "198.51.100.1:6379"},
        ["resume", "train"],
    ),
}


def _shimmy(**kwargs: Any) -> None:
    runpy.run_path(f"{kwargs['env_id'].partition(':')[0]}.py")


@pytest.mark.parametrize("says", FOREIGN)
def test_a_strangers_run_imports_and_executes_nothing(
    says: str, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make: Any = _shimmy
    monkeypatch.setitem(
        gymnasium.registry,
        "Shimmy-v0",
        EnvSpec("Shimmy-v0", entry_point=make),
    )
    changes, commands = FOREIGN[says]
    change(run / "config.yaml", **{key.replace("\\", "."): value for key, value in changes.items()})
    if "agent\\name" in changes:
        text = (run / "config.yaml").read_text()
        (run / "config.yaml").write_text(f"{text}agent.name: evil.module\n")
    Path("evil.yaml").write_text("name: evil.module\n")
    lines = {"resume": "resume run total_steps=128", "evaluate": "evaluate run --episodes 1"}
    lines["train"] = "train --from run"
    lines["record"] = "record run --out demos"
    for command in (*commands, *(["record"] if "evaluate" in commands else [])):
        assert neuraxis(lines[command]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and len(err) < 500
        assert f"run/config.yaml: would import or execute {says.partition(', ')[0]}" in err
        assert "--trust (in Python trust=True)" in err
        assert not Path("executed").exists()
    with pytest.raises(ValueError, match="would import or execute"):
        load_file(run / "config.yaml")
    if says.startswith("env."):
        load(run)  # which needs no environment
        assert not Path("executed").exists()
    elif "evaluate" in commands:
        with pytest.raises(ValueError, match=r"trust=True"):
            load(run)
    if "evaluate" in commands:
        assert neuraxis(f"{lines['evaluate']} --trust") != 0  # it is no environment
        assert Path("executed").exists()
    else:
        load(run)
        assert neuraxis(lines["evaluate"]) == 0, "nobody asks Ray to act for an evaluation"
        assert neuraxis(f"{lines['resume']} ray={{}} -q") == 0, "without what was refused"
        assert not Path("executed").exists()


def test_a_teacher_of_a_stranger_is_asked_for(run: Path) -> None:
    change(run / "config.yaml", **{"agent.name": "evil.module"})
    words = (*SMALL, "agent.teacher.from=run", "run_dir=student")
    refused = r"teacher.from=run: .*execute agent.name=evil.*trust=True"
    with pytest.raises(ValueError, match=refused):
        train(*words)
    assert not Path("executed").exists() and not Path("student").exists()
    with pytest.raises(ValueError, match=r"evil.module: expected a module with one subclass"):
        train(*words, trust=True)
    assert Path("executed").exists(), "trusted, it is imported"


@pytest.mark.parametrize(
    ("word", "changes", "appended"),
    [
        ("agent=ppo", {}, "agent.name: evil.module"),
        ("network=mlp", {"network": {"shared": True}}, "network.critic: [{name: evil.module}]"),
        ("env=Shimmy-v0", {"env.id": "Shimmy-v0"}, "env.kwargs: {env_id: evil_env:X-v0}"),
        ("env.id=own_env:Own-v0", {"env.id": "Own-v0"}, "env.kwargs: {env_id: evil_env:X-v0}"),
    ],
)
def test_a_word_allows_no_more_than_it_says(
    word: str, changes: dict[str, Any], appended: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same choice as the file's leaves the file's other settings as they are."""
    make: Any = _shimmy
    monkeypatch.setitem(gymnasium.registry, "Shimmy-v0", EnvSpec("Shimmy-v0", entry_point=make))
    file = run / "config.yaml"
    change(file, **changes)
    with file.open("a") as stream:
        stream.write(f"{appended}\n")
    with pytest.raises(ValueError, match=r"would import or execute .*evil"):
        loader.load([word], base=file)
    assert not Path("executed").exists()


def test_ones_own_run_needs_no_word_until_it_is_moved(
    run: Path, capsys: pytest.CaptureFixture[str], own_key: Path
) -> None:
    train(*SMALL, "env=own_env:Own-v0", "run_dir=mine")
    assert (own_key / "neuraxis" / "key").stat().st_mode & 0o777 == 0o600
    assert neuraxis("evaluate mine --episodes 1") == 0
    assert neuraxis("resume mine total_steps=128 -q") == 0
    assert neuraxis("resume mine total_steps=192 eval.episodes=3 -q") == 0
    change(Path("mine/config.yaml"), total_steps=256)  # drops the signature
    capsys.readouterr()
    assert neuraxis("resume mine -q") == 2
    assert "env.id=own_env:Own-v0" in capsys.readouterr().err
    assert neuraxis("resume mine -q --trust") == 0, "now it is mine again"
    assert neuraxis("resume mine total_steps=320 -q") == 0

    shutil.copytree("mine", "copy", symlinks=True)
    for line in ("evaluate copy --episodes 1", "resume copy total_steps=384 -q"):
        assert neuraxis(line) == 2
        assert "or was moved since" in capsys.readouterr().err
        assert neuraxis(f"{line} --trust") == 0
    load_file("copy/config.yaml")
    (own_key / "neuraxis" / "key").write_text("another person's")
    with pytest.raises(ValueError, match="would import"):
        load_file("copy/config.yaml")
    assert load_file("copy/config.yaml", trust=True)
    load_file(run / "config.yaml")


def test_a_signature_is_of_what_was_signed(run: Path) -> None:
    train(*SMALL, "env=own_env:Own-v0", "run_dir=mine")
    file = Path("mine/config.yaml")
    text = file.read_text()
    file.write_text(text.replace("own_env:Own-v0", "evil_env:X-v0"))
    with pytest.raises(ValueError, match=r"env\.id=evil_env:X-v0"):
        load_file(file)
    file.write_text(text.replace("total_steps: 64", "total_steps: 65"))
    load_file(file)  # other settings may be edited by hand


def no_home() -> None:
    raise RuntimeError("Could not determine home directory.")


def test_where_no_key_can_be_kept_a_run_trains_and_asks_for_trust(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(run / "meta.json"))  # no folder
    train(*SMALL, "env=own_env:Own-v0", "run_dir=mine")
    with pytest.raises(ValueError, match="would import"):
        load_file("mine/config.yaml")
    load_file("mine/config.yaml", trust=True)
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    train(*SMALL, "env=own_env:Own-v0", "run_dir=without_home")


def test_a_package_is_not_looked_for_in_a_strangers_folder(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuraxis.envs.ids.MODULES", {"MiniGrid-": "evil_env"})
    monkeypatch.setattr(
        sys, "path", [entry for entry in sys.path if Path(entry).resolve() != run.parent]
    )
    with pytest.raises(ValueError, match="No module named 'evil_env'"):
        ids.find(EnvConfig(id="MiniGrid-Empty-5x5-v0"))


def test_an_export_of_a_strangers_run_is_refused(run: Path) -> None:
    change(run / "config.yaml", **{"agent.name": "evil.module"})
    with serving():
        assert neuraxis("export run --wandb") == 2
    assert not Path("executed").exists()


EVENTS = "tensorboard/events.out.tfevents.1.neuraxis"


@pytest.mark.parametrize(
    "part", ["metrics.jsonl", "checkpoints", "wandb", "checkpoints/.a.tmp", EVENTS]
)
def test_nothing_is_written_through_a_link_out_of_the_run(
    part: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = run.parent / "mine"
    if (run / part).exists():
        (run / part).rename(target)
    else:
        target.mkdir()
        (run / part).parent.mkdir(exist_ok=True)
    (run / part).symlink_to(target)
    before = sorted(target.rglob("*")), target.is_file() and target.read_bytes()
    assert neuraxis("resume run total_steps=128 -q") == 1
    assert f"run/{part}: is a link out of the run's folder, to {target}" in capsys.readouterr().err
    assert (sorted(target.rglob("*")), target.is_file() and target.read_bytes()) == before


def test_looking_at_a_strangers_runs_executes_nothing(run: Path) -> None:
    change(run / "config.yaml", **{"agent.name": "evil.module"})
    assert neuraxis("compare run") == neuraxis("watch run --once") == 0
    assert not Path("executed").exists()


@pytest.mark.parametrize("place", ["words", "choice", "trial", "run"])
def test_a_strangers_sweep_imports_and_executes_nothing(
    place: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, choice, value = ["agent=ppo"], "ppo", "ppo"
    if place == "words":
        words = ["agent=evil.module"]
    elif place == "choice":
        choice = "evil.module"
    elif place == "trial":
        value = "evil.module"
    else:
        change(run / "config.yaml", **{"agent.name": "evil.module"})
    shutil.copytree(run, "sweep/trial_00/s0", symlinks=True)
    sweep = {"words": words, "sweep": {"parameters": {"agent": {"choice": [choice]}}}}
    Path("sweep/sweep.yaml").write_text(yaml.safe_dump(sweep))
    trial = f'{{"parameters": {{"agent": "{value}"}}, "scores": []}}'
    Path("sweep/trial_00/trial.json").write_text(trial)
    assert neuraxis("sweep --resume sweep") == 2
    assert "would import or execute agent" in capsys.readouterr().err
    assert not Path("executed").exists()
    opened = Sweep.open("sweep", trust=True)
    opened.write()
    if place in ("words", "choice"):
        Sweep.open("sweep")  # it is ours now
