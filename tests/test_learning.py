"""Laws 7 and 8: every agent learns, every memory remembers, and a cut episode is no ended one.

Budgets are several times what seeds 0 to 9 needed; a run stops as soon as it has learned.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from neuraxis.agents import agent_class
from neuraxis.agents.fresh import FreshAgent
from neuraxis.agents.off_policy import OffPolicyAgent
from neuraxis.agents.off_policy_actor_critic import OffPolicyActorCritic
from neuraxis.agents.on_policy import OnPolicyAgent
from neuraxis.agents.replay.sample import Sample
from neuraxis.configs.groups import choices
from neuraxis.core.tree import map_tree

from .helpers import (
    REWARDED,
    WITH_NETWORK,
    Training,
    action_words,
    claimed,
    epochs,
    fitting,
    some_pairs,
    training,
)

EPOCHS = ("agent.n_steps=32", "agent.batch_size=64", "agent.learning_rate=3e-3")
ONE_PASS = ("agent.n_steps=8", "agent.learning_rate=1e-2", "agent.ent_coef=0")
OFF_POLICY = ("agent.learning_starts=100", "agent.gradient_steps=4", "agent.learning_rate=3e-3")
TABLE = ("agent.n_steps=8", "agent.learning_rate=0.5", "agent.initial_value=2")  # tries everything
CONTINUOUS = (*OFF_POLICY[::2], "agent.gradient_steps=16", "agent.batch_size=64")


def family(agent: str, kind: str = "") -> tuple[str, ...]:
    """Settings with which any agent of a family learns fast; a kind of actions, or its first."""
    cls = agent_class(agent)
    if issubclass(cls, OffPolicyAgent):
        settings = CONTINUOUS if (kind or claimed(agent)[0]) == "box" else OFF_POLICY
    elif not cls.has_network:
        settings = TABLE
    else:
        settings = EPOCHS if epochs(agent) > 1 else ONE_PASS
    return f"agent={agent}", *fitting(agent, *settings)


def identity(agent: str, kind: str = "") -> tuple[str, ...]:
    """Settings for the identity environment, whose return does not depend on the future."""
    steps = 8_000 if issubclass(agent_class(agent), OffPolicyAgent) else 40_000
    return *family(agent, kind), "agent.gamma=0", "num_envs=8", f"total_steps={steps}"


EPISODES = ("agent.n_steps=30", "agent.ent_coef=0.01", "num_envs=16")
SEQUENCES = ("agent.train_freq=6", "agent.sequence_length=6", "agent.batch_size=32", "num_envs=8")


def recall(agent: str, kind: str) -> tuple[str, ...]:
    """Settings for the memory environment, in whole episodes."""
    if kind == "box":
        words = fitting(agent, "agent.learning_rate=3e-3", "agent.ent_coef_init=0.05")
        return f"agent={agent}", *CONTINUOUS, *SEQUENCES, *words
    if issubclass(agent_class(agent), OffPolicyAgent):
        return (*family(agent), *SEQUENCES)
    words = (*EPISODES, "agent.batch_size=120", "agent.learning_rate=3e-3")
    return *family(agent), *fitting(agent, *words)


SMALL = ("network.blocks.0.sizes=[32]", "network.blocks.1.size=32")
BLOCKS = {
    "transformer": (*SMALL, "network.blocks.1.layers=1", "network.blocks.1.memory=8"),
    "lstm": SMALL,
    "gru": SMALL,
}


def learned(run: Training, goal: float, every: int = 10) -> bool:
    """Trains until the greedy policy reaches `goal`, or for `total_steps`."""
    assert run.score() < goal, "without training"
    return any(i % every == 0 and run.score() >= goal for i, _ in enumerate(run.run(), 1))


@pytest.mark.parametrize(
    ("agent", "kind"), [(agent, kind) for agent in REWARDED for kind in claimed(agent)]
)
def test_identity(agent: str, kind: str) -> None:
    """The best return is 10; chance is 2 of 5 choices, 3.3 of three of 3, 5 of five of 2, and
    about 5 in a box."""
    size = 3 if kind == "multidiscrete" else 5
    run = training(*identity(agent, kind), *action_words(kind, size))
    assert learned(run, 8.0 if kind == "box" else 9.5)


GAUSSIANS = {
    "squashed": ("agent.gaussian.squashed=true",),
    "gSDE": ("agent.gaussian.use_sde=true", "agent.gaussian.log_std_init=-2"),
    "squashed gSDE": (
        *("agent.gaussian.squashed=true", "agent.gaussian.use_sde=true"),
        *("agent.gaussian.sde_sample_freq=4", "agent.gaussian.log_std_init=-1"),
    ),
    "state-dependent deviation": ("agent.gaussian.state_dependent_std=true",),
}


@pytest.mark.parametrize("words", GAUSSIANS.values(), ids=GAUSSIANS)
def test_identity_with_every_gaussian(words: tuple[str, ...]) -> None:
    assert learned(training(*identity("ppo"), *action_words("box"), *words), 8.0)


SETTINGS = ["norm=batch", "norm=layer", "dropout=0.1"]
REGULARISED = some_pairs(
    [name for name in WITH_NETWORK if name in REWARDED], SETTINGS, whole=("ppo", "dqn", "sac")
)


@pytest.mark.parametrize(("agent", "setting"), REGULARISED)
def test_identity_with_regularisation(agent: str, setting: str) -> None:
    kind = claimed(agent)[0]
    run = training(*identity(agent), *action_words(kind), f"network.blocks.0.{setting}")
    assert learned(run, 8.0 if kind == "box" else 9.5)


SWITCHES = [
    *("dueling=true", "prioritized=true", "noisy=true", "value_rescaling=true"),
    *(f"distribution={kind}" for kind in ("categorical", "quantile", "implicit")),
]


@pytest.mark.parametrize("switch", SWITCHES)
def test_identity_with_each_switch_of_dqn(switch: str) -> None:
    words = [*action_words("discrete"), f"agent.{switch}"]
    if switch == "noisy=true":  # lest the noise is unlearned before all was tried
        words += ["agent.train_freq=1", "agent.gradient_steps=2", "agent.learning_rate=3e-4"]
    assert learned(training(*identity("dqn"), *words, "agent.n_step=2"), 9.5)


def test_ice_that_is_not_slippery() -> None:
    """The best return is 1. `False` is no text, which would be true: then it is about 0.2."""
    words = ("env=FrozenLake-v1", "env.kwargs.is_slippery=False", "total_steps=60000.0")
    run = training(*words, "agent.learning_rate=1e-3", "agent.ent_coef=0.01")
    assert learned(run, 1.0)


REMEMBERING = [
    (name, kind)
    for name in REWARDED
    for kind in claimed(name)
    if agent_class(name).memory
    if kind == "discrete" or (kind == "box" and issubclass(agent_class(name), OffPolicyActorCritic))
]


def remembers(agent: str, kind: str, network: str, *words: str) -> Training:
    delay = 2 if kind == "box" else 4
    task = ("env=neuraxis/Memory-v0", f"env.kwargs.delay={delay}", "env.kwargs.cues=3")
    task = (*task, f"env.kwargs.action_space={kind}", "agent.gamma=0.9")
    return training(*recall(agent, kind), *task, f"network={network}", *words)


WHOLE = [("ppo", "discrete"), ("dqn", "discrete")]


@pytest.mark.parametrize(("learner", "network"), some_pairs(REMEMBERING, [*BLOCKS], whole=WHOLE))
def test_memory(learner: tuple[str, str], network: str) -> None:
    """Every block with memory names the cue that it saw at the start."""
    agent, kind = learner
    run = remembers(agent, kind, network, *BLOCKS[network], "total_steps=30_000")
    assert learned(run, 0.9)


def test_every_memory_is_tried() -> None:
    vectors = {name for name in choices("network") if "cnn" not in name}
    assert set(BLOCKS) == vectors - {"mlp", "crossq"}


@pytest.mark.parametrize(("agent", "kind"), [*WHOLE, ("pqn", "discrete"), ("sac", "box")])
def test_the_mlp_cannot_remember(agent: str, kind: str) -> None:
    """It has longer than the blocks with memory need, and stays at chance.

    Of choices that is 1/3 - 2/3. In a box it is at best in the middle, 1 - 2/3.
    """
    steps = 3_000 if kind == "box" else 8_000
    run = remembers(agent, kind, "mlp", SMALL[0], f"total_steps={steps}")
    assert not learned(run, 0.9)
    chance = 1 / 3 if kind == "box" else -1 / 3
    assert run.score(400) == pytest.approx(chance, abs=0.25)  # five deviations


def test_stored_memory_is_needed() -> None:
    """Rows 1 to 4 answer, the cue is in row 0: only the memory stored before them tells of it."""

    def run(forget: bool) -> bool:
        words = ("agent.sequence_length=4", "agent.train_freq=4", "agent.learning_starts=300")
        budget = 4_000 if forget else 12_000
        task = ("env.kwargs.delay=4", "env.kwargs.cues=2", f"total_steps={budget}")
        run = remembers("dqn", "discrete", "lstm", *SMALL, *words, *task)
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
FAST = (*family("dqn"), *TINY, "agent.gradient_steps=8", "agent.target_update_interval=50")
LAMBDA = ("agent.max_grad_norm=null", "agent.gae_lambda=0.8")
SHORT = (*TINY, *LAMBDA, "agent.n_steps=16", "agent.n_epochs=8")
TRUNCATION = [
    *[
        (*family(name), *fitting(name, *SHORT))
        for name in REWARDED
        if issubclass(agent_class(name), FreshAgent) and name != "reinforce"  # nothing to bootstrap
    ],
    FAST,
    (*FAST, "agent.n_step=3"),
    (*FAST, "agent.distribution=quantile"),
    (*FAST, "agent.distribution=categorical", "agent.v_min=0", "agent.v_max=20"),
]


@pytest.mark.parametrize("words", TRUNCATION, ids=lambda words: words[0])
def test_truncation_bootstraps(words: tuple[str, ...]) -> None:
    """Law 8: reward 1 for ever at gamma 0.9 is worth 1 / (1 - 0.9) = 10.

    As if it ended after 10 steps it would be worth at most 1 - 0.9^10 of that, 6.5.
    """
    run = training(*words, "env=neuraxis/Truncation-v0", "total_steps=5_000")
    for _ in run.run():
        pass
    rollout = run.rollout()
    with torch.no_grad():
        output = run.agent.policy(rollout.obs, rollout.state, rollout.first)
    value = output[1] if isinstance(run.agent, OnPolicyAgent) else output[0].amax(-1)
    assert torch.allclose(value, torch.tensor(10.0), atol=0.1)


def test_termination_does_not() -> None:
    """The counterpart: an environment that pays 1 and then ends is worth 1."""
    words = ("env=neuraxis/Faulty-v0", "env.kwargs.length=1", "total_steps=2_000")
    run = training(*FAST, *words)
    for _ in run.run():
        pass
    rollout = run.rollout()
    q, _ = run.agent.policy(rollout.obs, rollout.state, rollout.first)
    assert torch.allclose(q, torch.tensor(1.0), atol=0.05)
