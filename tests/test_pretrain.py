"""Pre-training: a backbone learns what is seen and what follows, and others start from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import neuraxis
from neuraxis.configs import load
from neuraxis.training import train
from neuraxis.training.session import prepare

from .demonstrations import balance, demonstrate
from .helpers import Training, claimed, config, training
from .test_reference import documented
from .test_resume import resume_after_crash

PRETRAIN = ("agent=pretrain", "wandb.mode=disabled")
OBJECTIVES = ["next_observation", "reconstruction"]


def recorded(folder: Path, *words: str, episodes: int = 9) -> Training:
    """A pre-training from episodes of CartPole in which random numbers choose the pushes."""
    generator = torch.Generator().manual_seed(0)

    def push(obs: Tensor) -> Tensor:
        return torch.randint(2, (len(obs),), generator=generator)

    demonstrate(config(*PRETRAIN, *words), folder, push, episodes)
    return training(*PRETRAIN, f"agent.dataset={folder}", *words)


@pytest.mark.parametrize("network", ["mlp", "lstm"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_loss_is_the_mean_squared_error_of_valid_steps(
    objective: str, network: str, tmp_path: Path
) -> None:
    words = (f"network={network}", "agent.n_steps=60", "num_envs=3", "agent.batch_size=null")
    words += (f"agent.objective={objective}", "network.shared=false")
    run = recorded(tmp_path / "demos", *words)
    rollout, policy, decoder = run.rollout(), run.agent.policy, run.agent.decoder
    valid = rollout.valid
    assert not valid.all()
    with torch.no_grad():
        own = rollout.state[0] if network == "lstm" else ()
        features, _ = policy.actor(rollout.obs[:-1], own, rollout.first[:-1])
        if objective == "next_observation":
            push = torch.nn.functional.one_hot(rollout.action, 2)
            features, target = torch.cat((features, push), -1), rollout.obs[1:]
        else:
            target = rollout.obs[:-1]
        said = decoder.out(decoder.hidden(features).relu())
    expected = (said - target)[valid].square().mean()
    found = run.agent.learn(rollout)
    torch.testing.assert_close(found[f"loss/{objective}"], expected)
    assert found.keys() <= documented()


def test_it_learns_what_an_action_does(tmp_path: Path) -> None:
    """The speed after a push: without the action it is known to 0.2 or so, either way."""
    run = recorded(
        tmp_path / "demos", "total_steps=30_000", "agent.learning_rate=3e-3", episodes=40
    )
    *_, last = run.run()
    rollout = run.rollout()
    change = (rollout.obs[1:] - rollout.obs[:-1])[rollout.valid]
    assert last["loss/next_observation"] < 0.05 * float(change.square().mean())


def test_the_backbone_alone_learns(tmp_path: Path) -> None:
    run = recorded(tmp_path / "demos", "network.shared=false")
    before = {name: tensor.clone() for name, tensor in run.agent.policy.state_dict().items()}
    run.step()
    after = run.agent.policy.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {name for name in before if not name.startswith("actor.")}
    assert after.keys() == training("network.shared=false").agent.policy.state_dict().keys()


@pytest.mark.parametrize("network", ["mlp", "cnn_small", "transformer"])
@pytest.mark.parametrize("kind", claimed("pretrain"))
def test_every_kind_of_observations_and_actions(kind: str, network: str) -> None:
    """Images, classes, switches and numbers, in one Dict; here seen while it plays at random."""
    words = ("env=neuraxis/Dict-v0", f"env.kwargs.action_space={kind}", f"network={network}")
    words += ("agent.normalize_observations=true", "agent.learning_rate=3e-3", "agent.n_steps=32")
    run = training(*PRETRAIN, *words, "num_envs=4")
    first, *_, last = (run.step()["loss/next_observation"] for _ in range(8))
    assert 0 < last < 0.8 * first


def test_noise_is_what_a_reconstruction_takes_away(tmp_path: Path) -> None:
    """The target is what was seen, and not what the network sees of it."""
    words = ("agent.objective=reconstruction", "agent.augment.noise=1", "agent.batch_size=null")
    run = recorded(tmp_path / "demos", *words)
    batches: list[Any] = []
    update = run.agent.run_update

    def seen(batch: Any) -> Any:
        batches.append(batch)
        return update(batch)

    run.agent.run_update = seen
    rollout = run.rollout()
    run.agent.learn(rollout)
    (batch,) = batches
    assert torch.equal(batch["target"].flatten(0, 1), rollout.obs[:-1].flatten(0, 1))
    assert (batch["obs"] - batch["target"]).std() > 0.5


def test_others_start_from_it(tmp_path: Path) -> None:
    recorded(tmp_path / "demos")
    words = (*PRETRAIN, f"agent.dataset={tmp_path / 'demos'}", "agent.normalize_observations=true")
    train(*words, total_steps=3_000, run_dir=tmp_path / "run")
    found = neuraxis.load(tmp_path / "run").state_dict()
    cfg = load(
        [
            *("agent=dqn", "wandb.mode=disabled", "agent.normalize_observations=true"),
            *(f"init.from={tmp_path / 'run'}", f"run_dir={tmp_path / 'dqn'}"),
        ]
    )
    started = prepare(cfg).learner.agent.policy.state_dict()
    backbone = {name: tensor for name, tensor in started.items() if name.startswith("backbone.")}
    assert backbone
    for name, tensor in backbone.items():
        assert torch.equal(tensor, found[name.replace("backbone", "actor", 1)])


def test_resumed_equals_never_stopped(tmp_path: Path) -> None:
    demos = tmp_path / "demos"
    demonstrate(config("env.time_limit=40"), demos, balance, 6)
    words = (*PRETRAIN, f"agent.dataset={demos}", "device=cpu", "num_envs=4", "total_steps=600")
    words += ("agent.n_steps=16", "agent.batch_size=32", "eval.final_episodes=1")
    words += ("log_interval_steps=40", "checkpoint.interval_steps=150", "env.time_limit=40")
    resume_after_crash(words, tmp_path, at=400)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("eval.interval_steps=100", "expected 0, agent=pretrain learns no policy"),
        ("eval.patience=3", "expected 0, agent=pretrain learns no policy"),
        ("agent.ent_coef=0.1", "agent=pretrain trains no policy; leave it out"),
        ("agent.ent_coef_schedule=linear", "agent=pretrain trains no policy; leave it out"),
        ("agent.gaussian.squashed=true", "agent=pretrain trains no policy; leave it out"),
        ("agent.gaussian.log_std_init=-1", "agent=pretrain trains no policy; leave it out"),
        ("agent.augment.shift=1", "agent=pretrain predicts what was seen, and not what was shift"),
    ],
)
def test_what_is_about_a_policy_is_refused(word: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"{word}: {message}"):
        training(*PRETRAIN, "env=minigrid_empty", "network=cnn_small", word)


def test_a_dataset_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected agent\.dataset=DIR, which .* writes$"):
        prepare(load([*PRETRAIN, f"run_dir={tmp_path / 'run'}"]))
