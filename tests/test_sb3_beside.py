"""Our networks, policies and environments beside Stable-Baselines3's own parts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from click.testing import CliRunner
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from neuraxis.envs import EnvConfig
from neuraxis.networks.observation import Image
from neuraxis.training import interop, load, train
from neuraxis.training.cli.main import neuraxis
from neuraxis.training.interop import Sb3Envs, Sb3Extractor

from .sb3_models import Given, model, observations, words_for


def with_network(network: Any) -> dict[str, Any]:
    return {
        "features_extractor_class": Sb3Extractor,
        "features_extractor_kwargs": {"network": network},
    }


def test_a_backbone_learns_as_an_extractor_and_is_stored(tmp_path: Path) -> None:
    blocks = [{"name": "mlp", "sizes": [12], "norm": "layer", "activation": "silu"}]
    envs = Sb3Envs(EnvConfig(id="CartPole-v1"), 2, seed=0)
    learner = PPO("MlpPolicy", envs, n_steps=32, batch_size=32, policy_kwargs=with_network(blocks))
    before = [weight.clone() for weight in learner.policy.features_extractor.parameters()]
    learner.learn(64)
    after = list(learner.policy.features_extractor.parameters())
    assert len(after) == 4 and not any(a.equal(b) for a, b in zip(before, after, strict=True))
    learner.save(tmp_path / "model.zip")
    again = PPO.load(tmp_path / "model.zip", device="cpu")
    obs = observations(envs.observation_space, 50)
    expected = learner.predict(obs, deterministic=True)[0]
    np.testing.assert_array_equal(again.predict(obs, deterministic=True)[0], expected)
    envs.close()


@pytest.mark.parametrize("seen", ["IMAGE", "DICT"])
def test_an_extractor_reads_what_the_library_makes_of_observations(seen: str) -> None:
    """Images are turned and divided already, and choices are one-hot, in rollout and replay."""
    blocks = [{"name": "cnn", "architecture": "small", "size": 8}]
    policy = "CnnPolicy" if seen == "IMAGE" else "MultiInputPolicy"
    learner = DQN(
        *(policy, Given(seen, 3)),
        buffer_size=20,
        learning_starts=4,
        batch_size=4,
        policy_kwargs=with_network(blocks),
    )
    learner.learn(8)
    extractor = learner.q_net.features_extractor
    assert isinstance(extractor, Sb3Extractor)
    (image,) = (leaf for leaf in extractor.chain.encoder.leaves if isinstance(leaf, Image))
    assert image.scale is None and not image.channels_last
    obs = learner.q_net.obs_to_tensor(observations(learner.observation_space, 3))[0]
    features = learner.q_net.extract_features(obs, extractor)
    assert (
        features.shape == (3, 8 + (0 if seen == "IMAGE" else 3 + 4)) == (3, extractor.features_dim)
    )
    assert features.isfinite().all()


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ("lstm", "network=lstm: it has memory, and Stable-Baselines3 keeps none"),
        ("cnn", "its first block reads images, but there is no image"),
        ("mlpp", "did you mean mlp?"),
        ([{"name": "mlp", "size": 3}], "block 'mlp' has no field 'size'; did you mean sizes?"),
    ],
    ids=str,
)
def test_an_extractor_that_cannot_be_is_refused(network: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PPO(
            "MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, policy_kwargs=with_network(network)
        )


def test_its_evaluation_takes_our_policies(tmp_path: Path) -> None:
    """With a memory, which `episode_start` empties."""
    words = "network.blocks=[{name: lstm, size: 8}]", "eval.final_episodes=1", "env=CartPole-v1"
    run = train(*words, "wandb.mode=disabled", total_steps=256, run_dir=tmp_path / "run")
    policy: Any = interop.Sb3Predictor(load(run.dir))
    mean, _ = evaluate_policy(policy, Monitor(gymnasium.make("CartPole-v1")), 4)
    assert isinstance(mean, float) and 1 <= mean <= 500


@pytest.mark.parametrize("name", ["Identity", "Memory", "Dict", "CartPole", "PointGoal"])
def test_our_environments_pass_its_check(name: str) -> None:
    check_env(gymnasium.make(f"neuraxis/{name}-v0").unwrapped)


def test_without_the_library_models_are_imported_and_the_rest_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model("PPO", "MlpPolicy", "VECTOR", 3).save(tmp_path / "model.zip")
    for name in [*sys.modules]:
        if name.startswith(("stable_baselines3", "sb3_contrib", f"{interop.__name__}.sb3_")):
            monkeypatch.delitem(sys.modules, name)
    for name in ("stable_baselines3", "sb3_contrib"):
        monkeypatch.setitem(sys.modules, name, None)
    words = *words_for("VECTOR", 3), "eval.final_episodes=1", "wandb.mode=disabled"
    run = interop.import_model(tmp_path / "model.zip", *words, run_dir=tmp_path / "run")
    assert run.summary["evaluate/return"] == 1
    for name in ("Sb3Extractor", "Sb3Envs", "write_model"):
        with pytest.raises(ImportError, match=rf"^{name}: .*; pip install 'neuraxis\[sb3\]'$"):
            getattr(interop, name)
    export = ["export", str(run.dir), "--sb3", str(tmp_path / "back.zip")]
    result = CliRunner().invoke(neuraxis, export)
    assert result.exit_code == 2 and "pip install 'neuraxis[sb3]'" in result.output
