"""Soft actor-critic against its formulas, written out number by number."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from torch import distributions

from neuraxis.agents.learning.temperature import Temperature
from neuraxis.agents.policies.squashed import SquashedGaussian, squashed_sample
from neuraxis.agents.replay.sample import Sample
from neuraxis.networks import NetworkConfig

from .helpers import training
from .outside_q import Beside

SPACE = spaces.Box(-1.0, 1.0, (3,))


def test_log_probabilities_are_those_of_the_squashed_distribution() -> None:
    torch.manual_seed(0)
    mean, log_std = torch.randn(50, 2), torch.randn(50, 2)
    action, log_prob = squashed_sample((mean, log_std), torch.randn(50, 2))
    normal = distributions.Normal(mean.double(), log_std.double().exp())
    squashed = distributions.TransformedDistribution(normal, distributions.TanhTransform())
    expected = squashed.log_prob(action.double()).sum(-1)
    inside = (action.abs() < 0.999).all(-1)  # outside the reference loses its digits
    assert inside.sum() > 20
    assert torch.allclose(log_prob[inside].double(), expected[inside], 1e-3, 1e-3)


def test_an_action_at_its_bound_has_a_finite_log_probability_and_gradient() -> None:
    mean = torch.tensor([[40.0, -40.0]], requires_grad=True)
    action, log_prob = squashed_sample((mean, torch.zeros(1, 2)), torch.zeros(1, 2))
    assert torch.equal(action, torch.tensor([[1.0, -1.0]]))
    # log N(u; u, 1) = -log(2 pi)/2 and log(1 - tanh(40)^2) = 2 log 2 - 80, twice
    expected = 2 * (-0.5 * math.log(2 * math.pi) - 2 * math.log(2) + 80)
    assert log_prob.item() == pytest.approx(expected, rel=1e-5)
    (grad,) = torch.autograd.grad(log_prob.sum(), mean)
    assert torch.allclose(grad, torch.tensor([[2.0, -2.0]]))


@pytest.mark.parametrize(
    ("low", "high"), [(-1.0, 5.0), (1.0, 2.0), (-2.0, 2.0), (-np.inf, np.inf), (-5.0, 1.0)]
)
def test_actions_of_other_bounds_are_refused(low: float, high: float) -> None:
    """tanh reaches from -1 to 1 and nowhere else."""
    space = spaces.Box(low, high, (2,))
    with pytest.raises(ValueError, match=r"expected finite bounds .*env\.rescale_actions=true"):
        SquashedGaussian(NetworkConfig(), SPACE, space, False, -20.0, 2.0)


def test_a_learned_temperature_has_no_schedule() -> None:
    with pytest.raises(ValueError, match=r"ent_coef_schedule=linear: expected constant, as .*auto"):
        training("agent=sac", "env=Pendulum-v1", "agent.ent_coef_schedule=linear")


def test_limits_of_the_deviation_that_cross_are_refused() -> None:
    with pytest.raises(ValueError, match=r"log_std_min=3.0: .*log_std_max=2.0"):
        training("agent=sac", "env=Pendulum-v1", "agent.log_std_min=3")


# Streams of four steps from row 0: none ends; row 1 is terminated (row 2 is its reset); row 0 is
# truncated (row 1 is its reset); row 0 is itself a reset, which is not learned from.
FIRST = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0]]).bool()
DISCOUNT = torch.tensor([[1.0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 1]])


def sample() -> Sample:
    torch.manual_seed(1)
    return Sample(
        obs=torch.randn(4, 4, 3),
        first=FIRST,
        action=torch.rand(3, 4, 1) * 2 - 1,
        reward=torch.randn(3, 4),
        discount=DISCOUNT,
        state=(),
        starts=np.arange(4),
        weight=torch.tensor([1.0, 0.5, 0.25, 1.0]),
    )


def soft_value(agent: Any, batch: Any, row: int, column: int) -> float:
    """The smallest target value of a new action, minus its weighted log-probability."""
    first = torch.zeros(1, 1, dtype=torch.bool)
    obs, noise = batch["obs"][row, column][None, None], batch["noise"][row, column][None, None]
    action, log_prob = squashed_sample(agent.policy(obs, (), first)[0], noise)
    values = agent.target(obs, action, first)
    return float(values.min() - agent.temperature() * log_prob)


@torch.no_grad()
def test_targets_are_soft_n_step_returns() -> None:
    words = ("agent=sac", "env=Pendulum-v1", "agent.n_step=3", "agent.ent_coef_init=0.3")
    agent = training(*words, "agent.gamma=0.9", "network.blocks.0.sizes=[8]").agent
    agent.target.flat.add_(0.1 * torch.randn(len(agent.target.flat)))
    given = sample()
    batch = agent.weigh(agent.batch_of(given))
    reward = given.reward.tolist()
    expected = [
        reward[0][0] + 0.9 * reward[1][0] + 0.81 * reward[2][0],
        reward[0][1] + 0.9 * reward[1][1],
        reward[0][2] + 0.9 * soft_value(agent, batch, 1, 2),
    ]
    expected[0] += 0.9**3 * soft_value(agent, batch, 3, 0)
    found = agent.values_and_targets(batch)[1][0]
    assert torch.allclose(found[:3], torch.tensor(expected), 1e-5, 1e-5)
    assert torch.isfinite(found).all()
    assert torch.allclose(batch["weight"][0], torch.tensor([1.0, 0.5, 0.25, 0.0]) / 3)


@torch.no_grad()
def test_losses_are_weighted_means_over_valid_steps() -> None:
    agent = training("agent=sac", "env=Pendulum-v1", "agent.n_step=3").agent
    batch = agent.weigh(agent.batch_of(sample()))
    weight, obs, first = batch["weight"][0], batch["obs"][:1], batch["first"][:1]
    loss, terms = agent.critic_loss(batch)
    target = terms["error"] + terms["q"]
    errors = agent.critics(obs, batch["action"][:1], first) - target
    assert torch.allclose(loss, 0.5 * (weight * errors[:, 0].square()).sum())
    loss, terms = agent.actor_loss(batch)
    action, log_prob = squashed_sample(agent.policy(obs, (), first)[0], batch["noise"][:1])
    smallest = agent.critics(obs, action, first).min(0).values
    assert torch.allclose(loss, (weight * (1.0 * log_prob - smallest)).sum())


def test_the_temperature_rises_where_entropy_is_missing() -> None:
    temperature = Temperature(0.5, target_entropy=-1.0)
    weight = torch.full((1, 4), 0.25)
    for entropy, sign in ((-3.0, 1), (2.0, -1), (-1.0, 0)):
        loss, _ = temperature.loss({"log_prob": torch.full((1, 4), -entropy), "weight": weight})
        (grad,) = torch.autograd.grad(loss, [temperature.log])
        assert float(torch.sign(-grad)) == sign  # a step goes against the gradient
    assert float(temperature()) == pytest.approx(0.5)


@pytest.mark.parametrize("ent_coef", ["auto", 0.2])
def test_updates_are_those_of_stable_baselines3(ent_coef: Any, monkeypatch: Any) -> None:
    """Six in a row: log-probabilities, targets, losses, temperature, Adam and target network."""
    words = ("env=Pendulum-v1", "env.time_limit=20", "num_envs=4", f"agent.ent_coef={ent_coef}")
    network = ("network.blocks.0.sizes=[16,16]", "network.blocks.0.activation=relu")
    slow = ("agent.optimizer_eps=1e-3", "agent.learning_rate=3e-3", "agent.gamma=0.9")
    run = training("agent=sac", *words, *network, *slow, "agent.learning_starts=100_000",
        "total_steps=200_000", "agent.tau=0.05")  # fmt: skip
    for _ in range(8):
        run.step()
    settings = {"learning_rate": 3e-3, "gamma": 0.9, "tau": 0.05, "ent_coef": ent_coef}
    beside = Beside(run, SAC, settings)
    model, agent = beside.model, run.agent
    learned = [model.ent_coef_optimizer] if ent_coef == "auto" else []
    for optimizer in (model.actor.optimizer, model.critic.optimizer, *learned):
        optimizer.param_groups[0]["eps"] = 1e-3
    start = agent.actor_optimizer.flat.clone()
    for _ in range(6):
        batch, noise = beside.batch(32)
        draws = iter((noise[0], noise[1]))  # of the actor's loss, of the target
        monkeypatch.setattr(
            "torch.distributions.normal._standard_normal", lambda *_, draws=draws, **__: next(draws)
        )
        model.train(1, 32)
        agent.update(batch)
    for ours, theirs in beside.pairs():
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    if learned:
        torch.testing.assert_close(agent.temperature.log, model.log_ent_coef[0])
    assert (agent.actor_optimizer.flat - start).abs().max() > 3e-3
