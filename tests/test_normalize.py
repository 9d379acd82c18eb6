"""Running statistics against NumPy, and when they may move."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from neuraxis.agents import agent_class
from neuraxis.agents.off_policy import OffPolicyAgent
from neuraxis.agents.policies.normalize import Normalizer, ReturnScale, merge
from neuraxis.agents.policies.q_values import QPolicy
from neuraxis.networks import NetworkConfig
from neuraxis.networks.mlp import MLP

from .helpers import WITH_NETWORK, Training, claimed, fitting, training

random = np.random.default_rng(0)
VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float32)


def rows(*shape: int) -> torch.Tensor:
    scale, shift = np.array([1.0, 20.0, 0.1]), np.array([0.0, -300.0, 5.0])
    return torch.from_numpy((random.normal(size=(*shape, 3)) * scale + shift).astype(np.float32))


def test_merged_moments_are_those_of_all() -> None:
    x = torch.from_numpy(random.normal(2, 3, (50, 3)))
    total = (0.0, torch.zeros(3).double(), torch.ones(3).double())
    for part in x.split([1, 30, 7, 12]):
        total = merge(total, (float(len(part)), part.mean(0), part.var(0, correction=0)))
    count, mean, variance = total
    assert count == 50
    assert torch.allclose(mean, x.mean(0)) and torch.allclose(variance, x.var(0, correction=0))


def test_observations_have_mean_0_and_deviation_1() -> None:
    normalizer = Normalizer(VECTOR)
    x = rows(40, 6)
    assert torch.equal(normalizer(x), x.clamp(-10, 10))  # nothing seen yet
    for part in x.split(10):
        normalizer.update(part)
    flat = x.reshape(-1, 3).double().numpy()
    expected = (flat - flat.mean(0)) / flat.std(0)
    assert np.allclose(normalizer(x).reshape(-1, 3).numpy(), expected, atol=1e-3)
    assert np.allclose(normalizer(x[0]).numpy(), expected[:6], atol=1e-3)  # any leading axes
    far = normalizer(torch.full((1, 3), 1e9))
    assert torch.equal(far, torch.full((1, 3), 10.0))


def test_a_constant_number_stays_finite() -> None:
    normalizer = Normalizer(VECTOR)
    normalizer.update(torch.full((8, 2, 3), 5.0))
    assert normalizer(torch.full((2, 3), 5.0)).abs().max() < 1e-2


def test_only_vectors_are_normalised() -> None:
    space = spaces.Dict(
        {
            "image": spaces.Box(0, 255, (8, 8, 3), np.uint8),
            "pair": spaces.Tuple((VECTOR, spaces.Discrete(4))),
        }
    )
    normalizer = Normalizer(space)
    image = torch.randint(0, 255, (5, 2, 8, 8, 3), dtype=torch.uint8)
    obs: Any = {"image": image, "pair": (rows(5, 2), torch.arange(10).reshape(5, 2))}
    normalizer.update(obs)
    out = normalizer(obs)
    assert out["image"] is image and out["pair"][1] is obs["pair"][1]
    assert out["pair"][0].mean((0, 1)).abs().max() < 1e-4
    assert {name.rpartition(".")[0] for name in normalizer.state_dict()} == {"part_1.part_0"}


def test_bytes_are_normalised_and_not_divided_again() -> None:
    """A vector of bytes, as ALE's memory: the network divides bytes only as they come."""
    space = spaces.Dict({"ram": spaces.Box(0, 255, (3,), np.uint8), "cue": spaces.Discrete(2)})
    policy = QPolicy(NetworkConfig(), space, spaces.Discrete(2), normalize=True)
    assert policy.normalizer is not None
    obs = {"ram": torch.randint(0, 255, (20, 4, 3), dtype=torch.uint8), "cue": torch.ones(20, 4)}
    policy.normalizer.update(obs)
    assert policy.normalizer(obs)["ram"].mean((0, 1)).abs().max() < 1e-4
    seen: list[torch.Tensor] = []
    block = next(m for m in policy.modules() if isinstance(m, MLP))
    block.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    policy(obs, (), torch.zeros(20, 4, dtype=torch.bool))
    assert seen[0].reshape(80, -1).std(0).max() > 0.9


def normalising(agent: str, *words: str) -> Training:
    """An agent with running statistics, of 24 steps a rollout."""
    off_policy = issubclass(agent_class(agent), OffPolicyAgent)
    size = "agent.train_freq=8" if off_policy else "agent.n_steps=8"
    env = "env=CartPole-v1" if "discrete" in claimed(agent) else "env=Pendulum-v1"
    normalize = ("agent.normalize_observations=true", "num_envs=3", size)
    return training(f"agent={agent}", env, *normalize, *words)


@pytest.mark.parametrize("agent", WITH_NETWORK)
def test_statistics_move_only_in_learn(agent: str) -> None:
    """And take in each observation once."""
    run = normalising(agent)
    normalizer = run.agent.policy.normalizer
    seen = []
    for _ in range(4):
        before = {name: value.clone() for name, value in normalizer.state_dict().items()}
        rollout = run.rollout()
        run.score(2)
        assert all(torch.equal(before[name], x) for name, x in normalizer.state_dict().items())
        run.agent.learn(rollout)
        seen.append(rollout.obs[1:].reshape(-1, rollout.obs.shape[-1]).double())
    everything = torch.cat(seen)
    assert float(normalizer.count) == len(everything) == 4 * 24
    assert torch.allclose(normalizer.mean, everything.mean(0))
    assert torch.allclose(normalizer.variance, everything.var(0, correction=0))


def watch_updates(run: Training) -> list[tuple[float, dict[str, torch.Tensor]]]:
    """Fills with the count of the statistics before each update, and the update's terms."""
    seen = []
    update, normalizer = run.agent.run_update, run.agent.policy.normalizer

    def watched(batch: Any) -> dict[str, torch.Tensor]:
        count = float(normalizer.count)
        seen.append((count, update(batch)))
        return seen[-1][1]

    run.agent.run_update = watched
    return seen


@pytest.mark.parametrize("agent", WITH_NETWORK)
def test_statistics_are_there_before_the_first_update(agent: str) -> None:
    """What is learned from first is normalised by its own statistics: inputs never jump."""
    off_policy = issubclass(agent_class(agent), OffPolicyAgent)
    words = ("agent.learning_starts=0",) if off_policy else ("env.time_limit=4",)
    run = normalising(agent, *words)  # of whole episodes, for agents that wait for them
    updates = watch_updates(run)
    rollout = run.rollout()
    run.agent.learn(rollout)
    assert updates and all(count == 24 for count, _ in updates)
    seen = rollout.obs[1:].reshape(24, -1).double()
    assert torch.allclose(run.agent.policy.normalizer.mean, seen.mean(0))
    run.agent.learn(run.rollout())
    # an actor-critic moves them after it has learned, lest the policy is no longer what acted
    assert updates[-1][0] == (48 if off_policy else 24)


@pytest.mark.parametrize("agent", ["ppo", "appo", "impala"])
@pytest.mark.parametrize(
    "network", [(), ("network.shared=true",), ("network=lstm", "agent.sequence_length=4")]
)
def test_the_first_ratio_is_1_under_the_first_statistics(
    agent: str, network: tuple[str, ...]
) -> None:
    """Law 3, although what acted saw raw observations, and may have left features of them, or
    log-probabilities."""
    words = fitting(agent, *network, "agent.rho_bar=100", "agent.n_epochs=10")
    run = normalising(agent, "env=Pendulum-v1", "agent.learning_rate=0.01", *words)
    for number in range(3):
        updates = watch_updates(run)
        metrics = run.step()
        ratios = [
            (terms["rho"].log() if agent == "impala" else terms["log_ratio"]).abs().max()
            for _, terms in updates
        ]
        assert ratios[0] < 1e-5 < ratios[-1], number
        if agent == "appo":
            assert metrics["policy/rho"] == pytest.approx(1, abs=1e-5), number


def slow_returns(reward: np.ndarray, first: np.ndarray, gamma: float) -> np.ndarray:
    """Discounted sums of the past, of each real step, column by column."""
    out = []
    for column, opens in zip(reward.T, first.T, strict=True):
        total = 0.0
        for t, r in enumerate(column):
            total = r + gamma * (0.0 if opens[t] else total)
            if not opens[t + 1]:
                out.append(total)
    return np.array(out)


def test_rewards_are_divided_by_the_deviation_of_returns() -> None:
    gamma, steps, columns = 0.9, 30, 4
    first = random.random((steps + 1, columns)) < 0.2
    reward = random.normal(3, 2, (steps, columns)) * ~first[1:]  # a reset has none
    scale = ReturnScale(columns, gamma)
    parts = []
    for begin in range(0, steps, 10):
        part = slice(begin, begin + 10)
        opens = torch.from_numpy(first[begin : begin + 11])
        parts.append(scale(torch.from_numpy(reward[part]), opens, torch.arange(columns)))
    deviation = slow_returns(reward, first, gamma).std()
    assert np.allclose(parts[-1].numpy(), reward[-10:] / deviation, atol=1e-6)


def test_returns_belong_to_their_columns() -> None:
    """Columns may come in any order and in parts."""
    first = torch.zeros(6, 4, dtype=torch.bool)
    reward = torch.from_numpy(random.normal(size=(5, 4)))
    straight, shuffled = ReturnScale(4, 0.9), ReturnScale(4, 0.9)
    order = torch.tensor([2, 0, 3, 1])
    for _ in range(3):
        one = straight(reward, first, torch.arange(4))
        two = shuffled(reward[:, order], first, order)
        assert torch.allclose(one[:, order], two)
    assert torch.allclose(straight.running, shuffled.running)


def test_return_scale_state_dict() -> None:
    first = torch.zeros(6, 4, dtype=torch.bool)
    reward = torch.from_numpy(random.normal(size=(5, 4)))
    scale, again = ReturnScale(4, 0.9), ReturnScale(4, 0.9)
    scale(reward, first, torch.arange(4))
    again.load_state_dict(scale.state_dict())
    for _ in range(2):
        one = scale(reward, first, torch.arange(4))
        assert torch.equal(one, again(reward, first, torch.arange(4)))


def test_any_key_names_a_part() -> None:
    keys = ["robot.pos", "", "training", "parts", 7]
    space = spaces.Dict([(key, spaces.Box(-1, 1, (1,))) for key in keys])
    normalizer = Normalizer(space)
    obs = {key: torch.arange(4.0).view(4, 1, 1) * (1 + i) for i, key in enumerate(keys)}
    normalizer.update(obs)
    seen = normalizer({key: obs[key] for key in reversed(keys)})
    for key in keys:
        np.testing.assert_allclose(seen[key].std(correction=0), 1, rtol=1e-4)
