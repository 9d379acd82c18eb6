"""Laws 7 and 8: every agent learns, every memory remembers, and a cut episode is no ended one.

Budgets are several times what seeds 0 to 9 needed; a run stops as soon as it has learned.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from neuraxis.agents import agent_names
from neuraxis.agents.replay import Sample
from neuraxis.configs.groups import choices
from neuraxis.envs.tree import map_tree

from .helpers import Training, training

EVERY = ("discrete", "multidiscrete", "multibinary", "box")
CLAIMS = {"ppo": EVERY, "appo": EVERY, "impala": EVERY, "dqn": ("discrete",)}
ROLLOUT = ("agent.n_steps=32", "agent.batch_size=64", "agent.learning_rate=3e-3")
PPO, APPO = ("agent=ppo", *ROLLOUT), ("agent=appo", *ROLLOUT)
IMPALA = ("agent=impala", "agent.n_steps=8", "agent.learning_rate=1e-2", "agent.ent_coef=0")
DQN = (
    "agent=dqn",
    "agent.learning_starts=100",
    "agent.gradient_steps=4",
    "agent.learning_rate=3e-3",
)
IDENTITY = {
    "ppo": (*PPO, "agent.gamma=0", "num_envs=8", "total_steps=20_000"),
    "appo": (*APPO, "agent.gamma=0", "num_envs=8", "total_steps=20_000"),
    "impala": (*IMPALA, "agent.gamma=0", "num_envs=8", "total_steps=40_000"),
    "dqn": (*DQN, "agent.gamma=0", "num_envs=8", "total_steps=8_000"),
}
EPISODES = ("agent.n_steps=30", "agent.ent_coef=0.01", "num_envs=16")
MEMORY = {
    "ppo": (*PPO, *EPISODES, "agent.batch_size=120"),
    "appo": (*APPO, *EPISODES, "agent.batch_size=120"),
    "impala": (*IMPALA, *EPISODES, "agent.batch_size=120"),
    "dqn": (
        *DQN,
        "agent.train_freq=6",
        "agent.sequence_length=6",
        "agent.batch_size=32",
        "num_envs=8",
    ),
}
SMALL = ("network.blocks.0.sizes=[32]", "network.blocks.1.size=32")
BLOCKS = {
    "lstm": SMALL,
    "gru": SMALL,
    "transformer": (*SMALL, "network.blocks.1.layers=1", "network.blocks.1.memory=8"),
}


def learned(run: Training, goal: float, every: int = 10) -> bool:
    """Trains until the greedy policy reaches `goal`, or for `total_steps`."""
    assert run.score() < goal, "without training"
    return any(i % every == 0 and run.score() >= goal for i, _ in enumerate(run.run(), 1))


def test_every_agent_says_what_it_claims() -> None:
    assert set(CLAIMS) == set(agent_names())


@pytest.mark.parametrize(("agent", "space"), [(a, space) for a in CLAIMS for space in CLAIMS[a]])
def test_identity(agent: str, space: str) -> None:
    """The best return is 10; chance is 2 of 5 choices, 5 of 2, and about 5 in a box."""
    words = ("env=neuraxis/Identity-v0", "env.kwargs.size=5", f"env.kwargs.action_space={space}")
    assert learned(training(*IDENTITY[agent], *words), 8.0 if space == "box" else 9.5)


@pytest.mark.parametrize("agent", CLAIMS)
@pytest.mark.parametrize("setting", ["dropout=0.1", "norm=batch", "norm=layer"])
def test_identity_with_regularisation(setting: str, agent: str) -> None:
    words = ("env=neuraxis/Identity-v0", "env.kwargs.size=5", f"network.blocks.0.{setting}")
    assert learned(training(*IDENTITY[agent], *words), 9.5)


@pytest.mark.parametrize("setting", ["dueling", "prioritized", "noisy", "value_rescaling"])
def test_identity_with_each_switch_of_dqn(setting: str) -> None:
    words = ["env=neuraxis/Identity-v0", "env.kwargs.size=5", f"agent.{setting}=true"]
    if setting == "noisy":  # lest the noise is unlearned before all was tried
        words += ["agent.train_freq=1", "agent.gradient_steps=2", "agent.learning_rate=3e-4"]
    assert learned(training(*IDENTITY["dqn"], *words, "agent.n_step=2"), 9.5)


def remembers(agent: str, network: str, *words: str) -> Training:
    memory = ("env=neuraxis/Memory-v0", "env.kwargs.delay=4", "env.kwargs.cues=3")
    return training(*MEMORY[agent], "agent.gamma=0.9", *memory, f"network={network}", *words)


@pytest.mark.parametrize("agent", CLAIMS)
@pytest.mark.parametrize("network", BLOCKS)
def test_memory(network: str, agent: str) -> None:
    """Every block with memory names the cue that it saw at the start."""
    run = remembers(agent, network, *BLOCKS[network], "total_steps=30_000")
    assert learned(run, 0.9)


def test_every_memory_is_tried() -> None:
    assert set(BLOCKS) == {name for name in choices("network") if "cnn" not in name} - {"mlp"}


@pytest.mark.parametrize("agent", CLAIMS)
def test_the_mlp_cannot_remember(agent: str) -> None:
    """It has longer than the blocks with memory need, and stays at chance: 1/3 - 2/3."""
    run = remembers(agent, "mlp", SMALL[0], "total_steps=8_000")
    assert not learned(run, 0.9)
    assert run.score(400) == pytest.approx(-1 / 3, abs=0.25)  # five deviations


def test_stored_memory_is_needed() -> None:
    """Rows 1 to 4 answer, the cue is in row 0: only the memory stored before them tells of it."""

    def run(forget: bool) -> bool:
        words = ("agent.sequence_length=4", "agent.train_freq=4", "agent.learning_starts=300")
        budget = 4_000 if forget else 12_000
        task = ("env.kwargs.delay=4", "env.kwargs.cues=2", f"total_steps={budget}")
        run = remembers("dqn", "lstm", *SMALL, *words, *task)
        gather = run.agent.replay.gather

        def forgetful(*args: Any) -> Sample:
            sample = gather(*args)
            return replace(sample, state=map_tree(torch.zeros_like, sample.state))

        if forget:
            run.agent.replay.gather = forgetful
        return learned(run, 0.9)

    assert run(forget=False)
    assert not run(forget=True)


TINY = ("network.blocks.0.sizes=[16]", "agent.gamma=0.9", "agent.learning_rate=1e-2", "num_envs=8")
FAST = (*DQN, *TINY, "agent.gradient_steps=8", "agent.target_update_interval=50")
SHORT = (*TINY, "agent.n_steps=16", "agent.max_grad_norm=null", "agent.gae_lambda=0.8")
TRUNCATION = {
    "ppo": (*PPO, *SHORT),
    "appo": (*APPO, *SHORT),
    "impala": (*IMPALA, *SHORT, "agent.n_epochs=8"),
    "dqn": FAST,
    "dqn-3-step": (*FAST, "agent.n_step=3"),
}


@pytest.mark.parametrize("name", TRUNCATION)
def test_truncation_bootstraps(name: str) -> None:
    """Law 8: reward 1 for ever at gamma 0.9 is worth 1 / (1 - 0.9) = 10.

    As if it ended after 10 steps it would be worth at most 1 - 0.9^10 of that, 6.5.
    """
    run = training(*TRUNCATION[name], "env=neuraxis/Truncation-v0", "total_steps=5_000")
    for _ in run.run():
        pass
    rollout = run.rollout()
    with torch.no_grad():
        output = run.agent.policy(rollout.obs, rollout.state, rollout.first)
    value = output[0].amax(-1) if "dqn" in name else output[1]
    assert torch.allclose(value, torch.tensor(10.0), atol=0.1)


def test_termination_does_not() -> None:
    """The counterpart: an environment that pays 1 and then ends is worth 1."""
    words = ("env=neuraxis/Faulty-v0", "env.kwargs.length=1", "total_steps=2_000")
    run = training(*TRUNCATION["dqn"], *words)
    for _ in run.run():
        pass
    rollout = run.rollout()
    q, _ = run.agent.policy(rollout.obs, rollout.state, rollout.first)
    assert torch.allclose(q, torch.tensor(1.0), atol=0.05)
