"""Agents that learn asynchronously: from rollouts of older weights, and of some of the columns.

V-trace itself is in test_returns.py, the replay in test_replay.py.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from neuraxis.agents import agent_class, agent_names
from neuraxis.agents.impala import IMPALA
from neuraxis.agents.learning.returns import vtrace
from neuraxis.agents.on_policy import OnPolicyAgent
from neuraxis.configs.groups import choices
from neuraxis.core.rollout import Rollout

from .helpers import (
    ACTIONS,
    Late,
    Training,
    action_words,
    claimed,
    fitting,
    part,
    training,
    weights,
)
from .test_learning import family

ASYNCHRONOUS = [name for name in agent_names() if agent_class(name).asynchronous]
ACTOR_CRITICS = [name for name in ASYNCHRONOUS if issubclass(agent_class(name), OnPolicyAgent)]
WORDS = ("num_envs=4", "agent.n_steps=16", "agent.learning_rate=0.01", "env.time_limit=9")
SMALL = ("network.blocks.0.sizes=[16]",)


def build(agent: str, *words: str) -> Training:
    return training(f"agent={agent}", *WORDS, *words)


def log_probs(run: Training, rollout: Rollout) -> Tensor:
    """Of the actions of a rollout, by the learner."""
    return run.agent.policy.unroll(rollout, 16)[1]


def assert_extras_are_of_the_learner(run: Training) -> None:
    for _ in range(3):  # away from the first weights, into the middle of episodes
        run.step()
    rollout = run.rollout()
    acted = rollout.extras["log_prob"]
    assert acted.shape == rollout.reward.shape
    assert torch.allclose(log_probs(run, rollout)[rollout.valid], acted[rollout.valid], atol=1e-5)
    run.agent.learn(rollout)
    assert (log_probs(run, rollout) - acted)[rollout.valid].abs().max() > 1e-4


def images(network: str) -> tuple[str, ...]:
    size = 10 if "small" in network else 36
    return ("env=neuraxis/Dict-v0", f"env.kwargs.size={size}") if "cnn" in network else ()


@pytest.mark.parametrize("agent", ACTOR_CRITICS)
@pytest.mark.parametrize("network", choices("network"))
def test_the_learner_finds_the_log_probabilities_of_acting(network: str, agent: str) -> None:
    """Law 3: with the weights that acted, the ratio is 1."""
    words = (f"network={network}", *images(network), "agent.normalize_observations=true")
    assert_extras_are_of_the_learner(build(agent, *words))


@pytest.mark.parametrize("space", ACTIONS)
def test_log_probabilities_of_every_action_space(space: str) -> None:
    assert_extras_are_of_the_learner(build("impala", *action_words(space, 3)))


@pytest.mark.parametrize("agent", ACTOR_CRITICS)
@pytest.mark.parametrize("setting", ["dropout=0.3", "norm=batch", "norm=layer"])
def test_acting_has_neither_masks_nor_batch_statistics(setting: str, agent: str) -> None:
    assert_extras_are_of_the_learner(build(agent, f"network.blocks.0.{setting}"))


def test_ppo_remembers_nothing() -> None:
    assert build("ppo").rollout().extras == {}


@pytest.mark.parametrize("network", ["mlp", "lstm"])
def test_appo_on_policy_is_ppo(network: str) -> None:
    words = (f"network={network}", "agent.n_epochs=2", "agent.batch_size=32", "agent.ent_coef=0.1")
    runs = [build(agent, *words, "agent.normalize_rewards=true") for agent in ("ppo", "appo")]
    for _ in range(3):
        metrics, expected = (run.step() for run in runs)
        assert metrics == pytest.approx({name: expected[name] for name in metrics}, abs=1e-4)
    ours, theirs = (weights(run.agent) for run in runs)
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_appo_takes_the_ratio_against_the_policy_that_acted() -> None:
    """Also with dropout, where what acted had no masks and what learns has."""
    for words in ((), ("network.blocks.0.dropout=0.3",)):
        run = build("appo", *words, "agent.batch_size=64", "agent.n_epochs=1")
        rollout = run.rollout()
        moved = torch.randn_like(rollout.reward) / 3
        acted = log_probs(run, rollout) - moved
        seen: list[dict[str, Tensor]] = []
        update = run.agent.run_update
        run.agent.run_update = lambda batch, seen=seen, update=update: (
            seen.append(update(batch)) or seen[-1]
        )
        metrics = run.agent.learn(replace(rollout, extras={"log_prob": acted}))
        valid = rollout.valid
        found, expected = seen[0]["log_ratio"].reshape(valid.shape)[valid], moved[valid]
        assert torch.allclose(found.sort().values, expected.sort().values, atol=1e-5)
        weight = moved.exp().clamp(max=1)[valid].mean()
        assert float(metrics["policy/rho"]) == pytest.approx(float(weight), abs=1e-5)


def test_appo_does_not_learn_from_what_is_further_than_target_kl() -> None:
    """Not a step: the metrics then know of no gradient."""
    run = build("appo", "agent.target_kl=0.01")
    rollout = run.rollout()
    acted = rollout.extras["log_prob"]
    before = weights(run.agent)
    metrics = run.agent.learn(replace(rollout, extras={"log_prob": acted - 1}))
    assert torch.equal(weights(run.agent), before) and "train/grad_norm" not in metrics
    metrics = run.agent.learn(rollout)
    assert not torch.equal(weights(run.agent), before) and "train/grad_norm" in metrics


def test_the_loss_of_impala_is_the_papers() -> None:
    """Against torch.distributions and section 4.2, written out, for rollouts of other weights."""
    run = build("impala", "agent.ent_coef=0.03", "agent.vf_coef=0.7", "agent.rho_bar=1.2")
    agent: IMPALA = run.agent
    run.step()
    rollout = run.rollout()
    acted = rollout.extras["log_prob"] + torch.randn_like(rollout.reward) / 2
    rollout = replace(rollout, extras={"log_prob": acted})
    batch = agent.targets(rollout) | agent.coefficients()
    loss, _ = agent.loss(agent.weigh(batch))

    params, value, _ = agent.policy(rollout.obs, (), rollout.first)
    pi = torch.distributions.Categorical(logits=params[:-1])
    log_prob, keep = pi.log_prob(rollout.action), rollout.valid
    assert 0 < keep.sum() < keep.numel()
    stream = rollout.reward, rollout.discount, keep, value.detach()
    ratio = (log_prob - acted).detach()
    target, advantage, rho = vtrace(*stream, ratio, 0.99, rho_bar=1.2)
    assert torch.allclose(rho, ratio.exp().clamp(max=1.2))
    gain = (rho * advantage * log_prob)[keep].mean()
    error = (target - value[:-1]).square()[keep].mean()
    expected = -gain + 0.7 * error - 0.03 * pi.entropy()[keep].mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("network", ["mlp", "lstm"])
def test_invalid_steps_have_no_say(network: str) -> None:
    """The action of a reset, and its log-probability, may be anything."""

    def learned(spoil: bool) -> Tensor:
        run = build("impala", f"network={network}", "agent.normalize_rewards=true")
        for _ in range(2):
            rollout = run.rollout()
            assert not rollout.valid.all()
            if spoil:
                action = torch.where(rollout.valid, rollout.action, 1 - rollout.action)
                acted = torch.where(rollout.valid, rollout.extras["log_prob"], -9.0)
                rollout = replace(rollout, action=action, extras={"log_prob": acted})
            run.agent.learn(rollout)
        return weights(run.agent)

    assert torch.equal(learned(False), learned(True))


def test_impala_corrects_each_minibatch_by_the_newest_weights() -> None:
    run = build("impala", "agent.batch_size=33", "agent.n_epochs=2")  # two columns
    rollout, seen = run.rollout(), []
    targets = run.agent.targets

    def watched(rollout: Rollout) -> Any:
        assert not run.agent.policy.training
        seen.append((rollout, targets(rollout), weights(run.agent)))
        return seen[-1][1]

    run.agent.targets = watched
    run.agent.learn(rollout)
    assert [batch["rho"].shape for _, batch, _ in seen] == [(16, 2)] * 4
    assert torch.allclose(seen[0][1]["rho"], torch.ones(16, 2), atol=1e-5)
    for (_, before, old), (_, after, new) in itertools.pairwise(seen):
        assert not torch.equal(old, new) and not torch.equal(before["rho"], after["rho"])
    for one, two in ((0, 1), (2, 3)):  # an epoch has each column once
        picked = torch.cat([seen[i][0].extras["log_prob"] for i in (one, two)], 1)
        whole = rollout.extras["log_prob"]
        assert torch.equal(picked.sort(1).values, whole.sort(1).values)


@pytest.mark.parametrize("agent", ACTOR_CRITICS)
def test_running_returns_belong_to_their_columns(agent: str) -> None:
    run = build(agent, "agent.normalize_rewards=true")
    run.step()
    running = run.agent.return_scale.running
    before = running.clone()
    run.agent.learn(part(run.rollout(), [3, 1]))
    assert torch.equal(running[[0, 2]], before[[0, 2]]) and (running != before)[[1, 3]].all()


GROUPS = 4


@pytest.mark.parametrize("agent", ASYNCHRONOUS)
def test_late_parts_teach(agent: str) -> None:
    """Law 7 with four workers: rollouts of two columns, three updates old."""
    kind = claimed(agent)[0]
    words = (*action_words(kind), *family(agent, kind), "agent.gamma=0", "num_envs=8")
    run = training(*words, f"groups={GROUPS}", "total_steps=30_000")
    late = Late(run)
    goal = 8.0 if kind == "box" else 9.5
    assert run.score() < goal
    rho, reached = 1.0, False
    while run.agent.steps < 30_000 and not reached:
        for _ in range(20):
            rho = min(rho, late.step().get("policy/rho", 1.0))
        reached = run.score() >= goal
    assert reached
    assert (rho < 0.999) == (agent in ACTOR_CRITICS)


def test_dqn_takes_as_many_steps_of_parts() -> None:
    """`gradient_steps` are for all columns once, whether they come together or not."""
    words = ("agent.train_freq=4", "agent.gradient_steps=3", "agent.learning_starts=0", *SMALL)
    run = training("agent=dqn", "num_envs=4", *words)
    taken = []
    for _ in range(8):
        rollout = run.rollout()
        for columns in ([2], [0, 3], [1]):
            run.agent.learn(part(rollout, columns))
            taken.append(int(run.agent.optimizer.count))
    assert taken[2::3] == [3 * n for n in range(1, 9)]
    assert taken[:3] == [0, 2, 3]  # 3 / 4, 9 / 4 and 12 / 4, rounded down


@pytest.mark.parametrize("agent", ASYNCHRONOUS)
def test_parts_resume(agent: str) -> None:
    """What was learned from parts is in the state: the next parts give the same weights."""
    words = ("num_envs=4", "total_steps=2000", *SMALL)
    if agent in ACTOR_CRITICS:
        words += ("agent.n_steps=8", "agent.normalize_rewards=true")
    else:
        words += ("agent.learning_starts=8", "agent.gradient_steps=3")
    words = fitting(agent, *words)
    words += action_words(claimed(agent)[0])
    one, two = (training(f"agent={agent}", *words) for _ in range(2))
    for columns in ([1, 2], [0], [1, 2], [3]):
        one.agent.learn(part(one.rollout(), columns))
    two.agent.load_state_dict(copy.deepcopy(one.agent.state_dict()))
    for columns in ([0, 3], [1, 2], [0]):
        rollout = one.rollout()
        for run in (one, two):
            torch.manual_seed(0)  # what a checkpoint brings back for the whole process
            run.agent.learn(part(rollout, columns))
    assert torch.equal(weights(one.agent), weights(two.agent))


def test_the_target_network_follows_whatever_the_arrival() -> None:
    """Eight groups that arrive apart, an update for all of them: 20 copies, not one in eight."""
    run = training(
        *("agent=dqn", "num_envs=8", "groups=8", "agent.train_freq=8", "agent.gradient_steps=1"),
        *("agent.learning_starts=8", "agent.batch_size=8", "agent.target_update_interval=64"),
    )
    follow, times = run.agent.target.follow, []
    run.agent.target.follow = lambda count: (times.append(count), follow(count))
    late = Late(run)
    while run.agent.steps < 20 * 64:
        late.step()
    assert sum(times) == run.agent.steps // 64 >= 20
