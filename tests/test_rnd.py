"""Random network distillation: what is new is rewarded, and finds what chance does not."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from neuraxis.agents import agent_class
from neuraxis.agents.fresh import FreshAgent
from neuraxis.agents.rnd import RND
from neuraxis.core.tree import leaves, map_tree

from .helpers import REWARDED, Training, action_words, claimed, quick, training

SHORT = ("env.time_limit=5", "num_envs=4", "network.blocks.0.sizes=[16]")
CHAIN = (
    *("env=neuraxis/Chain-v0", "env.kwargs.length=32", "num_envs=8", "total_steps=25_000"),
    *("agent.n_steps=64", "agent.batch_size=128", "agent.n_epochs=4", "agent.learning_rate=1e-3"),
    *("agent.ent_coef=0.01", "network.blocks.0.sizes=[32]"),
    *("agent.rnd.learning_rate=3e-3", "agent.rnd.batch_size=64"),
)


def reaches_the_goal(run: Training) -> bool:
    return any(i % 4 == 0 and run.score(8) == 1.0 for i, _ in enumerate(run.run(), 1))


def test_exploring_finds_the_end_of_a_chain() -> None:
    """Chance comes there once in thousands of episodes; there are about 450."""
    assert reaches_the_goal(training(*CHAIN, "agent.rnd.coef=1"))
    assert not reaches_the_goal(training(*CHAIN))


def curious(*words: str) -> tuple[Training, RND]:
    run = training("agent.rnd.coef=0.5", *SHORT, *words)
    assert isinstance(run.agent.rnd, RND)
    return run, run.agent.rnd


def test_the_reward_is_the_error_over_the_deviation_of_its_return() -> None:
    run, rnd = curious("agent.gamma=0.9", "agent.n_steps=16")
    rollout = run.rollout()
    assert not rollout.valid.all()
    new = rollout.obs[1:]
    flat = new.flatten(0, 1)
    scaled = ((new - flat.mean(0)) / flat.std(0, correction=0)).clamp(-5, 5)
    with torch.no_grad():
        target, guess = (
            net.head(net.backbone.blocks[0](scaled, (), None)[0])
            for net in (rnd.target, rnd.predictor)
        )
    error = (guess - target).square().mean(-1) * rollout.valid
    acc, returns = torch.zeros(4), []
    for row in error:  # over the ends of episodes
        acc = row + 0.9 * acc
        returns.append(acc)
    deviation = torch.stack(returns).std(correction=0)
    rewarded, metrics = rnd(rollout, run.agent.rng)
    bonus = rewarded.reward - rollout.reward
    torch.testing.assert_close(bonus, 0.5 * error / deviation, rtol=1e-3, atol=1e-4)
    assert not bonus[~rollout.valid].any()
    assert metrics["loss/rnd"] == pytest.approx(float(error.sum() / rollout.valid.sum()), rel=1e-4)


def test_what_was_seen_is_no_longer_new_and_the_target_never_changes() -> None:
    run, rnd = curious("agent.rnd.learning_rate=0.01", "agent.rnd.batch_size=16")
    rollout, target = run.rollout(), copy.deepcopy(rnd.target.state_dict())
    errors = [float(rnd(rollout, run.agent.rng)[1]["loss/rnd"]) for _ in range(20)]
    assert errors[-1] < errors[0] / 10
    far = map_tree(lambda leaf: leaf + 3, rollout.obs)
    fresh = float(copy.deepcopy(rnd)(replace(rollout, obs=far), run.agent.rng)[1]["loss/rnd"])
    assert fresh > 5 * errors[-1]
    after = rnd.target.state_dict()
    assert all(torch.equal(after[name], value) for name, value in target.items())


@pytest.mark.parametrize(
    "words",
    [
        ("network=cnn_small", "env=neuraxis/Dict-v0", "env.kwargs.size=10"),
        ("network=lstm",),
        ("network.blocks=[{name: gru, size: 8}]",),
        ("network.blocks=[]",),
    ],
    ids=["images", "memory", "memory only", "no blocks"],
)
def test_every_network_has_one_without_memory(words: tuple[str, ...]) -> None:
    run = training("agent.rnd.coef=0.5", "num_envs=2", "agent.n_steps=16", *words)
    for _ in range(2):
        assert run.step()["train/intrinsic_reward"] > 0


FRESH = [name for name in REWARDED if issubclass(agent_class(name), FreshAgent)]


@pytest.mark.parametrize("agent", FRESH)
def test_every_agent_of_fresh_rollouts_may_explore(agent: str) -> None:
    """And goes on after a resume as it would have gone on; without coef there is no trace of it."""
    words = (f"agent={agent}", *action_words(claimed(agent)[0]), *quick(agent), "num_envs=2")
    run, other = (training(*words, "agent.rnd.coef=0.5") for _ in range(2))
    for _ in range(3):
        run.step()
    other.agent.load_state_dict(copy.deepcopy(run.agent.state_dict()))
    rollout = run.rollout()
    metrics = [each.agent.learn(rollout) for each in (run, other)]
    assert metrics[0] == metrics[1] and "loss/rnd" in metrics[0]
    for one, two in zip(
        leaves(run.agent.state_dict()["rnd"]), leaves(other.agent.state_dict()["rnd"]), strict=True
    ):
        assert torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two
    assert "rnd" not in training(*words).agent.parts
