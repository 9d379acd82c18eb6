"""Law 10: every agent and every network trains, or says why not.

Here are as many pairs as there are agents and networks; `benchmarks/matrix.py` has all of them.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from neuraxis.agents import Setup, agent_class, agent_names, build
from neuraxis.configs import load
from neuraxis.configs.groups import choices
from neuraxis.training.cli.listing import matrix

from .helpers import ACTIONS, action_words, claimed, quick, training, weights

NETWORKS = list(choices("network"))
MEMORY = [name for name in NETWORKS if {"lstm", "gru", "transformer"} & {*name.split("_")}]
ANY = [name for name in agent_names() if agent_class(name).memory and "discrete" in claimed(name)]
ENVS = {
    "vector": ("env=CartPole-v1",),
    "image": ("env=minigrid_empty",),
    "dict": ("env=neuraxis/Dict-v0",),
}


def env_of(number: int, network: str) -> str:
    """A kind of observation that the network can read."""
    if not network.startswith("cnn"):
        return list(ENVS)[number % len(ENVS)]
    return "dict" if number % 2 or "small" not in network else "image"


IMAGE = spaces.Box(0, 255, (8, 8, 3), np.uint8)
KINDS = {
    "Discrete": spaces.Discrete(3),
    "MultiDiscrete": spaces.MultiDiscrete([2, 3]),
    "MultiBinary": spaces.MultiBinary(2),
    "Box": spaces.Box(-1, 1, (2,)),
}
WITH_CRITIC = [name for name in ANY if agent_class(name).has_critic]


def agent_for(number: int, network: str) -> str:
    """An agent that can have the network."""
    fit = WITH_CRITIC if load([f"network={network}"]).network.critic else ANY
    return fit[number % len(fit)]


PAIRS = [
    (agent_for(number, network), network, ENVS[env_of(number, network)])
    for number, network in enumerate(NETWORKS)
] + [(name, "mlp", action_words(claimed(name)[0])) for name in agent_names()]


@pytest.mark.parametrize(("agent", "network", "env"), PAIRS)
def test_a_pair_trains(agent: str, network: str, env: tuple[str, ...]) -> None:
    words = (f"agent={agent}", f"network={network}", *quick(agent), *env)
    run = training(*words, "num_envs=2", "env.time_limit=20")
    optimizers, all_before = run.agent.optimizers.values(), weights(run.agent)
    before = [optimizer.flat.clone() for optimizer in optimizers]
    metrics: dict[str, float] = {}
    for _ in range(6):
        metrics |= run.step()
    assert all(math.isfinite(value) for value in metrics.values())
    assert not torch.equal(weights(run.agent), all_before)
    for optimizer, old in zip(optimizers, before, strict=True):
        assert (optimizer.flat != old).any() and torch.isfinite(optimizer.flat).all()


@pytest.mark.parametrize("agent", [name for name in agent_names() if agent_class(name).has_critic])
@pytest.mark.parametrize("critic", ["mlp, sizes: [24]", "gru, size: 24"])
def test_critics_with_blocks_of_their_own_train(critic: str, agent: str) -> None:
    """Also where they alone have memory; the actor stays as it is."""
    words = (f"agent={agent}", *quick(agent), *action_words(claimed(agent)[0]), "num_envs=2")
    same = training(*words)
    run = training(*words, f"network.critic=[{{name: {critic}}}]")
    metrics: dict[str, float] = {}
    for _ in range(6):
        metrics |= run.step()
    assert all(math.isfinite(value) for value in metrics.values())
    assert len(weights(run.agent)) != len(weights(same.agent))
    acting = [
        [tuple(p.shape) for name, p in each.agent.policy.named_parameters() if "actor" in name]
        for each in (run, same)
    ]
    assert acting[0] == acting[1]


@pytest.mark.parametrize(
    ("architecture", "env", "message"),
    [
        ("auto", "vector", "network: its first block reads images, but there is no image in Box"),
        ("nature", "image", "is too small"),
    ],
)
@pytest.mark.parametrize("agent", ANY)
def test_a_network_that_cannot_read_says_so(
    agent: str, architecture: str, env: str, message: str
) -> None:
    words = "network=cnn", f"network.blocks.0.architecture={architecture}", *ENVS[env]
    with pytest.raises(ValueError, match=message) as refused:
        training(f"agent={agent}", *words, *quick(agent), "num_envs=2")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("agent", choices("agent"))
def test_the_matrix_is_true(agent: str) -> None:
    """Each cell: the agent is built for the block, or refuses it; kinds of actions take turns."""
    heading, *rows = matrix()
    cells = next(dict(zip(heading, row, strict=True)) for row in rows if row[0] == agent)
    kinds = itertools.cycle(KINDS[name] for name in cells["actions"].split(", "))
    for block in heading[1:-2]:
        cfg = load([f"agent={agent}", f"network={block}", "env=CartPole-v1"])
        observations = IMAGE if block == "cnn" else spaces.Box(-1, 1, (4,))
        given = cfg.network, observations, next(kinds), 2, 100_000, 0, torch.device("cpu"), False
        if cells[block] == "yes":
            build(cfg.agent, Setup(*given))
            continue
        with pytest.raises(ValueError):
            build(cfg.agent, Setup(*given))


def test_a_critic_that_cannot_read_is_not_blamed_on_the_actor() -> None:
    with pytest.raises(ValueError, match="network: its first block reads images, but there is no"):
        training("network.critic=[{name: cnn}]", "num_envs=2")


@pytest.mark.parametrize("agent", agent_names())
def test_actions_that_an_agent_does_not_claim_are_refused(agent: str) -> None:
    for kind in set(ACTIONS) - {*claimed(agent)}:
        with pytest.raises(ValueError, match=rf"agent={agent}: needs a .* action space.*agent=ppo"):
            training(f"agent={agent}", *quick(agent), *action_words(kind))


@pytest.mark.parametrize("network", [name for name in MEMORY if "cnn" not in name])
def test_memory_that_an_agent_does_not_claim_is_refused(
    network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All agents of neuraxis take memory; one's own may not."""
    monkeypatch.setattr(agent_class("sac"), "memory", False)
    line = r"agent=sac: .* the network has memory \(.*\); take network=mlp .*agent=ppo"
    with pytest.raises(ValueError, match=line) as refused:
        training("agent=sac", f"network={network}", *action_words("box"))
    with pytest.raises(ValueError, match="the network has memory"):
        training("agent=sac", "network.critic=[{name: lstm}]", *action_words("box"))
    named = str(refused.value).partition("(")[2].partition(")")[0].split(", ")
    assert {*named} == {*network.split("_")} & {"lstm", "gru", "transformer"}
