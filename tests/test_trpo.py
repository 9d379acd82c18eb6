"""TRPO: its step is sb3-contrib's, it stays within the trust region, and it is the natural one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sb3_contrib import TRPO as OutsideTRPO
from stable_baselines3.common.env_util import make_vec_env
from torch import Tensor

from neuraxis.agents.learning.trust_region import TrustRegion, conjugate_gradient
from neuraxis.agents.trpo import TRPO
from neuraxis.configs.groups import choices

from . import outside
from .helpers import Training, action_words, training

WORDS = ("agent=trpo", "num_envs=4", "agent.n_steps=32")
SHARED: dict[str, Any] = {"learning_rate": 3e-3, "n_critic_updates": 4, "gae_lambda": 0.9}


def build(*words: str) -> Training:
    return training(*WORDS, *words)


@pytest.mark.parametrize(
    ("env", "target_kl", "cg_damping", "cg_max_steps", "accuracy"),
    [
        ("CartPole-v1", 0.01, 0.1, 3, 1e-5),
        ("Pendulum-v1", 0.01, 0.1, 3, 1e-5),
        ("CartPole-v1", 0.1, 1e-3, 3, 1e-4),  # shortens steps
        ("CartPole-v1", 0.01, 0.1, 15, 1e-3),  # rounding grows with conjugate gradients
    ],
)
def test_steps_are_those_of_sb3_contrib(
    env: str,
    target_kl: float,
    cg_damping: float,
    cg_max_steps: int,
    accuracy: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the actor, from the same weights and batch, and then of the critic."""
    region = {"target_kl": target_kl, "cg_damping": cg_damping, "cg_max_steps": cg_max_steps}
    settings = SHARED | region
    words = [f"agent.{name}={value}" for name, value in settings.items()]
    run = build(*words, f"env={env}", "agent.batch_size=null", "env.time_limit=20")
    model: Any = OutsideTRPO(
        "MlpPolicy", make_vec_env(env, 4), device="cpu", n_steps=32, **settings
    )
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)  # ours begin at 0
    divergence = run.agent.policy.head.kl  # theirs is of the new policy from the old one
    run.agent.policy.head.kl = lambda params, other: divergence(other, params)
    lengths = []
    for _ in range(3):
        outside.adopt(model, run.agent.policy)
        before = outside.weights(run.agent.policy)
        rollout = run.rollout()
        model.rollout_buffer = outside.Batch(run.agent.batch_of(rollout)[0])
        model.train()
        metrics = run.agent.learn(rollout)
        run.source.publish(run.agent.policy)
        ours, theirs = (outside.weights(p) - before for p in (run.agent.policy, model.policy))
        assert 0 < metrics["policy/kl"] <= target_kl
        lengths.append(float(metrics["policy/step_length"]))
        for one, two in zip(*(parts(run.agent, x) for x in (ours, theirs)), strict=True):
            assert (one - two).norm() < accuracy * two.norm()
    assert (min(lengths) < 1) == (cg_damping < 0.1)


def parts(agent: TRPO, moved: Tensor) -> tuple[Tensor, Tensor]:
    """How far actor and critic moved; a Box's deviation comes last."""
    pieces = moved.split([parameter.numel() for parameter in outside.parameters(agent.policy)])
    return torch.cat([*pieces[:6], *pieces[12:]]), torch.cat(pieces[6:12])


def looked_at(run: Training) -> Any:
    """A whole rollout as the actor's step takes it."""
    batch, _ = run.agent.batch_of(run.rollout())
    return run.agent.weigh(batch) | run.agent.coefficients()


def test_the_step_is_the_natural_gradients() -> None:
    """Against the Fisher matrix as the mean of the squared gradients of log pi, written out."""
    run = build("network.blocks.0.sizes=[3]", "env.time_limit=20", "agent.cg_max_steps=100")
    agent: TRPO = run.agent
    batch, region = looked_at(run), agent.region
    params = agent.policy.distribution(batch["obs"], batch["state"], batch["first"])[0]
    fisher = torch.zeros(len(region.flat), len(region.flat))
    for log_probs, weight in zip(params, batch["weight"][0], strict=True):
        for log_prob in log_probs:
            score = region.gradient(log_prob)
            fisher += weight * log_prob.exp().detach() * torch.outer(score, score)
    chosen = params.gather(-1, batch["action"][0, :, None]).squeeze(-1)
    gradient = region.gradient((batch["weight"] * batch["advantage"] * chosen).sum())
    damped = fisher + 0.1 * torch.eye(len(fisher))
    direction = torch.linalg.solve(damped, gradient)
    expected = direction * (2 * 0.01 / (direction @ damped @ direction)).sqrt()
    before = region.flat.clone()
    terms = agent.update(batch)
    moved = region.flat - before
    assert terms["length"] > 0
    torch.testing.assert_close(moved / terms["length"], expected, rtol=1e-3, atol=1e-4)


def test_far_ratios_poison_no_step() -> None:
    """exp(150) overflows, and 0 times infinity is NaN: so far is every second step from `old`."""
    run = build()
    agent, batch = run.agent, looked_at(run)
    params = agent.policy.distribution(batch["obs"], batch["state"], batch["first"])
    old = params.detach().clone()
    old[:, ::2] -= 150 * torch.nn.functional.one_hot(batch["action"][:, ::2], 2)
    objective, divergence, _ = agent.objective(batch, old)
    gradient = agent.region.gradient(objective)
    assert objective.isfinite() and divergence.isfinite() and gradient.isfinite().all()
    assert gradient.norm() > 0  # of the other steps


def test_conjugate_gradients_solve() -> None:
    torch.manual_seed(0)
    root, b = torch.randn(6, 6).double(), torch.randn(6).double()
    matrix = root @ root.T + torch.eye(6)
    x = conjugate_gradient(lambda v: matrix @ v, b, 20)
    torch.testing.assert_close(x, torch.linalg.solve(matrix, b), atol=1e-4, rtol=1e-4)
    assert not conjugate_gradient(lambda v: matrix @ v, torch.zeros(6), 20).any()


CNNS = [name for name in choices("network") if "cnn" in name]


# Not crossq: after a step its statistics are others, from which measuring anew would differ.
@pytest.mark.parametrize("network", sorted({*choices("network")} - {"crossq", *CNNS}))
@pytest.mark.parametrize("kind", ["discrete", "box"])
def test_the_divergence_stays_within_the_limit(kind: str, network: str) -> None:
    """And the surrogate grows: measured anew, from the weights before and after."""
    run = build(f"network={network}", *action_words(kind), "agent.target_kl=0.003")
    for _ in range(2):
        run.step()
    batch = looked_at(run)
    before, _, old = run.agent.objective(batch, None)
    terms = run.agent.update(batch)
    after, divergence, _ = run.agent.objective(batch, old)
    assert 0 < terms["length"] and 0 < divergence <= 0.003 and after > before
    assert float(terms["divergence"]) == pytest.approx(divergence.item(), rel=1e-3, abs=1e-6)


def test_without_improvement_there_is_no_step() -> None:
    layer = torch.nn.Linear(2, 1)
    region = TrustRegion(layer, limit=1.0, damping=0.1, iterations=5, shrinking=0.5, attempts=3)
    before, looks = region.flat.clone(), []

    def worse(_: Any) -> tuple[Tensor, Tensor, None]:
        looks.append(region.flat.clone())
        gain = layer.weight.sum() if len(looks) == 1 else torch.tensor(-1e9)
        return gain, layer.weight.square().sum() * 1e-3, None

    terms, _ = region.step(worse)
    assert len(looks) == 4 and not torch.equal(looks[1], before)
    assert torch.equal(region.flat, before) and terms["length"] == terms["divergence"] == 0


def test_nothing_to_gain_is_no_step() -> None:
    """Where all advantages are 0, for instance: no length of a step of 0 is tried."""
    run = build("agent.normalize_advantage=false")
    batch = looked_at(run)
    before = run.agent.region.flat.clone()
    terms = run.agent.update(batch | {"advantage": torch.zeros_like(batch["advantage"])})
    assert torch.equal(run.agent.region.flat, before) and terms["length"] == 0


def test_the_critic_leaves_a_shared_backbone_alone() -> None:
    """Its gradient would move the policy out of the trust region."""
    run = build("network.shared=true", "agent.n_critic_updates=20")
    batch = looked_at(run)
    _, values = (
        minibatch for minibatch, _ in zip(run.agent.minibatches(batch), "12", strict=False)
    )
    actor, value = run.agent.region.flat.clone(), run.agent.policy.value.weight.clone()
    run.agent.update(run.agent.weigh(values))
    assert torch.equal(run.agent.region.flat, actor)
    assert not torch.equal(run.agent.policy.value.weight, value)


def test_all_looks_of_a_step_are_under_the_same_masks() -> None:
    """Those of the next step are others."""
    run = build("network.blocks.0.dropout=0.5")
    batch, seen = looked_at(run), []
    objective = run.agent.objective

    def spied(*args: Any) -> Any:
        seen.append(torch.rand(()))  # what a mask would draw first
        return objective(*args)

    run.agent.objective = spied
    run.agent.update(batch)
    assert len(seen) >= 2 and len(set(map(float, seen))) == 1
    run.agent.update(batch)
    assert len(set(map(float, seen))) == 2


def test_a_line_search_is_not_compiled() -> None:
    with pytest.raises(ValueError, match=r"compile=true: .*: the line search of agent=trpo reads"):
        build("compile=true")
