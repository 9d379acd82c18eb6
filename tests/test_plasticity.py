"""Plasticity aids: what gets fresh weights, when, and what follows from it."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuraxis.agents import agent_class, agent_names, plasticity
from neuraxis.agents.learning.target import TargetNetwork
from neuraxis.agents.off_policy import OffPolicyAgent

from .helpers import VARIANTS, Training, action_words, kind_of, quick, training, weights

AGENTS = [name for name in agent_names() if issubclass(agent_class(name), OffPolicyAgent)]
BACKBONES = "backbone", "memories"
SMALL = ("num_envs=2", "network.blocks.0.sizes=[8]", "total_steps=200", "agent.train_freq=4")


def build(agent: str, *words: str) -> Training:
    own = f"agent={agent}", *VARIANTS.get(agent, ()), *quick(agent)
    return training(*own, *action_words(kind_of(agent)), *SMALL, *words)


def trained(agent: str, *words: str) -> Training:
    run = build(agent, *words)
    while run.agent.steps < 60:
        run.step()
    return run


def networks(agent: Any) -> dict[str, nn.Module]:
    """What is trained, by the name of its optimizer."""
    return {name: agent.parts[name].trained for name in agent.makers}


def state(agent: Any) -> dict[str, Tensor]:
    """Parameters of these networks by name."""
    return {
        f"{part}.{name}": parameter.detach().clone()
        for part, network in networks(agent).items()
        for name, parameter in network.named_parameters()
    }


def is_head(name: str) -> bool:
    return not name.partition(".")[2].startswith(BACKBONES)


def fresh_ones(agent: Any, value: float) -> None:
    """Lets all fresh weights be one number, so that it is seen where they are."""

    def made(make: Any) -> Any:
        def constant() -> nn.Module:
            network = make()
            for parameter in network.parameters():
                nn.init.constant_(parameter, value)
            return network

        return constant

    for name, make in agent.makers.items():
        agent.makers[name] = made(make)


@pytest.mark.parametrize("agent", [*AGENTS, *VARIANTS])
def test_heads_get_fresh_weights_and_backbones_stay(agent: str) -> None:
    run = trained(agent, "agent.plasticity.reset_interval=100")
    fresh_ones(run.agent, 7.0)
    before = state(run.agent)
    run.agent.plasticity.renew(96, 104)
    after = state(run.agent)
    heads = {name for name in after if is_head(name)}
    assert heads and heads < after.keys()
    assert all((after[name] == 7.0).all() for name in heads)
    assert all(torch.equal(after[name], before[name]) for name in after.keys() - heads)
    assert_begun_anew(run.agent)


@pytest.mark.parametrize("agent", [*AGENTS, *VARIANTS])
def test_all_may_get_fresh_weights(agent: str) -> None:
    words = ("agent.plasticity.reset_interval=100", "agent.plasticity.reset=all")
    words = (*words, "network.blocks.0.norm=batch", "agent.normalize_observations=true")
    run = trained(agent, *words)
    fresh_ones(run.agent, 7.0)
    inputs = {name: x.clone() for name, x in run.agent.policy.normalizer.state_dict().items()}
    run.agent.plasticity.renew(96, 104)
    for name, kept in run.agent.policy.normalizer.state_dict().items():
        assert torch.equal(kept, inputs[name]), "those are of what was seen"
    assert all((parameter == 7.0).all() for parameter in state(run.agent).values())
    statistics = [
        buffer
        for network in networks(run.agent).values()
        for name, buffer in network.named_buffers()
        if name.endswith("running_mean")
    ]
    assert statistics and not any(buffer.any() for buffer in statistics)
    assert_begun_anew(run.agent)


def assert_begun_anew(agent: Any) -> None:
    """Moments, and targets that are copies."""
    for name, network in networks(agent).items():
        optimizer = agent.parts[name]
        assert not (optimizer.mean.any() or optimizer.square.any() or optimizer.count)
        assert len(optimizer.flat) == sum(p.numel() for p in network.parameters())
    weights = [torch.cat([p.flatten() for p in n.parameters()]) for n in networks(agent).values()]
    targets = [part for part in agent.parts.values() if isinstance(part, TargetNetwork)]
    for target in targets:
        assert any(torch.equal(target.flat, flat) for flat in weights)


@pytest.mark.parametrize("agent", [*AGENTS, *VARIANTS])
def test_shrunk_weights_keep_a_share(agent: str) -> None:
    words = ("agent.plasticity.shrink_interval=100", "agent.plasticity.shrink=0.6")
    run = trained(agent, *words, "agent.normalize_observations=true")
    fresh_ones(run.agent, 2.0)
    before = state(run.agent)
    run.agent.plasticity.renew(96, 104)
    for name, parameter in state(run.agent).items():
        torch.testing.assert_close(parameter, 0.6 * before[name] + 0.8)
    assert_begun_anew(run.agent)


def test_what_is_frozen_stays() -> None:
    words = ("agent.plasticity.reset_interval=100", "agent.plasticity.reset=all")
    run = trained("dqn", *words, "agent.freeze={backbone.*: null}")
    fresh_ones(run.agent, 7.0)
    before = state(run.agent)
    run.agent.plasticity.renew(96, 104)
    for name, parameter in state(run.agent).items():
        same = torch.equal(parameter, before[name])
        assert same != is_head(name) and same != bool((parameter == 7.0).all()), name


@pytest.mark.parametrize("agent", AGENTS)
def test_it_comes_when_it_is_due_and_is_counted(
    agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every 40 steps from 20 on, at which learning begins, but not at the end of the run."""
    words = ("agent.plasticity.reset_interval=40", "agent.plasticity.shrink_interval=60")
    run = build(agent, *words, "agent.learning_starts=20")
    renewed = Counter[tuple[int, bool]]()  # in order; an agent may train several networks

    def mix(trained: Any, fresh: Any, names: set[str], heads: bool, kept: float) -> None:
        renewed[run.agent.steps, heads] += 1

    monkeypatch.setattr(plasticity, "mix", mix)
    counts = []
    while run.agent.steps < 200:
        metrics = run.step()
        counts.append((run.agent.steps, metrics["train/resets"], metrics["train/shrinks"]))
    assert {*renewed.values()} == {len(run.agent.makers)}, "each network once"
    resets = [steps for steps, heads in renewed if heads]
    assert [steps // 40 for steps in resets] == [1, 2, 3, 4] and max(resets) < 200
    assert [steps // 60 for steps, heads in renewed if not heads] == [1, 2, 3]
    for steps, found, shrinks in counts[:-1]:
        assert (found, shrinks) == (steps // 40, steps // 60)
    assert counts[-1][1:] == (4, 3)


def test_without_an_interval_there_is_none() -> None:
    run = build("dqn")
    assert run.agent.plasticity is None
    assert not {"train/resets", "train/shrinks"} & run.step().keys()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("agent.plasticity.reset_interval=200",), r"reset_interval=200: is never due between"),
        (("agent.plasticity.shrink_interval=9999",), r"shrink_interval=9999: is never due"),
        (("agent.plasticity.shrink=1",), r"agent\.plasticity\.shrink=1: .*less than 1"),
        (("agent.plasticity.reset=body",), r"agent\.plasticity\.reset=body: .*heads"),
        (("agent.plasticity.reset_interval=-1",), r"reset_interval=-1"),
        (("agent.plasticity.shrink=0.6",), r"plasticity\.shrink=0\.6: expected .*shrink_interval"),
        (("agent.plasticity.reset=all",), r"plasticity\.reset=all: expected .*reset_interval"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        build("dqn", *words)
    assert "\n" not in str(refused.value)


OWN = """
from neuraxis.agents.dqn import DQN


class Own(DQN):
    class Config(DQN.Config, frozen=True):
        name: str = "forgets"

    def build_replay(self):
        self.makers.clear()
        return super().build_replay()
"""


def test_an_agent_that_would_ignore_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "forgets").mkdir()
    (tmp_path / "forgets" / "own.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    words = ("agent=forgets.own", "agent.learning_starts=8")
    training(*words)
    with pytest.raises(ValueError, match=r"^agent\.plasticity: agent=forgets\.own .* `makers`"):
        training(*words, "agent.plasticity.reset_interval=100")


def test_agents_without_a_replay_have_none() -> None:
    with pytest.raises(ValueError, match=r"agent\.plasticity"):
        training("agent=ppo", "agent.plasticity.reset_interval=100")


def test_after_a_reset_a_resumed_agent_delays_the_same_updates() -> None:
    """TD3's policy learns in every other update, which the fresh optimizer counts from 0."""
    words = ("agent=td3", "env=Pendulum-v1", "num_envs=1", "agent.train_freq=1", "seed=1")
    words += ("agent.learning_starts=8", "agent.batch_size=4", "agent.gradient_steps=1")
    words += ("agent.plasticity.reset_interval=21", "network.blocks.0.sizes=[8]")
    run, resumed = training(*words), training(*words)
    while run.agent.steps < 22:
        run.step()
    resumed.agent.load_state_dict(copy.deepcopy(run.agent.state_dict()))
    torch_state = torch.get_rng_state()
    rollouts = [run.rollout() for _ in range(3)]
    for agent in (run.agent, resumed.agent):
        torch.set_rng_state(torch_state)
        for rollout in rollouts:
            agent.learn(rollout)
    assert torch.equal(weights(run.agent), weights(resumed.agent))
