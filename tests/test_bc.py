"""Behaviour cloning: it does what was done, in every action space and with every memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from neuraxis.configs import load_resumed
from neuraxis.core.errors import RunError
from neuraxis.training import load as load_policy
from neuraxis.training import train
from neuraxis.training.session import prepare

from .demonstrations import balance, demonstrate
from .helpers import ACTIONS, Training, action_words, config, training
from .test_learning import BLOCKS, learned
from .test_reference import documented
from .test_resume import resume_after_crash

QUIET = ("agent=bc", "wandb.mode=disabled", "eval.interval_steps=0")


def taught(folder: Path, *words: str, **more: Any) -> Training:
    """A training from demonstrations of a rule in the environment of the words."""
    demonstrate(config("agent=bc", *words), folder, **more)
    return training("agent=bc", f"agent.dataset={folder}", *words)


def test_fifty_episodes_are_enough_for_cartpole(tmp_path: Path) -> None:
    """The demonstrator has 500; a new network has about 10."""
    assert demonstrate(config(), tmp_path / "demos", balance) == 500
    words = ("experiment=cartpole_bc", *QUIET[1:], f"agent.dataset={tmp_path / 'demos'}")
    run = train(*words, "eval.final_episodes=10", run_dir=tmp_path / "run")
    assert run.summary["evaluate/return"] >= 450
    rows = [json.loads(line) for line in (run.dir / "metrics.jsonl").read_text().splitlines()]
    assert {key for row in rows for key in row} <= documented()
    read = [row["episode/return"] for row in rows if "episode/return" in row]
    assert {*read} == {500}, "those of the demonstrator"


def aim(obs: Tensor) -> Tensor:
    """What the identity environment wants."""
    return obs


@pytest.mark.parametrize("loss", ["nll", "mse"])
@pytest.mark.parametrize("kind", ACTIONS)
def test_every_kind_of_actions(kind: str, loss: str, tmp_path: Path) -> None:
    """The best return is 10."""
    size = 3 if kind == "multidiscrete" else 5
    words = (*action_words(kind, size), "total_steps=30_000", f"agent.loss={loss}")
    if kind != "box" and loss == "mse":
        with pytest.raises(ValueError, match=r"agent\.loss=mse: is for Box actions, got"):
            taught(tmp_path / "demos", *words, rule=aim)
        return
    run = taught(tmp_path / "demos", *words, "agent.learning_rate=3e-3", rule=aim)
    assert learned(run, 9.0 if kind == "box" else 9.9)


def name_the_cue(obs: Tensor) -> Tensor:
    return obs[:, :-1].argmax(-1)


RECALL = ("env=neuraxis/Memory-v0", "env.kwargs.delay=6", "env.kwargs.cues=3")
SHORT = ("agent.n_steps=5", "num_envs=16", "agent.batch_size=40", "agent.learning_rate=3e-3")


@pytest.mark.parametrize("network", [*BLOCKS, "mlp"])
def test_every_memory_remembers_over_the_ends_of_rollouts(network: str, tmp_path: Path) -> None:
    """A rollout of 5 steps shows the cue or the answer, never both; an MLP knows nothing of it."""
    words = (*RECALL, *SHORT, f"network={network}", *BLOCKS.get(network, ()))
    words += ("total_steps=4_000",) if network == "mlp" else ("total_steps=40_000",)
    run = taught(tmp_path / "demos", *words, rule=name_the_cue, remembers=True)
    assert learned(run, 0.9) == (network != "mlp")


@pytest.mark.parametrize("network", ["mlp", "lstm"])
def test_the_loss_is_the_mean_log_likelihood_of_valid_steps(network: str, tmp_path: Path) -> None:
    words = ("agent=bc", f"network={network}", "agent.n_steps=60", "num_envs=3")
    words += ("agent.batch_size=null", "env.time_limit=25")
    cfg = config(*words)
    demonstrate(cfg, tmp_path / "demos", balance, 9)
    run = training(*words, f"agent.dataset={tmp_path / 'demos'}")
    rollout = run.rollout()
    policy, valid = run.agent.policy, rollout.valid
    assert not valid.all()
    with torch.no_grad():
        params, _, _ = policy(rollout.obs[:-1], rollout.state, rollout.first[:-1])
    expected = -policy.head.log_prob(params, rollout.action)[valid].mean()
    entropy = policy.head.entropy(params)[valid].mean()
    same = (params.argmax(-1) == rollout.action)[valid].float().mean()
    metrics = run.agent.learn(rollout)
    torch.testing.assert_close(metrics["loss/policy"], expected)
    torch.testing.assert_close(metrics["policy/entropy"], entropy)
    torch.testing.assert_close(metrics["policy/accuracy"], same)


def test_the_value_is_not_touched(tmp_path: Path) -> None:
    """PPO that goes on from the policy finds a fresh value, and no moments for it."""
    run = taught(tmp_path / "demos", rule=balance, episodes=2)
    run.step()
    fresh = training("agent=bc").agent.policy.state_dict()
    trained = run.agent.policy.state_dict()
    same = {name for name in fresh if torch.equal(fresh[name], trained[name])}
    assert same == {name for name in fresh if name.startswith(("critic.", "value."))}
    assert trained.keys() == training("agent=ppo").agent.policy.state_dict().keys()


CASES = {
    "mlp": ("agent.normalize_observations=true", "agent.n_epochs=2"),
    "lstm": ("network=lstm", "agent.ent_coef=0.01", "agent.learning_rate_schedule=linear"),
}


@pytest.mark.parametrize("name", CASES)
def test_resumed_equals_never_stopped(name: str, tmp_path: Path) -> None:
    demos = tmp_path / "demos"
    demonstrate(config("env.time_limit=40"), demos, balance, 6)
    words = (*QUIET[:2], *CASES[name], f"agent.dataset={demos}", "device=cpu", "num_envs=4")
    words += ("agent.n_steps=16", "agent.batch_size=32", "eval.episodes=2", "total_steps=600")
    words += ("eval.final_episodes=2", "log_interval_steps=40", "eval.interval_steps=200")
    words += ("checkpoint.interval_steps=150", "env.time_limit=40")
    resume_after_crash(words, tmp_path, at=400)


def test_another_dataset_is_refused_when_a_run_is_resumed(tmp_path: Path) -> None:
    demos, cfg = tmp_path / "demos", config("env.time_limit=40")
    demonstrate(cfg, demos, balance, 2)
    words = (*QUIET, f"agent.dataset={demos}", "eval.final_episodes=1", "env.time_limit=40")
    run = train(*words, total_steps=2_000, run_dir=tmp_path / "run")
    for file in (demos / "stream").iterdir():
        file.unlink()
    demonstrate(cfg, demos, balance, 3)
    with pytest.raises(RunError, match="is not the one that the run began with"):
        prepare(load_resumed(run.dir / "config.yaml", ["total_steps=3_000"]), run.dir)


def test_a_stored_run_is_opened_with_settings_without_effect(tmp_path: Path) -> None:
    """They were no fault when it began."""
    demos, cfg = tmp_path / "demos", config("env.time_limit=40")
    demonstrate(cfg, demos, balance, 2)
    words = (*QUIET, f"agent.dataset={demos}", "eval.final_episodes=1", "env.time_limit=40")
    run = train(*words, total_steps=2_000, run_dir=tmp_path / "run")
    file = run.dir / "config.yaml"
    text = file.read_text()
    assert "gamma: 0.99\n" in text
    file.write_text(text.replace("gamma: 0.99\n", "gamma: 0.9\n"))
    assert load_policy(run.dir)
    prepare(load_resumed(file, ["total_steps=3_000"]), run.dir)
    with pytest.raises(ValueError, match=r"agent.gamma=0.9: agent=bc learns from no rewards"):
        train(*words, "agent.gamma=0.9", run_dir=tmp_path / "new")


@pytest.mark.parametrize("agent", ["bc", "pretrain"])
@pytest.mark.parametrize(
    "word", ["agent.rnd.coef=1", "agent.normalize_rewards=true", "agent.gamma=0.9"]
)
def test_what_is_about_rewards_is_refused(word: str, agent: str) -> None:
    with pytest.raises(ValueError, match=rf"{word}: agent={agent} learns from no rewards"):
        training(f"agent={agent}", word)
