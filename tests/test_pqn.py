"""PQN: Q(lambda) targets against explicit sums, and what minibatches and memory are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from neuraxis.core.rollout import Rollout

from .helpers import Training, training, weights

SMALL = ("agent=pqn", "num_envs=4", "agent.n_steps=8", "network.blocks.0.sizes=[16]")
LSTM = ("network=lstm", "network.blocks.1.size=16")


def run_of(*words: str) -> Training:
    """In the middle of short episodes, that end in both ways."""
    run = training(*SMALL, "env.time_limit=14", *words)
    for _ in range(3):
        run.step()
    return run


def explicit(rollout: Rollout[Tensor], q: Tensor, gamma: float, weight: float) -> Tensor:
    """Peng's Q(lambda) of each valid step [T, B] as its sum of n-step returns, n = 1, 2, ...

    (1 - lambda) sum of lambda^(n-1) G^n, and what is left of the weights for the longest. The
    window of G^n stops where the episode does, or the rollout.
    """
    value, valid = q.amax(-1), rollout.valid
    steps, columns = valid.shape
    targets = torch.zeros(steps, columns)
    for b in range(columns):
        for t in range(steps):
            n_step, paid, scale, end = [], 0.0, 1.0, t
            while end < steps and valid[end, b]:
                paid += scale * float(rollout.reward[end, b])
                scale *= gamma * float(rollout.discount[end, b])
                end += 1
                n_step.append(paid + scale * float(value[end, b]))
                if scale == 0.0:
                    break
            left = 1.0
            for number, n_step_return in enumerate(n_step):
                share = left if number == len(n_step) - 1 else left * (1 - weight)
                targets[t, b] += share * n_step_return
                left -= share
    return targets


@pytest.mark.parametrize("weight", [0.0, 0.65, 1.0])
@pytest.mark.parametrize("network", [(), LSTM])
def test_targets_are_explicit_sums(weight: float, network: tuple[str, ...]) -> None:
    run = run_of(f"agent.q_lambda={weight}", "agent.gamma=0.9", *network)
    seen: set[float] = set()
    cut = 0
    for _ in range(8):
        rollout = run.rollout()
        found = run.agent.targets(run.agent.batch_of(rollout)[0])["target"]
        q, _ = run.agent.policy(rollout.obs, rollout.state, rollout.first)
        valid = rollout.valid
        expected = explicit(rollout, q.detach(), 0.9, weight)
        assert torch.allclose(found[valid], expected[valid], atol=1e-5)
        seen |= {*rollout.discount.flatten().tolist()}
        cut += int((~valid[1:] & (rollout.discount[:-1] == 1)).sum())
        run.agent.learn(rollout)
        run.source.publish(run.agent.policy)
    assert seen == {0.0, 1.0} and cut  # terminations, and truncations


def test_the_loss_is_half_the_squared_error() -> None:
    """Of the valid steps, against PyTorch's; with its gradient's direction."""
    run = run_of("agent.batch_size=1000", "agent.n_epochs=1")
    agent, rollout = run.agent, run.rollout()
    valid = rollout.valid.reshape(-1)
    (batch,) = agent.minibatches(agent.batch_of(rollout)[0])
    loss, terms = agent.loss(agent.weigh(batch))
    q, _ = agent.policy(rollout.obs, (), rollout.first)
    taken = q[:-1].gather(-1, rollout.action[..., None]).reshape(-1)
    target = batch["target"].reshape(-1)
    expected = 0.5 * torch.nn.functional.mse_loss(taken[valid], target[valid])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert not terms["error"].requires_grad and not batch["target"].requires_grad


def watched(run: Training) -> list[dict[str, Any]]:
    """The minibatches of the next updates."""
    seen: list[dict[str, Any]] = []
    update = run.agent.run_update
    run.agent.run_update = lambda batch: (seen.append(batch), update(batch))[1]
    return seen


def test_an_epoch_takes_each_step_once_and_the_next_in_another_order() -> None:
    run = run_of("agent.batch_size=12", "agent.n_epochs=2")
    seen = watched(run)
    run.agent.learn(run.rollout())
    assert [batch["target"].shape for batch in seen] == [(1, 11), (1, 11), (1, 10)] * 2
    one, two = (torch.cat([b["target"] for b in part], 1)[0] for part in (seen[:3], seen[3:]))
    assert torch.equal(one.sort().values, two.sort().values) and not torch.equal(one, two)


def test_memory_learns_from_whole_columns_by_the_newest_weights() -> None:
    run = run_of(*LSTM, "agent.batch_size=16", "agent.n_epochs=2")
    seen, rollout = watched(run), run.rollout()
    columns: list[int] = []
    loss = run.agent.loss
    start = weights(run.agent)

    def checked(batch: Any) -> Any:
        """By the weights of this update, from the memory at the rollout's start."""
        place = [
            next(c for c in range(4) if torch.equal(obs, rollout.obs[:-1, c]))
            for obs in batch["obs"].unbind(1)
        ]
        columns.extend(place)
        run.agent.policy.eval()
        with torch.no_grad():
            q, _ = run.agent.policy(rollout.obs, rollout.state, rollout.first)
        run.agent.policy.train()
        expected = explicit(rollout, q, 0.99, 0.65)[:, place]
        valid = batch["valid"].bool()
        assert torch.allclose(batch["target"][valid], expected[valid], atol=1e-4)
        return loss(batch)

    run.agent.loss = checked
    run.agent.learn(rollout)
    assert [batch["target"].shape for batch in seen] == [(8, 2)] * 4
    assert sorted(columns[:4]) == sorted(columns[4:]) == [0, 1, 2, 3]
    assert not torch.equal(weights(run.agent), start)


@pytest.mark.parametrize("network", [(), LSTM])
def test_resets_have_no_say(network: tuple[str, ...]) -> None:
    def learned(spoil: bool) -> Tensor:
        run = run_of(*network)
        rollout = run.rollout()
        assert not rollout.valid.all()
        if spoil:
            rollout.action[~rollout.valid] = 1 - rollout.action[~rollout.valid]
        run.agent.learn(rollout)
        return weights(run.agent)

    assert torch.equal(learned(False), learned(True))


def test_there_is_neither_replay_nor_target_and_the_optimizer_is_radam() -> None:
    agent = training(*SMALL).agent
    assert set(agent.parts) == {"policy", "optimizer"}
    assert agent.optimizer.rule == "radam" and agent.optimizer.max_grad_norm == 10


def test_it_says_which_blocks_lack_layer_normalisation() -> None:
    (note,) = training(*SMALL).agent.notes
    assert note.endswith("steadier with network.blocks.0.norm=layer")
    assert not training(*SMALL, "network.blocks.0.norm=layer").agent.notes
    blocks = "network.blocks=[{name: mlp, norm: layer}, {name: gru, norm: layer}]"
    assert not training("agent=pqn", blocks).agent.notes


def test_layer_normalisation_comes_before_the_activation() -> None:
    kinds = [type(layer).__name__ for layer in _layers("norm=layer", "activation=relu")]
    assert kinds == ["Linear", "LayerNorm", "ReLU"]


def _layers(*words: str) -> Any:
    run = training(*SMALL, *(f"network.blocks.0.{word}" for word in words))
    return run.agent.policy.backbone.blocks[0].layers
