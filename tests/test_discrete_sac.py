"""SAC with discrete actions: expectations over the policy's probabilities, written out as sums."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from neuraxis.networks.heads.discrete import INVALID

from .helpers import Training, action_words, sampled, training

KINDS = {"discrete": 3, "multidiscrete": 2, "multibinary": 2}
"""Kinds of actions, and the size with which the identity environment has few joint ones."""


def filled(kind: str, *words: str) -> Training:
    late = ("agent.learning_starts=100_000", "total_steps=200_000", "num_envs=4")
    env = (*action_words(kind, KINDS[kind]), "env.time_limit=5")
    run = training("agent=sac", *env, *late, *words)
    for _ in range(6):
        run.step()
    agent = run.agent
    with torch.no_grad():  # away from a policy that is almost uniform
        agent.policy.head.weight.mul_(50)
        agent.target.flat.add_(0.1 * torch.randn(len(agent.target.flat)))
    return run


def single(network: Any, batch: Any, row: int, column: int) -> Tensor:
    """What a network gives for all joint actions in one state, [A] or [2, A]."""
    obs, first = batch["obs"][row, column][None, None], batch["first"][row, column][None, None]
    found = network(obs, (), first)[0] if network.__class__.__name__ == "SoftmaxPolicy" else None
    return network(obs, None, first)[:, 0, 0] if found is None else found[0, 0]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_targets_and_losses_are_sums_over_all_actions(kind: str) -> None:
    """Christodoulou (2019), equations 10, 11 and 12, by single numbers."""
    agent = filled(kind, "agent.gamma=0.9", "agent.ent_coef_init=0.3").agent
    batch = agent.weigh(agent.batch_of(sampled(agent.replay, 12)))
    _, target = agent.values_and_targets(batch)
    critic_loss, _ = agent.critic_loss(batch)
    actor_loss, terms = agent.actor_loss(batch)
    count = agent.policy.joint.count
    assert count == {"discrete": 3, "multidiscrete": 4, "multibinary": 4}[kind]
    wanted = [0.0, 0.0, 0.0]
    for n in range(12):
        if not batch["valid"][0, n]:
            continue
        log_p, q = single(agent.policy, batch, 1, n), single(agent.target, batch, 1, n)
        soft = 0.0
        for a in range(count):
            worth = min(float(q[0, a]), float(q[1, a])) - 0.3 * float(log_p[a])
            soft += math.exp(float(log_p[a])) * worth
        goal = float(batch["reward"][0, n]) + 0.9 * float(batch["discount"][0, n]) * soft
        assert float(target[0, n]) == pytest.approx(goal, rel=1e-4, abs=1e-5)
        weight, q = float(batch["weight"][0, n]), single(agent.critics, batch, 0, n)
        taken = int(agent.policy.joint.index(batch["action"][0, n]))
        wanted[0] += weight * 0.5 * sum((float(q[c, taken]) - goal) ** 2 for c in range(2))
        log_p = single(agent.policy, batch, 0, n)
        for a in range(count):
            p, least = math.exp(float(log_p[a])), min(float(q[0, a]), float(q[1, a]))
            wanted[1] += weight * p * (0.3 * float(log_p[a]) - least)
            wanted[2] += weight * p * float(log_p[a])
    assert float(critic_loss) == pytest.approx(wanted[0], rel=1e-4)
    assert float(actor_loss) == pytest.approx(wanted[1], rel=1e-4)
    found = (batch["weight"] * terms["log_prob"]).sum()
    assert float(found) == pytest.approx(wanted[2], rel=1e-4) and wanted[2] < 0
    assert agent.temperature.target_entropy == pytest.approx(0.98 * math.log(count))


def test_it_acts_by_its_probabilities() -> None:
    agent = filled("multidiscrete").agent
    obs = torch.from_numpy(agent.setup.observation_space.sample())
    many, first = obs.expand(20_000, *obs.shape), torch.zeros(20_000, dtype=torch.bool)
    with torch.no_grad():
        log_p = agent.policy(many[None, :1], (), first[None, :1])[0][0, 0]
        action, _, _ = agent.policy.act(many, (), first)
        best, _, _ = agent.policy.act(many[:1], (), first[:1], greedy=True)
    counts = agent.policy.joint.index(action).bincount(minlength=4) / 20_000
    torch.testing.assert_close(counts, log_p.exp(), atol=0.015, rtol=0)
    assert agent.policy.joint.index(best)[0] == log_p.argmax()


def test_a_drawn_action_gives_the_target_distribution() -> None:
    """With quantiles: the distribution of one action of the policy's, drawn by given noise."""
    agent = filled("multibinary", "agent.n_quantiles=5", "agent.gamma=0.9").agent
    batch = agent.weigh(agent.batch_of(sampled(agent.replay, 12)))
    _, target = agent.values_and_targets(batch)
    log_p, _ = agent.policy(batch["obs"][1:], (), batch["first"][1:])
    index = (log_p + batch["noise"][1:]).argmax(-1)
    assert index.unique().numel() > 1
    q = agent.target(batch["obs"][1:], None, batch["first"][1:])
    for n in range(12):
        if batch["valid"][0, n]:
            atoms = q[:, 0, n, index[0, n]].flatten().sort().values[:6] - log_p[0, n, index[0, n]]
            atoms = batch["reward"][0, n] + 0.9 * batch["discount"][0, n] * atoms
            torch.testing.assert_close(target[0, n], atoms.detach())


@pytest.mark.parametrize("words", [(), ("agent.n_quantiles=5",)])
def test_masked_actions_have_no_part(words: tuple[str, ...]) -> None:
    """All is finite; the temperature aims at a share of what the allowed actions can have."""
    env = (
        "env=neuraxis/Masked-v0",
        "env.kwargs.strict=true",
        "env.action_mask=info",
        "env.kwargs.action_space=discrete",
    )
    quick = ("agent.learning_starts=16", "agent.batch_size=16", "num_envs=2", "total_steps=2_000")
    run = training("agent=sac", *env, *quick, *words)
    metrics: dict[str, float] = {}
    for _ in range(8):
        metrics |= run.step()
    assert all(math.isfinite(value) for value in metrics.values())
    agent = run.agent
    batch = agent.weigh(agent.batch_of(sampled(agent.replay, 8)))
    obs, first = agent.learned(batch)
    log_p, _ = agent.policy(obs, (), first)
    allowed = agent.policy.mask(obs)
    assert not allowed.all() and torch.equal(log_p < INVALID / 2, ~allowed)
    _, terms = agent.actor_loss(batch)
    missing = terms["log_prob"] + terms["forbidden"] + agent.temperature.target_entropy
    entropy = -(log_p.exp() * log_p.clamp(min=-100)).sum(-1)
    wanted = 0.98 * allowed.sum(-1).float().log() - entropy
    torch.testing.assert_close(missing, wanted, atol=1e-5, rtol=1e-4)
