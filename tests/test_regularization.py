"""Regularisation as settings of every agent: what each changes, and that 0 changes nothing."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import torch
from torch import nn

from neuraxis.agents import trpo, updates
from neuraxis.networks.layers import decayed_parameters

from .helpers import LEARNERS, VARIANTS, Training, action_words, kind_of, quick, training

SMALL = ("num_envs=2", "env.time_limit=20", "network.blocks.0.sizes=[8]")


def build(agent: str, *words: str) -> Training:
    own = f"agent={agent}", *VARIANTS.get(agent, ()), *quick(agent)
    return training(*own, *action_words(kind_of(agent)), *SMALL, *words)


def trained(agent: str, *words: str, rollouts: int = 4) -> tuple[Training, dict[str, float]]:
    """A training of some rollouts, and the newest value of each metric."""
    run, metrics = build(agent, *words), {}
    for _ in range(rollouts):
        metrics |= run.step()
    return run, metrics


def digest(agent: Any) -> str:
    """Of all tensors of an agent's modules."""
    modules = [part for part in agent.parts.values() if isinstance(part, nn.Module)]
    tensors = [t for module in modules for t in module.state_dict().values()]
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors)).hexdigest()


@pytest.mark.parametrize("agent", LEARNERS)
def test_coefficients_of_0_are_none_to_the_last_bit(
    agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None: optimizers that were told of no weight that could decay."""
    zero, metrics = trained(agent)
    for module in (updates, trpo):
        monkeypatch.setattr(module, "decayed_parameters", lambda trained: [])
    none, _ = trained(agent, "agent.l1=0.1", "agent.l2=0.1", "agent.weight_decay=0.1")
    assert digest(none.agent) == digest(zero.agent)
    assert not {"loss/l1", "loss/l2", "loss/weight_decay"} & metrics.keys()


@pytest.mark.parametrize("agent", LEARNERS)
def test_penalties_shrink_all_weight_matrices_that_are_trained(agent: str) -> None:
    """Their sums over all of them, each once, are what is logged."""
    run, metrics = trained(agent, "agent.l1=0.3", "agent.l2=0.2", "agent.weight_decay=0.1")
    weights = matrices(run)
    sizes = [weight.abs().sum() for weight in weights]
    assert metrics["loss/l1"] == pytest.approx(float(sum(sizes)), rel=1e-4)
    squares = sum(weight.square().sum() for weight in weights)
    assert metrics["loss/l2"] == pytest.approx(0.5 * float(squares), rel=1e-4)
    decayed = [weight for o in run.agent.optimizers.values() for weight in o.decayed]
    assert len(decayed) == len(weights) or agent == "trpo"  # whose actor has no optimizer
    squares = sum(weight.detach().square().sum() for weight in decayed)
    assert metrics["loss/weight_decay"] == pytest.approx(0.5 * float(squares), rel=1e-4)
    plain = matrices(trained(agent)[0])
    assert all(size < other.abs().sum() for size, other in zip(sizes, plain, strict=True))


@pytest.mark.parametrize("agent", LEARNERS)
def test_only_what_a_loss_trains_is_in_train_mode(agent: str) -> None:
    """Acting, targets, values, old log-probabilities and what a loss only reads have no masks.

    The one exception is PPO's copy of the policy that acted, see
    `test_ppo::dropout_draws_the_same_masks_twice_and_others_later`.
    """
    run = build(agent, "network.blocks.0.dropout=0.3")
    training_now: list[Any] = []
    seen = {True: 0, False: 0}
    modules = [part for part in run.agent.parts.values() if isinstance(part, nn.Module)]
    layers = {m for module in modules for m in module.modules() if isinstance(m, nn.Dropout)}

    def look(layer: nn.Module, args: Any) -> None:
        if layer not in layers:
            return
        trained = {module for vector in training_now for module in vector.trained.modules()}
        assert layer.training == (layer in trained)
        seen[layer.training] += 1

    def noted(vector: Any) -> None:
        step = vector.step

        def inner(*args: Any) -> Any:
            training_now.append(vector)
            try:
                return step(*args)
            finally:
                training_now.pop()

        vector.step = inner

    for layer in layers:
        layer.register_forward_pre_hook(look)
    for vector in run.agent.vectors():
        noted(vector)
    for _ in range(4):
        run.step()
    assert seen[True]
    assert seen[False] or agent == "bc"  # which has neither targets nor old probabilities


def matrices(run: Training) -> list[torch.Tensor]:
    """All weight matrices of an agent that are trained; those of targets are not."""
    modules = [part for part in run.agent.parts.values() if isinstance(part, nn.Module)]
    found = [p for module in modules for p in decayed_parameters(module) if p.requires_grad]
    return [parameter.detach() for parameter in found]
