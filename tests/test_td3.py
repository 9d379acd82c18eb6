"""TD3 and DDPG: noise, the delay of the policy, and Stable-Baselines3's updates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from stable_baselines3 import DDPG, TD3
from torch import Tensor

from .helpers import Training, training
from .outside_q import Beside

WORDS = ("env=Pendulum-v1", "env.time_limit=20", "agent.learning_starts=64", "num_envs=4")
NETWORK = ("network.blocks.0.sizes=[16,16]", "network.blocks.0.activation=relu")
SLOW = ("agent.optimizer_eps=1e-3", "agent.learning_rate=3e-3", "agent.gamma=0.9", "agent.tau=0.05")


def build(*words: str) -> Training:
    return training(*WORDS, *NETWORK, *words)


@pytest.mark.parametrize(("agent", "kind"), [("td3", TD3), ("ddpg", DDPG)])
def test_updates_are_those_of_stable_baselines3(
    agent: str, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six in a row: targets, losses, Adam, the delay, and all target networks."""
    run = build(f"agent={agent}", *SLOW, "agent.learning_starts=100_000", "total_steps=200_000")
    for _ in range(8):
        run.step()
    beside = Beside(run, kind, {"learning_rate": 3e-3, "gamma": 0.9, "tau": 0.05})
    model = beside.model
    model.actor.optimizer.param_groups[0]["eps"] = 1e-3
    model.critic.optimizer.param_groups[0]["eps"] = 2e-3  # its gradient is not halved
    start = run.agent.actor_optimizer.flat.clone()
    for _ in range(6):
        batch, noise = beside.batch(32)
        monkeypatch.setattr(
            Tensor, "normal_", lambda x, mean, std, noise=noise: x.copy_(std * noise[1])
        )
        model.train(1, 32)
        run.agent.update(batch)
    for ours, theirs in beside.pairs():
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert (run.agent.actor_optimizer.flat - start).abs().max() > 3e-3


def test_actions_are_uniform_at_first_and_then_noisy() -> None:
    """Whatever the policy says, until `learning_starts`; then around it, with the deviation set."""
    run = build("agent=td3", "agent.action_noise_std=0.3", "num_envs=32", "agent.train_freq=8")
    policy = run.agent.policy
    policy.head.bias.data.fill_(10.0)
    uniform = run.rollout().action.flatten()
    assert uniform.min() < -0.9 and uniform.max() > 0.9 and abs(uniform.mean()) < 0.1
    run.step()
    assert policy.share == 1
    policy.head.weight.data.zero_()
    policy.head.bias.data.fill_(0.5)
    run.source.publish(policy)
    action = run.rollout().action
    assert action.max() <= 1.0
    noise = action.flatten() - torch.tensor(0.5).tanh()
    assert noise.mean().item() == pytest.approx(0.0, abs=0.05)
    assert noise.std().item() == pytest.approx(0.3, abs=0.04)


def test_noise_belongs_to_the_column_and_follows_its_schedule() -> None:
    words = ("agent=td3", "agent.action_noise_std_schedule=linear", "total_steps=512")
    runs = [build(*words, "agent.gradient_steps=1", f"groups={groups}") for groups in (1, 2)]
    for run in runs:
        for optimizer in run.agent.optimizers.values():
            optimizer.step = lambda loss, batch: {"grad_norm": torch.zeros(())}
        run.agent.metrics = lambda terms: {}
    for _ in range(6):
        one, two = (run.rollout() for run in runs)
        assert torch.allclose(one.action, two.action, atol=1e-5)
        for run, rollout in zip(runs, (one, two), strict=True):
            run.agent.learn(rollout)
            run.source.publish(run.agent.policy)
    agent = runs[0].agent
    assert float(agent.policy.noise_std) == pytest.approx(0.1 * (1 - agent.steps / 512))


def test_the_policy_learns_in_every_second_update_of_the_critics() -> None:
    run = build("agent=td3", "agent.policy_delay=3", "agent.gradient_steps=1")
    agent, moved, last = run.agent, [], None
    for _ in range(40):
        metrics = run.step()
        assert ("loss/policy" in metrics) == (int(agent.critic_optimizer.count) % 3 == 0) or (
            "loss/td" not in metrics
        )
        flat = torch.cat((agent.actor_optimizer.flat, agent.policy_target.flat, agent.target.flat))
        moved.append(last is not None and not torch.equal(flat, last))
        last = flat
    updates = int(agent.critic_optimizer.count)
    assert updates > 30 and int(agent.actor_optimizer.count) == updates // 3 == sum(moved)


def test_targets_are_smoothed_within_the_limit_and_the_bounds() -> None:
    words = ("agent.target_policy_noise=5", "agent.target_noise_clip=0.2", "agent.train_freq=16")
    agent = (run := build("agent=td3", *words)).agent
    run.step()
    run.step()
    seen = []
    network = agent.target.network
    agent.target.forward = lambda obs, action, *rest: (
        seen.append(action) or network(obs, action, *rest)
    )
    batch = agent.batch_of(agent.replay.gather(*agent.replay.draw(64)))
    agent.values_and_targets(batch)
    plain, _ = agent.next_policy(batch["obs"][1:], (), batch["first"][1:])
    assert (seen[0] - plain).abs().max() <= 0.2 + 1e-6 < 5
    agent.next_policy.head.bias.data.fill_(9.0)
    agent.values_and_targets(batch)
    assert seen[1].max() == 1.0 and seen[1].min() >= 0.8 - 1e-6
