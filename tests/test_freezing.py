"""What is frozen never changes, and what thaws goes on as if it began there: for every agent."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from neuraxis.agents.agent import Agent
from neuraxis.agents.learning.execution import recorded
from neuraxis.agents.learning.optimizer import Optimizer
from neuraxis.agents.learning.target import TargetNetwork
from neuraxis.configs import dump, load
from neuraxis.configs.groups import choices
from neuraxis.core.rollout import Rollout
from neuraxis.networks import build
from neuraxis.networks.depth import layers
from neuraxis.networks.transfer.patterns import matches
from neuraxis.training.checks.preflight import notes
from neuraxis.training.session import prepare

from .helpers import (
    LEARNERS,
    VARIANTS,
    WITH_NETWORK,
    Training,
    config,
    file_of,
    fitting,
    kind_of,
    quick,
    training,
)

FIRST = "{name: mlp, sizes: [6], norm: batch, dropout: 0.2}"
COMMON = ("num_envs=4", "agent.normalize_observations=true")
EXPLORATION = "epsilon", "noise_std", "share", "noise_in", "noise_out"
"""Of a policy and of noisy layers, which no pattern freezes."""


def words(agent: str, *more: str) -> tuple[str, ...]:
    env = "Pendulum-v1" if kind_of(agent) == "box" else "CartPole-v1"
    few = () if agent == "pqn" else ("agent.max_grad_norm=0.5",)
    second = "{name: lstm}" if agent == "r2d2" else "{name: mlp, sizes: [5]}"
    blocks, own = f"network.blocks=[{FIRST}, {second}]", VARIANTS.get(agent, ())
    return f"agent={agent}", f"env={env}", blocks, *COMMON, *own, *quick(agent), *few, *more


def learn(agent: Agent[Any], rollouts: Sequence[Rollout[Tensor]]) -> list[dict[str, Tensor]]:
    """Learns from rollouts, with the same random numbers whatever was drawn before."""
    metrics = []
    for rollout in rollouts:
        torch.manual_seed(agent.steps)
        metrics.append(agent.learn(rollout))
    return metrics


def rollouts(run: Training, count: int) -> list[Rollout[Tensor]]:
    return [copy.deepcopy(run.rollout()) for _ in range(count)]


def tensors(agent: Agent[Any]) -> dict[str, Tensor]:
    """A copy of what modules and optimizers hold, by part and name."""
    return {
        f"{part}.{name}": tensor.clone()
        for part, module in agent.parts.items()
        if isinstance(module, nn.Module | Optimizer)
        for name, tensor in module.state_dict().items()
    }


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(
        torch.equal(tensor.nan_to_num(), other[name].nan_to_num()) for name, tensor in one.items()
    )


def chosen(agent: Agent[Any], *patterns: str) -> dict[str, Tensor]:
    """A copy of the weights and statistics that patterns match, those of target networks too."""
    homes = {"policy": "", "policy_target": "", "critics": "critics."}
    homes["decoder"] = "decoder."
    homes["target"] = homes["critics"] if "critics" in agent.parts else ""
    found = {}
    for part, home in homes.items():
        module = agent.parts.get(part)
        if isinstance(module, nn.Module):
            state = (module.network if isinstance(module, TargetNetwork) else module).state_dict()
            for name, tensor in state.items():
                own = name.rpartition(".")[2]
                if own not in EXPLORATION and any(matches(home + name, p) for p in patterns):
                    found[f"{part}.{name}"] = tensor.clone()
    return found


@pytest.mark.parametrize("agent", LEARNERS)
def test_what_is_frozen_never_changes(agent: str) -> None:
    """Not by a step, by dropout, by the statistics of a norm, nor in a target network."""
    parts = "backbone.*", "normalizer.*"
    run = training(*words(agent, "agent.freeze={backbone.*: null, normalizer.*: null}"))
    learner = run.agent
    before, every = chosen(learner, *parts), chosen(learner, "*")
    learn(learner, rollouts(run, 6))
    assert any("running_mean" in name for name in before)
    assert equal(before, chosen(learner, *parts)), "the same to the last bit"
    assert not equal(every, chosen(learner, "*")), "nothing has learned"
    for vector in learner.vectors():
        trained = sum(p.numel() for p in vector.trained.parameters() if p.requires_grad)
        assert len(vector.flat) == len(vector.whole) == trained
        assert not any(matches(name, "backbone.*") for name in vector.order)
    assert all(parameter.grad is None for parameter in learner.policy.parameters())


@pytest.mark.parametrize("agent", LEARNERS)
def test_all_may_be_frozen(agent: str) -> None:
    run = training(*words(agent, 'agent.freeze={"*": null}'))
    before = chosen(run.agent, "*")
    metrics = learn(run.agent, rollouts(run, 6))[-1]
    assert equal(before, chosen(run.agent, "*"))
    assert metrics["train/frozen"] > 0 == metrics["train/grad_norm"].nan_to_num()


@pytest.mark.parametrize("agent", LEARNERS)
def test_a_thaw_is_a_start_from_there(agent: str) -> None:
    """All is frozen until half of the run, then it equals a run that begins unfrozen."""
    often = fitting(agent, "total_steps=512", "agent.policy_delay=1")  # whose turns are counted
    run = training(*words(agent, *often, 'agent.freeze={"*": 0.5}'))
    learner = run.agent
    before, given = chosen(learner, "*"), rollouts(run, 24 if agent == "r2d2" else 12)
    while learner.steps < 256:
        learn(learner, [given.pop(0)])
    assert equal(before, chosen(learner, "*"))
    state = copy.deepcopy(learner.state_dict())
    plain = training(*words(agent, *often)).agent
    fresh = plain.state_dict()
    plain.load_state_dict(
        {name: fresh[name] if name in plain.optimizers else state[name] for name in fresh}
    )
    ours, theirs = learn(learner, given[:3]), learn(plain, given[:3])
    for one, other in zip(ours, theirs, strict=True):
        assert one.pop("train/frozen") == 0
        assert equal(one, other)
    assert equal(chosen(learner, "*"), chosen(plain, "*"))
    for name, optimizer in learner.optimizers.items():
        assert equal(
            {"mean": optimizer.mean, "square": optimizer.square},
            {"mean": plain.parts[name].mean, "square": plain.parts[name].square},
        )
    assert not equal(before, chosen(learner, "*"))


@pytest.mark.parametrize("agent", LEARNERS)
def test_a_thaw_leaves_the_others_as_they_are(agent: str) -> None:
    """Weights stay, and moments of what has learned; those of what thaws are fresh."""
    heads = {"dqn": "advantage", "pqn": "advantage", "pretrain": "decoder"}
    head = heads.get(file_of(agent), "head")
    freeze = f"agent.freeze={{backbone.*: 0.25, {head}.*: 0.5}}"
    run = training(*words(agent, "total_steps=512", freeze))
    learner = run.agent
    learn(learner, rollouts(run, 4))
    start = chosen(learner, "backbone.*")
    places = [parameter.data_ptr() for parameter in learner.policy.parameters()]
    for steps, stage in ((128, 1), (256, 2)):
        before = chosen(learner, "*")
        moments = {name: o.mean.clone() for name, o in learner.optimizers.items()}
        learner.steps = steps
        metric = learner.thaw()["train/frozen"]
        assert learner.freezing.stage == stage and (metric == 0) == (stage == 2)
        assert equal(before, chosen(learner, "*"))
        for name, optimizer in learner.optimizers.items():
            kept = len(moments[name])
            assert torch.equal(optimizer.mean[:kept], moments[name])
            assert not optimizer.mean[kept:].any() and optimizer.begun[-1] == optimizer.count
        learn(learner, rollouts(run, 3))
    assert places == [parameter.data_ptr() for parameter in learner.policy.parameters()]
    assert not equal(start, chosen(learner, "backbone.*"))


@pytest.mark.parametrize("agent", WITH_NETWORK)
def test_resumed_before_at_and_after_a_thaw(agent: str) -> None:
    """Also where the run was made longer: what has thawed does not freeze again."""
    more = ("agent.layer_decay=0.5", "agent.freeze={backbone.*: 0.25, normalizer.*: 0.25}")
    run = training(*words(agent, *more, "total_steps=384"))
    given = rollouts(run, 12)
    stages, after = [], []
    for number, rollout in enumerate(given):
        learn(run.agent, [rollout])
        stages.append(run.agent.freezing.stage)
        after.append((copy.deepcopy(run.agent.state_dict()), number))
    first = stages.index(1)
    assert 0 < first < len(given) - 2
    expected = tensors(run.agent)
    for state, number in (after[first - 1], after[first], after[first + 1]):
        again = training(*words(agent, *more, "total_steps=384")).agent
        again.load_state_dict(state)
        learn(again, given[number + 1 :])
        assert equal(tensors(again), expected)
    longer = training(*words(agent, *more, "total_steps=10_000")).agent
    longer.load_state_dict(after[first][0])
    assert longer.freezing.stage == 1 and longer.thaw()["train/frozen"] == 0
    longer.load_state_dict(after[first - 1][0])
    assert longer.freezing.stage == 0


@pytest.mark.parametrize("agent", ["ppo", "dqn", "sac"])
def test_recorded_updates_are_the_plain_ones_across_a_thaw(
    agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = ("network.blocks=[{name: mlp, sizes: [6]}]", "agent.layer_decay=0.5")
    found = []
    for before in (0, 10**9):
        monkeypatch.setattr(recorded, "CALLS_BEFORE", before)
        run = training(
            *words(agent, *network, "total_steps=512", "agent.freeze={backbone.*: 0.25}")
        )
        assert run.agent.execution == "recorded"
        first = run.agent.run_update
        learn(run.agent, rollouts(run, 10))
        assert run.agent.freezing.stage == 1 and run.agent.run_update is not first
        for update in (first, run.agent.run_update):
            assert all(update.recordings.values()) and bool(update.recordings) == (before == 0)
        found.append(tensors(run.agent))
    assert equal(*found)


def factors(agent: Agent[Any]) -> dict[str, float]:
    """Those of the learning rates, by part and name."""
    return {
        f"{part}/{name}": optimizer.treatments[parameter].factor
        for part, optimizer in agent.optimizers.items()
        for name, parameter in zip(optimizer.names, optimizer.parameters, strict=True)
    }


def test_layers_nearer_to_the_input_learn_slower() -> None:
    network = "network.blocks=[{name: mlp, sizes: [6, 6]}, {name: lstm, size: 4}]"
    slower = "agent.layer_decay=0.5", "agent.learning_rate_factors={critic.*: 0.1}"
    found = factors(training(network, *slower).agent)
    blocks = "optimizer/actor.blocks"
    assert found[f"{blocks}.0.layers.0.weight"] == 0.125
    assert found[f"{blocks}.0.layers.2.bias"] == 0.25
    assert found[f"{blocks}.1.core.bias_hh_l0"] == 0.5
    assert found["optimizer/critic.blocks.0.layers.2.weight"] == 0.1 * 0.25
    assert found["optimizer/head.linear.weight"] == found["optimizer/value.bias"] == 1


def test_a_critics_memory_is_below_what_values_its_actions() -> None:
    words = ("agent=sac", "env=Pendulum-v1", "network=lstm", "agent.layer_decay=0.5")
    found = factors(training(*words).agent)
    assert found["critic_optimizer/heads.1.weight"] == 1
    assert found["critic_optimizer/backbones.1.blocks.0.layers.0.weight"] == 0.25
    assert found["critic_optimizer/memories.1.blocks.1.core.weight_hh_l0"] == 0.125
    assert found["temperature_optimizer/log"] == 1


def test_the_last_pattern_that_matches_counts() -> None:
    words = (
        'agent.freeze={"*": null, head.*: 0, value.*: 0.5}',
        'agent.learning_rate_factors={"*": 0.5, head.*: 2}',
    )
    agent = training(*words).agent
    assert agent.optimizer.names == ["head.linear.weight", "head.linear.bias"]
    assert agent.optimizer.order[2:] == ["value.weight", "value.bias"]
    assert set(factors(agent).values()) == {2.0}
    assert agent.thaw()["train/frozen"] == 2 * (4 * 64 + 64 + 64 * 64 + 64) + 65


IMAGE = spaces.Box(0, 255, (3, 36, 36), np.uint8)
TWO_IMAGES = spaces.Dict({"a": IMAGE, "b": IMAGE})


@pytest.mark.parametrize("network", choices("network"))
def test_every_parameter_is_of_one_layer(network: str) -> None:
    images = "cnn" in network
    small = ("network.blocks.0.size=8",) if images else ()
    blocks = config(f"network={network}", *small).network.blocks
    backbone = build(blocks, TWO_IMAGES if images else spaces.Box(-1, 1, (3,)))
    found = [parameter for layer in layers(backbone) for parameter in layer]
    assert len(found) == len({*found}) == len(list(backbone.parameters()))
    assert {*found} == {*backbone.parameters()}
    assert all(any(parameter.ndim > 1 for parameter in layer) for layer in layers(backbone))


def test_layers_from_the_input_to_the_output() -> None:
    """Beside each other where they are of two images; a norm is of the layer before it."""
    words = "network.blocks=[{name: cnn, size: 8, norm: layer}, {name: transformer, layers: 2}]"
    backbone = build(config(words).network.blocks, TWO_IMAGES)
    names = {parameter: name for name, parameter in backbone.named_parameters()}
    found = [{names[parameter] for parameter in layer} for layer in layers(backbone)]
    leaves = ["encoder.leaves.0.block", "encoder.leaves.1.block"]
    of_one = "0.weight", "0.bias", "1.weight", "1.bias"
    assert found[0] == {f"{leaf}.features.{part}" for leaf in leaves for part in of_one}
    assert f"{leaves[1]}.head.0.weight" in found[3] and f"{leaves[0]}.head.1.bias" in found[3]
    assert "blocks.0.embed.weight" in found[4] and "blocks.0.layers.0.position" in found[5]
    assert "blocks.0.norm.weight" in found[6] and len(found) == 7


def test_patterns_come_back_from_a_stored_configuration(tmp_path: Path) -> None:
    """In their order, of which the last counts, though their names have dots."""
    freeze = 'agent.freeze={actor.*: null, "*": 0.5, actor.blocks.0.*: 0.2}'
    factors = "agent.learning_rate_factors={critic.*: 0.5}"
    cfg = load([freeze, factors])
    (tmp_path / "config.yaml").write_text(dump(cfg.stored()))
    again = load(base=tmp_path / "config.yaml")
    assert again == cfg
    assert list(dict(again.agent)["freeze"]) == ["actor.*", "*", "actor.blocks.0.*"]
    other = load(["agent.freeze={head.*: 9000}"], tmp_path / "config.yaml")
    assert dict(other.agent)["freeze"] == {"head.*": 9000}


@pytest.mark.parametrize(("total", "begins"), [(256, 128), (257, 256)])
def test_a_thaw_that_never_comes_is_said(total: int, begins: int) -> None:
    """It comes where a rollout of these 128 steps begins at its step or after."""
    words = ("env=Pendulum-v1", "num_envs=8", "agent.n_steps=16", "agent.n_epochs=1")
    run = training(*words, f"total_steps={total}", "agent.freeze={head.*: 129}")
    (note,) = notes(run.cfg, run.agent)
    assert "; a thaw comes at 129 steps" in note
    late = "the last rollout begins at about 128 steps, and what thaws after that never learns"
    assert (late in note) == (begins == 128)
    assert len(list(run.run())) == begins / 128 + 1
    assert run.agent.freezing.stage == (begins == 256)


@pytest.mark.parametrize("freeze", ["{normalizer.*: null}", '{"*": 0.5}'])
def test_statistics_of_nothing_are_not_frozen(freeze: str, tmp_path: Path) -> None:
    """They would shift and scale nothing, and cut what is beyond 10; those of a run may be."""
    small = ("wandb.mode=disabled", "device=cpu", "num_envs=2", "agent.n_steps=8")
    small = (*small, "total_steps=48", "agent.normalize_observations=true", "eval.final_episodes=1")
    frozen = (*small, f"agent.freeze={freeze}")
    message = r"^agent\.freeze: normalizer\.\* is frozen before .* expected .*0 .*or init\.from=RUN"
    for more in ((), (f"init.from={tmp_path}/run", "init.statistics=fresh")):
        if more:
            prepare(load([*small, f"run_dir={tmp_path}/run"])).run()
        with pytest.raises(ValueError, match=message) as refused:
            prepare(load([*frozen, *more, f"run_dir={tmp_path}/bad"]))
        assert "\n" not in str(refused.value) and not (tmp_path / "bad").exists()
    words = (*frozen, f"init.from={tmp_path}/run", f"run_dir={tmp_path}/good")
    assert prepare(load(words)).run().summary["status"] == "finished"
    moving = (*small, 'agent.freeze={"*": 0.5, normalizer.*: 0}', f"run_dir={tmp_path}/moving")
    prepare(load(moving)).source.close()


def test_nothing_treated_is_nothing_done() -> None:
    agent = training(
        "agent.freeze={}", "agent.learning_rate_factors={}", "agent.layer_decay=1"
    ).agent
    assert agent.freezing is None and "freezing" not in agent.parts and agent.thaw() == {}
    same = training("agent.learning_rate_factors={actor.*: 1}").agent
    assert same.optimizer.groups == [] and "freezing" not in same.parts
    assert isinstance(training("agent=dqn").agent.target, TargetNetwork)


OWN = """
from neuraxis.agents.agent import Agent
from neuraxis.agents.policies.q_values import QPolicy
from neuraxis.agents.setup import GradientConfig


class Own(Agent):
    class Config(GradientConfig, frozen=True):
        name: str = "own_agent"

    def __init__(self, config, setup):
        super().__init__(config, setup)
        spaces = setup.observation_space, setup.action_space
        self.policy = QPolicy(setup.network, *spaces, False)
        self.parts.update(policy=self.policy, optimizer=self.build_optimizer(self.policy, config))
        self.rollout_length = 8
"""


def test_an_agent_that_would_ignore_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "agent.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    training("agent=own.agent")
    with pytest.raises(ValueError, match=r"agent=own.agent does not call `execute`"):
        training("agent=own.agent", "agent.layer_decay=0.5")
    with pytest.raises(ValueError, match=r"^agent\.augment: agent=own.agent .* `augmentation`"):
        training("agent=own.agent", "agent.augment.noise=0.1")
