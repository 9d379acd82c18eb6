"""Law 10: every agent trains every network on every kind of observation, or says why not."""

from __future__ import annotations

import math

import pytest
import torch

from neuraxis.agents import agent_names
from neuraxis.configs.groups import choices

from .helpers import training

AGENTS = {
    "ppo": ("agent.n_steps=8", "agent.batch_size=16", "agent.n_epochs=1"),
    "appo": ("agent.n_steps=8", "agent.batch_size=16", "agent.n_epochs=1"),
    "impala": ("agent.n_steps=8", "agent.batch_size=8"),
    "dqn": ("agent.learning_starts=8", "agent.gradient_steps=1", "agent.batch_size=4"),
}
ENVS = {
    "vector": ("env=CartPole-v1",),
    "image": ("env=minigrid_empty",),
    "dict": ("env=neuraxis/Dict-v0",),
}
REFUSED = {("cnn", "image"): "is too small", ("cnn_lstm", "image"): "is too small"}


def reason(network: str, env: str) -> str | None:
    """What a refusal says; None for a pair that trains."""
    if env == "vector" and network.startswith("cnn"):
        return "network.blocks.0 reads images, but there is no image in Box"
    return REFUSED.get((network, env))


@pytest.mark.parametrize("env", ENVS)
@pytest.mark.parametrize("network", choices("network"))
@pytest.mark.parametrize("agent", agent_names())
def test_a_pair_trains_or_says_why_not(agent: str, network: str, env: str) -> None:
    words = (f"agent={agent}", f"network={network}", *AGENTS[agent], *ENVS[env], "num_envs=2")
    refusal = reason(network, env)
    if refusal is not None:
        with pytest.raises(ValueError, match=refusal) as caught:
            training(*words)
        assert "\n" not in str(caught.value)
        return
    run = training(*words)
    before = run.agent.optimizer.flat.clone()
    metrics: dict[str, float] = {}
    for _ in range(6):
        metrics |= run.step()
    assert all(math.isfinite(value) for value in metrics.values())
    changed = run.agent.optimizer.flat != before
    assert changed.any() and torch.isfinite(run.agent.optimizer.flat).all()


@pytest.mark.parametrize("space", ["multidiscrete", "multibinary", "box"])
def test_dqn_refuses_actions_that_it_cannot_rank(space: str) -> None:
    words = ("agent=dqn", "env=neuraxis/Identity-v0", f"env.kwargs.action_space={space}")
    with pytest.raises(ValueError, match=r"agent=dqn: needs a Discrete action space.*agent=ppo"):
        training(*words)
