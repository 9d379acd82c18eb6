"""REINFORCE: each step of an ended episode once, with the sum of all that came after it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, distributions

from neuraxis.core.errors import RunError

from .helpers import Training, training

WORDS = ("agent=reinforce", "num_envs=3", "agent.n_steps=8", "agent.learning_rate=0.01")


def build(*words: str) -> Training:
    return training(*WORDS, *words)


class Episodes:
    """Steps written down by hand, column by column, until their episode ends."""

    def __init__(self, columns: int) -> None:
        self.open: list[list[dict[str, Any]]] = [[] for _ in range(columns)]

    def see(self, rollout: Any) -> list[list[dict[str, Any]]]:
        """The episodes that ended in a rollout, each a list of its steps."""
        ended = []
        for t in range(len(rollout.reward)):
            for column, steps in enumerate(self.open):
                if rollout.first[t, column] and steps:  # the row after a rollout's last
                    ended.append(steps.copy())
                    steps.clear()
                if rollout.first[t + 1, column]:
                    continue
                step = {"obs": rollout.obs[t, column], "action": rollout.action[t, column]}
                steps.append(step | {"reward": float(rollout.reward[t, column])})
        for column, steps in enumerate(self.open):
            if rollout.first[-1, column] and steps:
                ended.append(steps.copy())
                steps.clear()
        return ended


def expected_gradient(run: Training, episodes: list[Any], gamma: float, baseline: bool) -> Tensor:
    """Sum over steps of (G - b) grad log pi, written out, over their number (13.3 and 13.4)."""
    policy, total, count = run.agent.policy, torch.zeros(()), 0
    for steps in episodes:
        for t, step in enumerate(steps):
            later = enumerate(steps[t:])
            value = sum(gamma**k * each["reward"] for k, each in later)
            params, guess, _ = policy(step["obs"][None, None], (), torch.zeros(1, 1).bool())
            log_prob = distributions.Categorical(logits=params[0, 0]).log_prob(step["action"])
            weight = value - float(guess.detach()) if baseline else value
            total = total - log_prob * weight
            if baseline:
                total = total + 0.3 * (value - guess[0, 0]).square()
            count += 1
    grads = torch.autograd.grad(
        total / count, run.agent.optimizer.parameters, materialize_grads=True
    )
    return torch.cat([grad.flatten() for grad in grads])


def keeping(found: list[Tensor], optimizer: Any) -> Any:
    """The optimizer's `step`, which also keeps the gradient of its loss."""
    step = optimizer.step

    def kept(loss: Any, batch: Any, veto: Any = None) -> Any:
        grads = torch.autograd.grad(loss(batch)[0], optimizer.parameters, materialize_grads=True)
        found.append(torch.cat([grad.flatten() for grad in grads]))
        return step(loss, batch, veto)

    return kept


@pytest.mark.parametrize("baseline", [True, False])
def test_the_gradient_is_the_explicit_sum(baseline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of terminated and truncated episodes that go over several rollouts, and of those within."""
    words = (f"agent.baseline={baseline}".lower(), "agent.gamma=0.9", "agent.vf_coef=0.3")
    run = build(*words, "env.time_limit=21")
    diary, lengths, truncated = Episodes(3), [], 0
    for _ in range(12):
        rollout = run.rollout()
        episodes = diary.see(rollout)
        found: list[Tensor] = []
        expected = expected_gradient(run, episodes, 0.9, baseline) if episodes else None
        with monkeypatch.context() as patch:
            patch.setattr(run.agent.optimizer, "step", keeping(found, run.agent.optimizer))
            metrics = run.agent.learn(rollout)
        run.source.publish(run.agent.policy)
        assert metrics["train/finished_steps"] == sum(map(len, episodes))
        if expected is None:
            assert not found and "loss/policy" not in metrics
        else:
            torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-5)
        lengths += list(map(len, episodes))
        truncated += sum(length == 21 for length in lengths)
    assert min(lengths) < 8 * 2 < max(lengths) and truncated


def test_one_step_alone_moves_the_baseline_only(caplog: Any) -> None:
    """Its advantage cannot be normalised: it is 0, and not the raw return; and that is said."""
    words = ("num_envs=1", "agent.n_steps=1", "env=neuraxis/Identity-v0", "env.kwargs.length=1")
    run = build(*words, "agent.normalize_advantage=true", "env.reward_scale=1000")
    before, moved = {name: x.clone() for name, x in run.agent.policy.state_dict().items()}, set()
    for _ in range(8):
        run.step()
        for name, x in run.agent.policy.state_dict().items():
            moved |= {name.partition(".")[0]} if not torch.equal(x, before[name]) else set()
    assert moved == {"critic", "value"}
    (line,) = [record.getMessage() for record in caplog.records]
    assert "agent.normalize_advantage" in line and "one step" in line


@pytest.mark.parametrize("network", ["mlp", "lstm"])
def test_every_step_is_learned_from_once(network: str) -> None:
    """And with memory in the midst of the whole episode, which begins within the stream."""
    run, seen = build(f"network={network}", "env.time_limit=30"), []
    diary, steps = Episodes(3), 0
    for _ in range(10):
        rollout = run.rollout()
        steps += sum(map(len, diary.see(rollout)))
        batch, _ = run.agent.batch_of(rollout)
        keep = batch["valid"].bool()
        seen += [tuple(obs.tolist()) for obs in batch["obs"][keep]]
        opens = batch["first"].cumsum(0) if network == "lstm" else torch.ones_like(batch["first"])
        assert (opens[keep] > 0).all()
    assert len(seen) == len(set(seen)) == steps > 30


def test_memory_within_an_episode_is_that_of_acting() -> None:
    """With the weights that acted: the log-probabilities of a step-by-step pass."""
    run = build("network=gru", "env.time_limit=30")
    policy = run.agent.policy
    for _ in range(6):
        rollout = run.rollout()
        batch, _ = run.agent.batch_of(rollout)
        if not batch["valid"].any():
            continue
        params, _, _ = policy(batch["obs"], batch["state"], batch["first"])
        rows = len(rollout.reward)
        acted, _, _ = policy(rollout.obs, rollout.state, rollout.first)
        keep = batch["valid"][-rows:].bool()
        torch.testing.assert_close(params[-rows:][keep], acted[:-1][keep], rtol=1e-4, atol=1e-5)


def test_without_baseline_values_stay_as_they_are() -> None:
    for baseline in (False, True):
        run = build(f"agent.baseline={baseline}".lower(), "env.time_limit=5")
        before = run.agent.policy.value.weight.clone()
        for _ in range(3):
            run.step()
        assert torch.equal(run.agent.policy.value.weight, before) != baseline


def test_an_episode_without_end_is_an_error() -> None:
    run = build("env=Pendulum-v1", "agent.max_episode_steps=30")
    line = r"agent=reinforce: an episode has more than 30 steps, .*; set env\.time_limit, or raise"
    with pytest.raises(RunError, match=line):
        for _ in range(5):
            run.step()


def test_advantages_are_normalised_over_all_steps() -> None:
    run = build("agent.normalize_advantage=true", "env.time_limit=9", "network=lstm")
    batch = {}
    for _ in range(3):
        batch, _ = run.agent.batch_of(run.rollout())
    weighed = run.agent.weigh(batch)
    kept = weighed["advantage"][weighed["valid"].bool()]
    assert kept.mean().abs() < 1e-5 and kept.std().item() == pytest.approx(1, abs=1e-4)
