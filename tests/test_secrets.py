"""What is a secret is neither stored nor shown, and comes back from the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import pytest

from neuraxis import load, train
from neuraxis.configs import load as load_words
from neuraxis.core.secret_values import filled, is_secret, masked
from neuraxis.training.cli import exit_codes, main
from neuraxis.training.distributed import ray_cluster
from neuraxis.training.sweeps import sweep as sweeping
from neuraxis.training.sweeps.trials import Sweep

SECRET = "s3cr3t-of-mine"
SMALL = ["num_envs=2", "total_steps=64", "agent.n_steps=16", "eval.final_episodes=1", "device=cpu"]
OFF = ["wandb.mode=disabled", *SMALL]
ENV = "env=secret/Env-v0"
SERVICE = """
import gymnasium
from gymnasium import spaces
import numpy as np

class Service(gymnasium.Env):
    def __init__(self, api_key="", size=2, password=None):
        if api_key != "s3cr3t-of-mine":
            raise PermissionError("a wrong key")
        self.observation_space = spaces.Box(-1, 1, (size,))
        self.action_space = spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}
    def step(self, action):
        return self.observation_space.sample(), 1.0, True, False, {}

gymnasium.register("secret/Env-v0", Service)
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("service.py").write_text(SERVICE)
    exec(SERVICE, {"__name__": "service"})
    yield tmp_path
    gymnasium.registry.pop("secret/Env-v0", None)


def neuraxis(*words: str) -> int:
    return exit_codes.exit_code(main.neuraxis, list(words))


def nowhere(folder: Path, capsys: pytest.CaptureFixture[str] | None = None) -> None:
    """No file below the folder and nothing that was printed has the secret."""
    for file in folder.rglob("*"):
        if file.is_file() and file.suffix != ".py":
            assert SECRET.encode() not in file.read_bytes(), file
    if capsys is not None:
        assert SECRET not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("key", "secret"),
    [
        *((key, True) for key in "token api_key apiKey API-KEY db_password hf_token auth".split()),
        *((key, True) for key in "client_secret aws_secret_access_key authToken pwd".split()),
        *((f"ray.runtime_env.env_vars.{name}", True) for name in ("HOME", "WANDB_API_KEY")),
        *((key, False) for key in "tokenizer max_tokens pad_token eos_token key keys".split()),
        *((key, False) for key in "author n_keys monkey reward_key secretary token_id".split()),
        ("ray.runtime_env.env_vars", False),
    ],
)
def test_what_is_a_secret(key: str, secret: bool) -> None:
    assert is_secret(key) == secret


def test_masked_values_come_back_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = {
        "kwargs": {"api_key": "a", "password": 12, "auth": {"user": "u"}, "size": 3, "token": ""},
        "env_vars": {"PATH_x": "1"},
        "pip": ["gym", "git+https://me:pw@host/x"],
        "password": None,
    }
    hidden = masked(tree)
    assert hidden == {
        "kwargs": {
            "api_key": "$API_KEY",
            "password": "$PASSWORD as JSON",
            "auth": "$AUTH as JSON",
            "size": 3,
            "token": "",
        },
        "env_vars": {"PATH_x": "$PATH_x"},
        "pip": ["gym", "git+https://$PIP@host/x"],
        "password": None,
    }
    assert masked(hidden) == hidden and filled(hidden) == hidden
    there = {"API_KEY": "a", "PASSWORD": "12", "AUTH": '{"user": "u"}', "PIP": "me:pw"}
    for name, value in (there | {"PATH_x": "1"}).items():
        monkeypatch.setenv(name, value)
    assert filled(hidden) == tree


def test_a_run_stores_no_secret_and_takes_it_from_the_environment(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [ENV, f"env.kwargs.api_key={SECRET}", "env.kwargs.password=77", "run_dir=run"]
    words += ["ray.runtime_env={env_vars: {FOO: " + SECRET + "}}", "wandb.mode=offline", *SMALL]
    monkeypatch.setattr(sys, "argv", ["neuraxis", "train", *words])
    assert neuraxis("train", *words) == 0
    nowhere(here, capsys)
    config = Path("run/config.yaml").read_text()
    assert "api_key: $API_KEY" in config and "password: $PASSWORD as JSON" in config
    assert "FOO: $FOO" in config
    command = json.loads(Path("run/meta.json").read_text())["command"]
    assert "'env.kwargs.api_key=$API_KEY'" in command and "num_envs=2" in command
    for line in ("evaluate run --episodes 1", "resume run total_steps=128 -q"):
        assert neuraxis(*line.split()) == 2
        says = "env.kwargs.api_key=$API_KEY: secrets are not stored; set the variable API_KEY"
        assert says in capsys.readouterr().err
    monkeypatch.setenv("API_KEY", SECRET)
    monkeypatch.setenv("PASSWORD", "77")
    typed = "env.kwargs.api_key=$API_KEY"
    assert neuraxis("train", ENV, typed, *OFF, "run_dir=other", "-q") == 0
    assert neuraxis("evaluate", "run", "--episodes", "1") == 0
    assert neuraxis("resume", "run", "total_steps=128", "-q") == 0
    assert load("run")
    assert neuraxis("compare", "run", "--out", "report") == 0
    assert neuraxis("record", "run", "--out", "demos", "--episodes", "1") == 0
    assert "$API_KEY" in Path("demos/dataset.json").read_text()
    nowhere(here, capsys)


def test_wandb_is_told_no_secret(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline W&B writes what it would send; a script's own options are in the command line."""
    code = "from neuraxis import train; import service; train(*__import__('json').loads({!r}))"
    words = [ENV, f"env.kwargs.api_key={SECRET}", "run_dir=run", *SMALL]
    words += [f"wandb.notes=data of https://me:{SECRET}@host", f"wandb.tags=['a://{SECRET}@host']"]
    script = Path("script.py")
    script.write_text(code.format(json.dumps(words)))
    done = subprocess.run([sys.executable, str(script), "--token", SECRET, f"--api-key={SECRET}"])
    assert done.returncode == 0
    nowhere(here)


def test_no_message_shows_a_secret(capsys: pytest.CaptureFixture[str]) -> None:
    secret = f"env.kwargs.api_key={SECRET}"
    for words in (
        [ENV, secret, "env.kwargs.nothing=1"],  # the constructor's error
        [ENV, f"env.kwargs.other_token={SECRET}"],
        [secret, secret],
        [f"env.api_key={SECRET}"],
        [f"env.kwargs.api_key=[{SECRET}"],
        ["env.kwargs={api_key: " + SECRET],
        ["ray.runtime_env={env_vars: {FOO: " + SECRET],
        [f"agent.token={SECRET}"],
        [f"env.kwargs.api_key.x={SECRET}", secret],
        [ENV, f"env.kwargs.api_key=wrong{SECRET}"],
    ):
        assert neuraxis("train", *words, *OFF, "-q") == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ") and SECRET not in err, err


def test_a_sweep_stores_no_secret(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (f"env.kwargs.api_key={SECRET}", ENV, *SMALL, "sweep=sweep.yaml", "run_dir=search")
    Path("sweep.yaml").write_text("parameters: {agent.gamma: {choice: [0.9, 0.99]}}\n")
    with pytest.raises(ValueError, match="set the variable API_KEY"):
        sweeping.create(words)
    os.environ["API_KEY"] = SECRET
    try:
        made = sweeping.create(words)
        assert Sweep.open("search").base().env.kwargs == {"api_key": SECRET}
        assert made.base().env.kwargs == {"api_key": SECRET}
    finally:
        del os.environ["API_KEY"]
    nowhere(here, capsys)


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        (
            "{env_vars: {LACKING: $LACKING}}",
            r"\.env_vars\.LACKING=\$LACKING: secrets are not stored",
        ),
        ("{env_vars: 3}", r"=\{env_vars: 3\}: TypeError: "),
        ("{pip: 3}", r"=\{pip: 3\}: TypeError: runtime_env\['pip'\] must be"),
        ("{working_dir: /nowhere}", r"=\{.*\}: ValueError: /nowhere is not a valid path"),
    ],
)
def test_an_environment_that_ray_cannot_make_is_named_by_its_key(
    environment: str, says: str
) -> None:
    cfg = load_words([f"ray.runtime_env={environment}"])
    with pytest.raises(ValueError, match=rf"^ray\.runtime_env{says}"):
        ray_cluster.start(cfg.ray)


def test_ray_writes_no_secret_into_its_logs(
    here: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A key reaches the workers' environments; what else is set for them reaches Ray."""
    seen: dict[str, Any] = {}
    import ray

    started = SimpleNamespace(address_info={"session_dir": None})
    monkeypatch.setattr(ray, "init", lambda **options: seen.update(options) or started)
    cfg = load_words(["ray.workers=1", "ray.runtime_env={env_vars: {A_TOKEN: abc, SPEED: '1'}}"])
    ray_cluster.start(cfg.ray)
    ray_cluster.stop()
    assert seen["runtime_env"] == {"env_vars": {"SPEED": "1"}}
    monkeypatch.setenv("A_TOKEN", "before")
    ray_cluster.set_secrets(cfg.ray)
    assert os.environ["A_TOKEN"] == "abc" and "SPEED" not in os.environ


def test_workers_have_the_secrets_of_their_environment(here: Path) -> None:
    Path("asks.py").write_text(
        "import os, gymnasium\n"
        "from gymnasium.envs.classic_control.cartpole import CartPoleEnv\n"
        "class Asks(CartPoleEnv):\n"
        "    def reset(self, **kwargs):\n"
        "        assert os.getpid() == DRIVER or os.environ['A_TOKEN'] == 'abc'\n"
        "        return super().reset(**kwargs)\n"
        f"DRIVER = {os.getpid()}\n"
        "gymnasium.register('Asks-v0', Asks, max_episode_steps=20)\n"
    )
    train(*OFF, "env=asks:Asks-v0", "ray.workers=1", "ray.runtime_env={env_vars: {A_TOKEN: abc}}")
