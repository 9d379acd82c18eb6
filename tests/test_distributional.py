"""Distributions of returns: C51, QR-DQN and IQN against explicit sums and Stable-Baselines3."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor, nn

from neuraxis.agents.dqn import DQN
from neuraxis.agents.learning.distributional import divergence, project, quantile_huber
from neuraxis.agents.learning.returns import rescale, unscale
from neuraxis.agents.policies.joint_actions import JointActions
from neuraxis.agents.replay.sample import Sample

from .helpers import Training, sampled, training

WORDS = (
    "agent=dqn",
    "num_envs=4",
    "agent.train_freq=4",
    "agent.learning_starts=16",
    "agent.gradient_steps=2",
    "agent.batch_size=8",
    "network.blocks.0.sizes=[16]",
)
KINDS = ("categorical", "quantile", "implicit")
SUPPORT = torch.linspace(-2.0, 3.0, 6)  # -2, -1, 0, 1, 2, 3


def build(*words: str) -> Training:
    return training(*WORDS, *words)


def warm(run: Training, count: int = 16) -> Sample:
    for _ in range(8):
        run.step()
    return sampled(run.agent.replay, count)


def projected(atoms: Tensor, probability: Tensor, support: Tensor) -> Tensor:
    """Algorithm 1 of Bellemare et al. (2017), one atom after the other."""
    low, high, count = float(support[0]), float(support[-1]), len(support)
    gap = (high - low) / (count - 1)
    rows = []
    for values, masses in zip(atoms.tolist(), probability.tolist(), strict=True):
        row = [0.0] * count
        for value, mass in zip(values, masses, strict=True):
            b = (min(max(value, low), high) - low) / gap
            lower, upper = math.floor(b), math.ceil(b)
            if lower == upper:
                row[lower] += mass
            else:
                row[lower] += mass * (upper - b)
                row[upper] += mass * (b - lower)
        rows.append(row)
    return torch.tensor(rows)


def test_the_projection_is_the_explicit_sum() -> None:
    atoms, probability = 3 * torch.randn(40, 7), torch.randn(40, 7).softmax(-1)
    ours = project(atoms, probability, SUPPORT)
    assert torch.allclose(ours, projected(atoms, probability, SUPPORT), atol=1e-6)
    assert torch.allclose(ours.sum(-1), torch.ones(40), atol=1e-6) and (ours >= 0).all()
    inside = atoms.clamp(-2, 3)
    mean, expected = (ours * SUPPORT).sum(-1), (inside * probability).sum(-1)
    assert torch.allclose(mean, expected, atol=1e-5)


def test_atoms_on_the_support_keep_their_mass() -> None:
    """b is an integer: between the neighbours l = u nothing may be lost."""
    probability = torch.tensor([[0.1, 0.2, 0.3, 0.1, 0.2, 0.1]])
    assert torch.allclose(project(SUPPORT[None], probability, SUPPORT), probability)
    ones = project(SUPPORT[None] + 1, probability, SUPPORT)  # the last two atoms meet at the end
    assert ones[0].tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.1, 0.3])
    beyond = project(torch.tensor([[-9.0, 9.0, 0.25]]), torch.tensor([[0.5, 0.3, 0.2]]), SUPPORT)
    assert beyond[0].tolist() == pytest.approx([0.5, 0, 0.15, 0.05, 0, 0.3])


def test_the_divergence_is_that_of_torch() -> None:
    target, log_p = torch.randn(9, 5).softmax(-1), torch.randn(9, 5).log_softmax(-1)
    target[0] = torch.tensor([0.0, 0.5, 0.5, 0.0, 0.0])
    expected = nn.functional.kl_div(log_p, target, reduction="none").sum(-1)
    assert torch.allclose(divergence(target, log_p), expected, atol=1e-6)
    assert divergence(log_p.exp(), log_p).abs().max() < 1e-6


def explicit_quantile_loss(quantile: Any, tau: Any, target: Any) -> float:
    """The sum over quantiles of the mean over targets, term by term."""
    total = 0.0
    for value, fraction in zip(quantile, tau, strict=True):
        for sample in target:
            u = sample - value
            huber = 0.5 * u * u if abs(u) <= 1 else abs(u) - 0.5
            total += abs(fraction - (1.0 if u < 0 else 0.0)) * huber / len(target)
    return total


def test_the_quantile_loss_is_the_explicit_sum() -> None:
    quantile, target, tau = 2 * torch.randn(3, 5, 4), 2 * torch.randn(3, 5, 6), torch.rand(3, 5, 4)
    loss = quantile_huber(quantile, tau, target)
    expected = [
        explicit_quantile_loss(*(x[i, j].tolist() for x in (quantile, tau, target)))
        for i in range(3)
        for j in range(5)
    ]
    assert loss.flatten().tolist() == pytest.approx(expected, rel=1e-5)
    narrow = quantile_huber(quantile, tau, target, kappa=1e-4)  # the pinball loss of the quantiles
    error = target[..., None, :] - quantile[..., None]
    pinball = torch.where(error < 0, tau[..., None] - 1, tau[..., None]) * error
    assert torch.allclose(narrow, pinball.mean(-1).sum(-1), atol=1e-3)


def linears(module: nn.Module) -> list[Any]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def test_qr_dqn_is_that_of_stable_baselines3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss and gradients of the same weights and batch."""
    words = ("agent.distribution=quantile", "agent.n_quantiles=8", "agent.double=false")
    run = build(*words, "network.blocks.0.activation=relu", "agent.gamma=0.9")
    sample, agent = warm(run), run.agent
    agent.target.network.requires_grad_(False)
    for parameter in agent.target.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))  # lest both networks are one
    theirs = QRDQN(
        *("MlpPolicy", "CartPole-v1"), gamma=0.9, policy_kwargs={"net_arch": [16], "n_quantiles": 8}
    )
    pairs = (
        (agent.policy, theirs.quantile_net),
        (agent.target.network, theirs.quantile_net_target),
    )
    for ours, net in pairs:
        hidden, out = linears(net)
        mine, last = linears(ours)
        for one, two in ((hidden.weight, mine.weight), (hidden.bias, mine.bias)):
            one.data.copy_(two.data)
        out.weight.data.copy_(by_quantile(last.weight.data))
        out.bias.data.copy_(by_quantile(last.bias.data))
    valid = sample.valid[0]
    data = ReplayBufferSamples(
        *(sample.obs[0][valid], sample.action[0][valid, None], sample.obs[1][valid]),
        *(1 - sample.discount[0][valid, None], sample.reward[0][valid, None]),
    )
    monkeypatch.setattr(theirs, "replay_buffer", type("", (), {"sample": lambda *a, **k: data})())
    monkeypatch.setattr(theirs.policy.optimizer, "step", lambda: None)
    logger = Logged()
    monkeypatch.setattr(theirs, "_logger", logger, raising=False)
    theirs.train(1, int(valid.sum()))
    batch = agent.weigh(agent.batch_of(sample))
    loss, _ = agent.loss(batch)
    assert loss.item() == pytest.approx(logger.values["train/loss"], abs=1e-6)
    grads = torch.autograd.grad(
        loss, [p for layer in linears(agent.policy) for p in layer.parameters()]
    )
    hidden, out = linears(theirs.quantile_net)
    expected = [hidden.weight.grad, hidden.bias.grad, out.weight.grad, out.bias.grad]
    for grad, other in zip([*grads[:2], *map(by_quantile, grads[2:])], expected, strict=True):
        assert torch.allclose(grad, other, atol=1e-6)


def by_quantile(rows: Tensor) -> Tensor:
    """Rows [2 actions * 8 quantiles, *] as [8 * 2, *]: Stable-Baselines3 counts actions faster."""
    return rows.unflatten(0, (2, 8)).transpose(0, 1).flatten(0, 1)


class Logged:
    """A logger that keeps what it was told."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def record(self, name: str, value: float, **_: Any) -> None:
        self.values[name] = value


def test_iqn_is_the_explicit_sum() -> None:
    """Quantiles by hand from weights, cosines and fractions; then the sum over all their pairs."""
    words = ("agent.distribution=implicit", "agent.n_quantiles=4", "agent.n_cosines=5")
    run = build(*words, "agent.gamma=0.9")
    sample, agent = warm(run), run.agent
    torch.manual_seed(7)
    batch = agent.batch_of(sample)
    torch.manual_seed(7)
    tau_target, tau = torch.rand(1, 16, 4), torch.rand(1, 16, 4)
    assert torch.equal(batch["tau"], tau)
    middles = (torch.arange(4) + 0.5) / 4

    def quantiles(policy: Any, obs: Tensor, fractions: Tensor) -> Tensor:
        """[16, A, K]"""
        y, _ = policy.backbone(obs[None], (), torch.zeros(1, 16, dtype=torch.bool))
        cosines = torch.stack([(math.pi * i * fractions).cos() for i in range(5)], -1)
        phi = (cosines @ policy.returns.embedding.weight.T + policy.returns.embedding.bias).relu()
        out = policy.advantage.layers[0]
        return ((y[0, :, None] * phi) @ out.weight.T + out.bias).transpose(1, 2)

    with torch.no_grad():
        action = quantiles(agent.policy, sample.obs[1], middles).mean(-1).argmax(-1)
        later = quantiles(agent.target.network, sample.obs[1], tau_target[0])
        later = later[torch.arange(16), action]
        target = sample.reward[0, :, None] + 0.9 * sample.discount[0, :, None] * later
        now = quantiles(agent.policy, sample.obs[0], tau[0])[torch.arange(16), sample.action[0]]
    valid = sample.valid[0]
    assert torch.allclose(batch["target"][0][valid], target[valid], atol=1e-5)
    rows = zip(now[valid], tau[0][valid], target[valid], strict=True)
    losses = [explicit_quantile_loss(*(x.tolist() for x in row)) for row in rows]
    loss, terms = agent.loss(agent.weigh(batch))
    assert loss.item() == pytest.approx(float(np.mean(losses)), rel=1e-5)
    assert terms["loss"][0][valid].tolist() == pytest.approx(losses, rel=1e-4)


class Table(nn.Module):
    """Numbers [A, N] of each state, which the observation is."""

    def __init__(self, agent: DQN, rows: Tensor) -> None:
        super().__init__()
        self.rows = rows
        self.joint, self.returns = JointActions(spaces.Discrete(2)), agent.policy.returns

    def distribution(self, obs: Tensor, state: Any, first: Tensor, tau: Any) -> tuple[Tensor, Any]:
        return self.rows[obs[..., 0].long()], state

    def values(self, q: Tensor, obs: Tensor) -> Tensor:
        return self.returns.mean(q)


def chain(rewards: list[float], discounts: list[float], resets: tuple[int, ...] = ()) -> Sample:
    """One window of the states 0, 1, 2; `resets` are the rows that open an episode."""
    return Sample(
        obs=torch.arange(3.0)[:, None, None],
        first=torch.tensor([[row in resets] for row in range(3)]),
        action=torch.zeros(2, 1, dtype=torch.int64),
        reward=torch.tensor(rewards)[:, None],
        discount=torch.tensor(discounts)[:, None],
        state=(),
        starts=np.zeros(1, int),
        weight=torch.ones(1),
    )


C51 = ("agent.distribution=categorical", "agent.n_atoms=6", "agent.v_min=-2", "agent.v_max=3")


def targets(kind: tuple[str, ...], rows: Tensor, *args: Any) -> Tensor:
    """The target [N] of a window, by tables of three states."""
    agent: DQN = build(*kind, "agent.double=false", "agent.n_step=2", "agent.gamma=0.5").agent
    table = Table(agent, rows)
    vars(agent).update(policy=table, target=type("", (), {"network": table})())
    return agent.batch_of(chain(*args))["target"][0, 0]


def test_c51_targets_of_a_chain() -> None:
    """Of the best action's distribution where the return bootstraps, moved and projected."""
    p = torch.tensor([[0.5, 0.0, 0.0, 0.0, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0, 1.0, 0.0]])
    even = torch.full((2, 6), 1 / 6)
    logits = torch.stack([even, p.flip(0), p]).clamp(min=1e-30).log()
    # state 2: action 1 is worth 2, action 0 only 0.5; 1 + 0.5 * 0 + 0.25 * 2 = 1.5
    ours = targets(C51, logits, [1.0, 0.0], [1.0, 1.0])
    assert ours.tolist() == pytest.approx([0, 0, 0, 0.5, 0.5, 0], abs=1e-5)
    # terminated in the second step: 1 + 0.5 * 2 = 2, for sure
    ours = targets(C51, logits, [1.0, 2.0], [1.0, 0.0])
    assert ours.tolist() == pytest.approx([0, 0, 0, 0, 1, 0], abs=1e-5)
    # truncated after the first: of state 1, where action 0 is worth 2: 1 + 0.5 * 2 = 2
    ours = targets(C51, logits, [1.0, 0.0], [1.0, 1.0], (2,))
    assert ours.tolist() == pytest.approx([0, 0, 0, 0, 1, 0], abs=1e-5)


def test_quantile_targets_of_a_chain_with_rescaling() -> None:
    """h is monotone, so the quantiles of h(Z) are h of the quantiles, and actions are compared by
    the mean of Z: a lottery of 0 and 99 is worth more than 40 for sure, though not by h."""
    lottery, sure = torch.tensor([0.0, 99.0]), torch.tensor([40.0, 40.0])
    assert rescale(lottery).mean() < rescale(sure).mean()
    rows = rescale(torch.stack([sure, lottery])).expand(3, 2, 2)
    kind = ("agent.distribution=quantile", "agent.n_quantiles=2", "agent.value_rescaling=true")
    ours = targets(kind, rows, [1.0, 2.0], [1.0, 1.0])
    assert torch.allclose(unscale(ours), torch.tensor([2.0, 2.0 + 0.25 * 99]), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_policy_acts_by_the_mean(kind: str) -> None:
    policy = build(f"agent.distribution={kind}", "agent.dueling=true").agent.policy
    obs, first = torch.randn(3, 5, 4), torch.zeros(3, 5, dtype=torch.bool)
    q, _ = policy(obs, (), first)
    full, _ = policy.distribution(obs, (), first)
    assert q.shape == (3, 5, 2) and full.shape[:3] == q.shape and full.ndim == 4
    if kind == "categorical":
        full = full.softmax(-1) * torch.linspace(-10, 10, 51)
        assert torch.allclose(q, full.sum(-1), atol=1e-5)
    else:
        assert torch.allclose(q, full.mean(-1), atol=1e-5)
    action, _, _ = policy.act(obs[0], (), first[0], greedy=True)
    assert torch.equal(action, q[0].argmax(-1))
    again, _, _ = policy.act(obs[0], (), first[0], greedy=True)
    assert torch.equal(action, again)


@pytest.mark.parametrize("kind", KINDS)
def test_dueling_subtracts_the_mean_of_each_number(kind: str) -> None:
    policy = build(f"agent.distribution={kind}", "agent.dueling=true").agent.policy
    obs, first = torch.randn(3, 5, 4), torch.zeros(3, 5, dtype=torch.bool)
    q, _ = policy.distribution(obs, (), first)
    y = policy.returns.features(policy.backbone(obs, (), first)[0])
    value = policy.value(y, True)
    value = value[..., 0] if kind == "implicit" else value
    assert torch.allclose(q.mean(-2), value, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_priorities_are_losses(kind: str) -> None:
    agent = build(f"agent.distribution={kind}", "agent.prioritized=true", *C51[1:]).agent
    terms = {
        "loss": torch.tensor([[2.0, 0.5]]),
        "error": torch.zeros(1, 2),
        "valid": torch.ones(1, 2),
    }
    assert agent.priority(terms).tolist() == pytest.approx([2.0, 0.5], abs=1e-5)


def test_fractions_are_drawn_anew_for_each_minibatch() -> None:
    """For each step and, apart from these, for its target; the draws are torch's."""
    run = build("agent.distribution=implicit", "agent.double=false")
    warm(run)
    batches = [batch for _, batch in run.agent.samples(2)]
    one, two = (batch["tau"] for batch in batches)
    assert one.shape == (1, 8, 32) and not torch.equal(one, two)
    assert len(one.unique()) > 250 and one.min() >= 0 and one.max() < 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", ["noisy=true", "double=false", "value_rescaling=true"])
def test_they_go_with_the_other_switches(kind: str, value: str) -> None:
    lstm = ("network=lstm", "network.blocks.1.size=8", "agent.sequence_length=4")
    more = ("agent.burn_in=4", "agent.n_step=3", "agent.prioritized=true", "agent.dueling=true")
    run = build(f"agent.distribution={kind}", f"agent.{value}", *lstm, *more, "env.time_limit=6")
    before = run.agent.optimizer.flat.clone()
    metrics = [run.step() for _ in range(8)]
    assert all(math.isfinite(number) for number in metrics[-1].values())
    assert (run.agent.optimizer.flat != before).any()
    assert run.agent.optimizer.flat.isfinite().all()


def test_a_support_must_rise() -> None:
    with pytest.raises(ValueError, match=r"v_min=3.0: expected less than v_max=1.0") as refused:
        build("agent.distribution=categorical", "agent.v_min=3", "agent.v_max=1")
    assert "\n" not in str(refused.value)
