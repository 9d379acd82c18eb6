"""What off-policy actor-critics share: memories of actor and critics, burn-in, targets, losses."""

import functools
import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from neuraxis.agents.policies.critics import Critics
from neuraxis.agents.policies.squashed import squashed_sample
from neuraxis.agents.replay.sample import Sample
from neuraxis.core.tree import leaves, map_tree
from neuraxis.networks import NetworkConfig

from .helpers import Training, sampled, training

SMALL = {
    "lstm": ("network.blocks.0.sizes=[8]", "network.blocks.1.size=8"),
    "gru": ("network.blocks.0.sizes=[8]", "network.blocks.1.size=8"),
    "transformer": ("network.blocks.1.memory=6", "network.blocks.1.layers=1"),
}
BURN_IN, LENGTH, STEPS = 2, 4, 2
WINDOWS = (f"agent.burn_in={BURN_IN}", f"agent.sequence_length={LENGTH}", f"agent.n_step={STEPS}")


def filled(network: str, *words: str) -> Training:
    """An agent with a few episodes of five steps in its replay, its target network shifted."""
    short = ("agent=sac", "env=pendulum_masked", "env.time_limit=5", "agent.train_freq=2")
    run = training(*short, f"network={network}", *SMALL[network], *WINDOWS, *words, "num_envs=3")
    for _ in range(16):
        run.step()
    agent = run.agent
    agent.target.flat.add_(0.1 * torch.randn(len(agent.target.flat)))
    return run


def row(tree: Any, number: int) -> Any:
    return map_tree(lambda leaf: leaf[number : number + 1], tree)


def stepped(network: Any, sample: Sample, state: Any) -> list[tuple[Any, Any]]:
    """What a network gives for each row alone, with the memory after it."""
    found = []
    for number in range(len(sample.first)):
        y, state = network(row(sample.obs, number), state, row(sample.first, number))
        found.append((y, state))
    return found


@pytest.mark.parametrize("network", SMALL)
@torch.no_grad()
def test_targets_and_losses_step_by_step(network: str) -> None:
    """Each network with a memory of its own, the next value with the memory after obs[t]."""
    agent = filled(network, "agent.gamma=0.9", "agent.ent_coef=0.3").agent
    given = sampled(agent.replay, 6)
    assert given.first[1:].any(), "an episode ends within"
    batch = agent.weigh(agent.batch_of(given))
    rows = slice(BURN_IN, BURN_IN + LENGTH)
    assert torch.equal(batch["valid"], given.valid[rows].float())
    empty = agent.critics.initial_state(6)
    actor = [gaussian for gaussian, _ in stepped(agent.policy, given, given.state)]
    online, target = (
        [y for y, _ in stepped(critics.unroll, given, empty)]
        for critics in (agent.critics, agent.target.network)
    )
    soft, gain = {}, []
    for number in range(BURN_IN, len(given.first)):
        first, noise = row(given.first, number), row(batch["noise"], number - BURN_IN)
        action, log_prob = squashed_sample(actor[number], noise)
        smallest = agent.target.network.values(target[number], action, first).amin(0)
        soft[number] = (smallest - 0.3 * log_prob)[0]
        if number in range(*rows.indices(99)):
            smallest = agent.critics.values(online[number], action, first).amin(0)
            gain.append(smallest - 0.3 * log_prob)
    expected = []
    for number in range(*rows.indices(99)):
        value = soft[number + STEPS]
        for k in reversed(range(number, number + STEPS)):  # across a reset nothing flows
            there = given.reward[k] + 0.9 * given.discount[k] * value
            value = torch.where(given.valid[k], there, soft[k])
        expected.append(value)
    wanted = batch["valid"].bool()
    close = functools.partial(torch.allclose, rtol=1e-5, atol=1e-5)
    assert close(agent.values_and_targets(batch)[1][wanted], torch.stack(expected)[wanted])
    loss, terms = agent.actor_loss(batch)
    found = (terms["gain"] - 0.3 * terms["log_prob"])[wanted]
    assert close(found, torch.cat(gain)[wanted])
    assert close(loss, -found.mean())
    loss, terms = agent.critic_loss(batch)
    taken = [
        agent.critics.values(online[number], row(given.action, number), row(given.first, number))
        for number in range(*rows.indices(99))
    ]
    errors = (torch.cat(taken, 1) - torch.stack(expected))[:, wanted]
    assert close(loss, 0.5 * errors.square().mean(1).sum())


@pytest.mark.parametrize(
    "words",
    [
        ("network=mlp", "network.critic=[{name: gru, size: 8}]"),
        ("network=lstm", "network.critic=[{name: mlp}]"),
    ],
)
def test_only_the_actor_or_only_the_critics_may_have_memory(words: tuple[str, ...]) -> None:
    run = training(
        "agent=sac",
        "env=pendulum_masked",
        *words,
        *WINDOWS,
        "agent.train_freq=2",
        "agent.learning_starts=20",
        "num_envs=2",
    )
    assert run.agent.has_memory and run.agent.execution == "plain"
    losses = [
        metrics["loss/td"] for metrics in (run.step() for _ in range(20)) if "loss/td" in metrics
    ]
    assert losses and all(map(math.isfinite, losses))


@pytest.mark.parametrize("network", SMALL)
def test_the_burn_in_has_no_gradient(network: str) -> None:
    agent = filled(network).agent
    given = sampled(agent.replay, 4)
    batch = agent.weigh(agent.batch_of(given))
    memories = [leaf for leaf in leaves(batch["memory"]) if leaf.is_floating_point()]
    assert memories and not any(memory.requires_grad for memory in memories)
    assert any(memory.abs().sum() > 0 for memory in leaves(batch["memory"]["critics"]))
    assert len(batch["obs"]) == LENGTH + STEPS


@pytest.mark.parametrize("network", SMALL)
@torch.no_grad()
def test_a_new_action_is_valued_after_what_really_happened(network: str) -> None:
    """New actions in all rows at once, or in one row after those that were taken: the same."""
    torch.manual_seed(0)
    blocks = training("agent=sac", "env=Pendulum-v1", f"network={network}", *SMALL[network])
    critics = Critics(
        blocks.cfg.network, spaces.Box(-1, 1, (3,)), spaces.Box(-1.0, 1.0, (2,)), count=3
    )
    obs, first = torch.randn(5, 4, 3), torch.rand(5, 4) < 0.3
    taken, new = torch.rand(2, 5, 4, 2)
    state = critics.initial_state(4)
    at_once = critics(obs, new, first, state)
    for number in range(5):
        mixed = torch.cat((taken[:number], new[number:]))
        alone = critics(obs[: number + 1], mixed[: number + 1], first[: number + 1], state)
        assert alone.shape == (3, number + 1, 4)
        assert torch.allclose(alone[:, -1], at_once[:, number], atol=1e-6)


def mixed_difference(critics: Critics, obs: Any) -> Tensor:
    """Q(s,a) - Q(s,b) - Q(t,a) + Q(t,b): 0 where no action is better in one state than another."""
    first = torch.zeros(1, 1, dtype=torch.bool)
    states, actions = obs, (torch.full((1, 1, 2), 0.9), torch.full((1, 1, 2), -0.9))
    memory = critics.initial_state(1)
    q = [[critics(s, a, first, memory).squeeze() for a in actions] for s in states]
    return q[0][0] - q[0][1] - q[1][0] + q[1][1]


@pytest.mark.parametrize(
    "blocks",
    [
        ["lstm"],
        ["gru", "mlp"],
        ["mlp", "transformer"],
        [{"name": "cnn", "architecture": "small"}],
        [{"name": "cnn", "architecture": "small"}, "gru"],
        [{"name": "cnn", "architecture": "small"}, "mlp"],
        [],
    ],
    ids=str,
)
@torch.no_grad()
def test_which_action_is_best_depends_on_the_state(blocks: list[Any]) -> None:
    """Whatever the last block is: a linear layer after it would add up state and action."""
    torch.manual_seed(0)
    named = [{"name": block} if isinstance(block, str) else block for block in blocks]
    network = NetworkConfig.model_validate({"blocks": named})
    space, obs = spaces.Box(-1, 1, (3,)), torch.tensor([[[[1.0, 2, 3]]], [[[-1.0, 0, 4]]]])
    if "cnn" in str(blocks):
        space = spaces.Box(0, 255, (10, 10, 3), np.uint8)
        obs = torch.randint(256, (2, 1, 1, 10, 10, 3), dtype=torch.uint8)
    critics = Critics(network, space, spaces.Box(-1.0, 1.0, (2,)))
    assert (mixed_difference(critics, obs).abs() > 1e-4).all()


@pytest.mark.parametrize("agent", ["sac", "td3"])
def test_each_loss_moves_its_own_networks(agent: str) -> None:
    """The policy's loss has a gradient through the critics, and leaves their weights alone."""
    run = training(f"agent={agent}", "env=Pendulum-v1", "agent.learning_starts=8", "num_envs=2")
    run.step()
    learner, sample = run.agent, sampled(run.agent.replay, 8)
    batch = learner.weigh(learner.batch_of(sample))
    parts = {name: optimizer.flat for name, optimizer in learner.optimizers.items()}
    for name, loss in (
        ("actor_optimizer", learner.actor_loss),
        ("critic_optimizer", learner.critic_loss),
    ):
        before = {other: flat.clone() for other, flat in parts.items()}
        learner.optimizers[name].step(loss, batch)
        moved = {other for other, flat in parts.items() if not torch.equal(flat, before[other])}
        assert moved == {name}


@pytest.mark.parametrize("agent", ["sac", "td3"])
def test_noise_may_stay_the_same_for_some_steps(agent: str) -> None:
    """Of each column by itself; another rollout begins with new noise."""
    words = ("agent.train_freq=6", "agent.noise_repeat=4", "num_envs=3", "env=Pendulum-v1")
    run = training(f"agent={agent}", *words)
    run.agent.policy.head.weight.data.zero_()
    run.source.publish(run.agent.policy)
    action = torch.cat([run.rollout().action, run.rollout().action]).squeeze(-1)
    held = (action[1:] - action[:-1]).abs() < 1e-6
    assert torch.equal(held.all(1), held.any(1))
    assert [bool(x) for x in held.all(1)] == [
        *[True] * 3,
        False,
        True,
        False,
        *[True] * 3,
        False,
        True,
    ]


IMAGES = ("env=neuraxis/Dict-v0", "env.kwargs.action_space=box", "env.kwargs.size=12", "num_envs=8")


@pytest.mark.parametrize("agent", ["sac", "td3"])
@pytest.mark.parametrize("network", ["cnn_small", "cnn_small_lstm"])
def test_images_train(agent: str, network: str) -> None:
    words = (f"agent={agent}", f"network={network}", "agent.learning_starts=64")
    run = training(*words, *IMAGES, "agent.batch_size=8", "agent.gradient_steps=2")
    metrics = [run.step() for _ in range(4)][-1]
    assert all(map(math.isfinite, metrics.values())) and "loss/policy" in metrics


def test_images_teach_actor_and_critics() -> None:
    """The best return is 10; at most 8.75 without the image, which has one bit of four."""
    network = "network.blocks=[{name: cnn, architecture: small, size: 32}]"
    speed = ("agent.learning_rate=1e-3", "agent.batch_size=32", "agent.gradient_steps=16")
    words = ("agent=sac", "agent.gamma=0", "agent.ent_coef_init=0.02", "agent.learning_starts=100")
    run = training(*IMAGES, network, *speed, *words, "total_steps=8_000")
    scores = (run.score() for number, _ in enumerate(run.run(), 1) if number % 20 == 0)
    assert any(score > 9.0 for score in scores)
