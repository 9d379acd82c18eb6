"""SAC with quantile critics: truncated quantile critics."""

from typing import Any

import pytest
import torch
from sb3_contrib import TQC

from neuraxis.agents.learning.distributional import truncated_mixture

from .helpers import action_words, training
from .outside_q import Beside
from .test_learning import identity, learned


def test_the_mixture_leaves_out_the_greatest_values_of_all_critics_together() -> None:
    quantiles = torch.tensor([[[5.0, 1.0, 3.0]], [[2.0, 9.0, 4.0]]])  # [2 critics, 1, 3]
    assert truncated_mixture(quantiles, 1).tolist() == [[1.0, 2.0, 3.0, 4.0]]
    assert truncated_mixture(quantiles, 0).tolist() == [[1.0, 2.0, 3.0, 4.0, 5.0, 9.0]]
    assert truncated_mixture(torch.randn(5, 7, 8, 25), 2).shape == (7, 8, 115)


@torch.no_grad()
def test_the_loss_is_the_mean_over_critics_quantiles_and_targets() -> None:
    """Kuznetsov et al. (2020), equation 7, as sums over single numbers, and the soft targets."""
    words = ("agent.n_quantiles=3", "agent.top_quantiles_to_drop_per_net=1", "agent.gamma=0.9")
    run = training("agent=tqc", *words, "env=Pendulum-v1", "env.time_limit=5", "agent.ent_coef=0.3")
    for _ in range(6):
        run.step()
    agent = run.agent
    batch = agent.weigh(agent.batch_of(agent.replay.gather(*agent.replay.draw(12))))
    q, target = agent.values_and_targets(batch)
    assert q.shape == (2, 1, 12, 3) and target.shape == (1, 12, 4)
    action, log_prob = agent.next_action(batch, batch["obs"][1:], batch["first"][1:])
    values = agent.target(batch["obs"][1:], action, batch["first"][1:])
    expected = 0.0
    for n in range(12):
        atoms = sorted(values[:, 0, n].flatten().tolist())[:4]
        soft = [value - 0.3 * float(log_prob[0, n]) for value in atoms]
        reward, discount = float(batch["reward"][0, n]), float(batch["discount"][0, n])
        if batch["valid"][0, n]:
            wanted = torch.tensor([reward + 0.9 * discount * value for value in soft])
            torch.testing.assert_close(target[0, n], wanted)
        for c in range(2):
            for i in range(3):
                for goal in target[0, n].tolist():
                    u = goal - float(q[c, 0, n, i])
                    huber = 0.5 * u * u if abs(u) <= 1 else abs(u) - 0.5
                    share = abs((i + 0.5) / 3 - (u < 0)) * huber / (2 * 3 * 4)
                    expected += float(batch["weight"][0, n]) * share
    loss, terms = agent.critic_loss(batch)
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert {name: term.shape for name, term in terms.items()} == dict.fromkeys(terms, (1, 12))


@pytest.mark.parametrize("n_critics", [2, 3])
def test_updates_are_those_of_sb3_contrib(n_critics: int, monkeypatch: Any) -> None:
    """Six in a row: targets, losses, temperature, Adam and target network."""
    words = ("env=Pendulum-v1", "env.time_limit=20", "num_envs=4", f"agent.n_critics={n_critics}")
    network = ("network.blocks.0.sizes=[16,16]", "network.blocks.0.activation=relu")
    slow = ("agent.optimizer_eps=1e-3", "agent.learning_rate=3e-3", "agent.gamma=0.9")
    late = ("agent.learning_starts=100_000", "total_steps=200_000", "agent.tau=0.05")
    run = training("agent=tqc", *words, *network, *slow, *late)
    for _ in range(8):
        run.step()
    settings = {"learning_rate": 3e-3, "gamma": 0.9, "tau": 0.05}
    beside = Beside(run, TQC, settings, n_critics=n_critics)
    model, agent = beside.model, run.agent
    for optimizer in (model.actor.optimizer, model.critic.optimizer, model.ent_coef_optimizer):
        optimizer.param_groups[0]["eps"] = 1e-3
    start = agent.critic_optimizer.flat.clone()
    for _ in range(6):
        batch, noise = beside.batch(32)
        draws = iter((noise[0], noise[1]))  # of the actor's loss, of the target
        monkeypatch.setattr(
            "torch.distributions.normal._standard_normal", lambda *_, draws=draws, **__: next(draws)
        )
        model.train(1, len(noise[0]))
        agent.update(batch)
    for ours, theirs in beside.pairs():
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(agent.temperature.log, model.log_ent_coef[0])
    assert (agent.critic_optimizer.flat - start).abs().max() > 3e-3


def test_as_many_quantiles_are_left_out_as_there_are() -> None:
    with pytest.raises(ValueError, match=r"per_net=25: expected less than n_quantiles=25"):
        training("agent=tqc", "env=Pendulum-v1", "agent.top_quantiles_to_drop_per_net=25")


@pytest.mark.parametrize("kind", ["box", "multidiscrete"])
def test_identity(kind: str) -> None:
    words = action_words(kind, 3 if kind == "multidiscrete" else 5)
    assert learned(training(*identity("sac", kind), "agent.n_quantiles=5", *words), 8.0)
