"""A2C is PPO with one step a rollout, whose ratios are 1: the clip does nothing.

"A2C is a special case of PPO" by Huang et al. (2022).
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from stable_baselines3 import A2C
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

from . import outside
from .helpers import training

SHARED: dict[str, Any] = {
    "ent_coef": 0.03,
    "vf_coef": 0.4,
    "max_grad_norm": 0.3,
    "learning_rate": 3e-3,
}
WORDS = ("agent=a2c", "num_envs=8", *(f"agent.{key}={value}" for key, value in SHARED.items()))


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_updates_are_those_of_stable_baselines3(env: str) -> None:
    """Thirty in a row: advantages, losses, the limit of the gradient's norm, RMSprop."""
    run = training(*WORDS, f"env={env}")
    rule: dict[str, Any] = {"optimizer_class": RMSpropTFLike, "optimizer_kwargs": {"eps": 1e-5}}
    model: Any = A2C("MlpPolicy", make_vec_env(env, 8), device="cpu", policy_kwargs=rule, **SHARED)
    outside.adopt(model, run.agent.policy)
    start, whole, resets = outside.weights(run.agent.policy), 0, 0
    for _ in range(30):
        rollout = run.rollout()
        batch, _ = run.agent.batch_of(rollout)
        if rollout.valid.all():  # else theirs cannot tell what is valid
            whole += 1
            expected = outside.advantages(model, rollout).reshape(1, -1)
            torch.testing.assert_close(batch["advantage"], expected, rtol=1e-4, atol=1e-4)
        resets += int((~rollout.valid).sum())
        model.rollout_buffer = outside.Batch(batch)
        model.train()
        run.agent.learn(rollout)
        run.source.publish(run.agent.policy)
    ours = outside.weights(run.agent.policy)
    torch.testing.assert_close(ours, outside.weights(model.policy), rtol=1e-4, atol=1e-5)
    assert (ours - start).abs().max() > 3e-3 and whole and (resets or env == "Pendulum-v1")


@pytest.mark.parametrize("network", ["mlp", "lstm"])
def test_the_clip_is_idle(network: str) -> None:
    """However narrow it is: every ratio is 1, to rounding."""
    found = []
    for clip in (1e-3, 1e3):
        run = training(*WORDS, f"network={network}", f"agent.clip_range={clip}")
        for _ in range(5):
            assert run.step()["policy/approx_kl"] < 1e-9
        found.append(run.agent.optimizer.flat)
    assert torch.equal(*found)
