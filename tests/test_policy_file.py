"""A policy in one file: it is the policy of the run, and needs nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from neuraxis.core.errors import RunError
from neuraxis.training import baseline, load, train
from neuraxis.training.cli.main import neuraxis
from neuraxis.training.saved_policy import write_policy

FEW = "total_steps=64", "num_envs=2", "eval.final_episodes=1", "wandb.mode=disabled"
ROLLOUT = "agent.n_steps=16", "agent.batch_size=16", "network.blocks.0.sizes=[8]"
REPLAY = "agent.learning_starts=8", "agent.batch_size=8", "network.blocks.0.sizes=[8]"
AGENTS = {
    "choices": ("env=CartPole-v1", *ROLLOUT),
    "statistics": ("env=Pendulum-v1", "agent.normalize_observations=true", *ROLLOUT),
    "memory": ("env=cartpole_masked", "network=gru", "network.blocks.1.size=8", *ROLLOUT),
    "squashed": ("env=Pendulum-v1", "agent=sac", *REPLAY),
    "values": ("env=CartPole-v1", "agent=dqn", "env.frame_stack=2", *REPLAY),
}


@pytest.mark.parametrize("name", AGENTS)
def test_a_file_gives_the_policy_of_the_run(name: str, tmp_path: Path) -> None:
    run = train(*AGENTS[name], *FEW, run_dir=str(tmp_path / "run"))
    file = tmp_path / "alone" / "policy.safetensors"
    result = CliRunner().invoke(neuraxis, ["export", str(run.dir), "--policy", str(file)])
    own = load(run.dir)
    count = sum(leaf.numel() for leaf in own.state_dict().values())
    assert result.output == f"{count:,} parameters: {file}\n"
    found = load(file)
    assert not found.training
    states = own.state_dict()
    assert found.state_dict().keys() == states.keys()
    assert all((leaf == states[key]).all() for key, leaf in found.state_dict().items())
    assert own.interface is not None
    space = own.interface.spaces[0]
    space.seed(0)
    state = other = None
    for _ in range(4):
        obs = space.sample()
        action, state = own.predict(obs, state)
        again, other = found.predict(obs, other)
        np.testing.assert_array_equal(action, again)


def test_a_baselines_policy_fits_into_a_file(tmp_path: Path) -> None:
    run = baseline(
        "agent.kwargs.n_steps=32", "agent.normalize=true", *FEW, run_dir=str(tmp_path / "run")
    )
    file = tmp_path / "policy.safetensors"
    write_policy(run.dir, file)
    obs = np.array([0.1, 0.2, -0.1, 0.3], np.float32)
    assert load(file).predict(obs)[0] == load(run.dir).predict(obs)[0]


def test_neither_the_run_nor_its_environment_is_needed(tmp_path: Path) -> None:
    package = tmp_path / "training_only"
    package.mkdir()
    (package / "own_env.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "gymnasium.register('Own-v0', CartPoleEnv, max_episode_steps=20)\n"
    )
    words = ["env=own_env:Own-v0", *ROLLOUT, *FEW, "run_dir=run"]
    command = [sys.executable, "-m", "neuraxis", "train", *words]
    subprocess.run(command, cwd=package, check=True, capture_output=True)
    write_policy(package / "run", tmp_path / "policy.safetensors")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "policy.safetensors").rename(elsewhere / "policy.safetensors")
    code = (
        "import sys; from neuraxis.training import load; policy = load('policy.safetensors');"
        "print(policy.predict([0.0, 0.0, 0.0, 0.0])[0]);"
        "assert not {'own_env', 'ray', 'wandb', 'stable_baselines3'} & sys.modules.keys()"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=elsewhere, check=True, capture_output=True, text=True
    )
    assert found.stdout.strip() in ("0", "1")


def test_what_is_no_policy_is_refused(tmp_path: Path) -> None:
    run = train("env=CartPole-v1", *ROLLOUT, *FEW, run_dir=str(tmp_path / "run"))
    file = tmp_path / "policy.safetensors"
    write_policy(run.dir, file)
    with pytest.raises(ValueError, match=r"policy.pt: expected a file that ends in .safetensors"):
        write_policy(run.dir, tmp_path / "policy.pt")
    result = CliRunner().invoke(neuraxis, ["export", str(run.dir)])
    places = "--wandb, --tensorboard DIR, --policy FILE, --backbone FILE, --onnx FILE or --sb3 FILE"
    assert result.exit_code == 2 and f"expected where to: {places}" in result.output
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"policy.safetensors: damaged, its SHA-256 differs"):
        load(file)
    file.write_bytes(content[:100])
    with pytest.raises(RunError, match=r"policy.safetensors: "):
        load(file)
    save_file({"weight": np.zeros(3)}, file)
    with pytest.raises(RunError, match="not the file of a policy; expected one of `neuraxis expo"):
        load(file)
    assert load_file(file).keys() == {"weight"}


def test_a_file_that_names_code_is_trusted_or_refused(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_policy").mkdir()
    (tmp_path / "own_policy" / "agent.py").write_text(
        "from neuraxis.agents.ppo import PPO\n"
        "class Own(PPO):\n"
        "    class Config(PPO.Config, frozen=True):\n"
        "        name: str = 'own_policy.agent'\n"
    )
    run = train("agent=own_policy.agent", *ROLLOUT, *FEW, run_dir=str(tmp_path / "run"))
    write_policy(run.dir, tmp_path / "policy.safetensors")
    with pytest.raises(ValueError, match=r"would import or execute agent.name=own_policy.agent"):
        load(tmp_path / "policy.safetensors")
    trusted = load(tmp_path / "policy.safetensors", trust=True)
    assert trusted.predict(np.zeros(4, np.float32))[0] in (0, 1)
