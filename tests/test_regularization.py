"""Regularisation as settings of every agent: what each changes, and that 0 changes nothing."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import pytest
import torch
from torch import nn

from neuraxis.agents import trpo, updates
from neuraxis.agents.learning.target import TargetNetwork
from neuraxis.agents.learning.trust_region import TrustRegion
from neuraxis.agents.off_policy import OffPolicyAgent
from neuraxis.networks.layers import decayed_parameters
from neuraxis.networks.recurrent import Recurrent

from .helpers import (
    LEARNERS,
    VARIANTS,
    Training,
    action_words,
    fitting,
    kind_of,
    quick,
    training,
)

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


class Watch:
    """Looks at each call of an agent's layers that train mode changes.

    Attributes:
        seen: Where they were called: in a `step`, by a `target` network, to `unroll` a rollout by
            the policy that acted, by `rnd`, or `elsewhere`; each with the modes.
    """

    kinds = nn.Dropout, nn.modules.batchnorm._BatchNorm, Recurrent  # the last has dropout inside

    def __init__(self, agent: Any) -> None:
        self.stepping: list[Any] = []
        self.unrolls = False
        self.seen: set[tuple[str, bool]] = set()
        rnd = getattr(agent, "rnd", None)
        parts = {**agent.parts, **({} if rnd is None else rnd.parts)}
        modules = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
        self.places: dict[nn.Module, str] = {
            layer: "target" if isinstance(module, TargetNetwork) else place
            for name, module in modules.items()
            for layer in module.modules()
            for place in ("rnd" if rnd is not None and name in rnd.parts else "elsewhere",)
            if isinstance(layer, self.kinds)
        }
        for layer in self.places:
            layer.register_forward_pre_hook(lambda layer, _: self.look(layer))  # copied as it is
        vectors = [*agent.vectors(), *([] if rnd is None else [rnd.optimizer])]
        for vector in vectors:
            vector.step = functools.partial(self.step, vector, vector.step)
        if hasattr(agent.policy, "unroll"):
            agent.policy.unroll = functools.partial(self.unroll, agent.policy.unroll)

    def look(self, layer: nn.Module) -> None:
        if layer not in self.places:  # PPO's copy of the policy that acted
            assert self.stepping
            return
        trained = {module for vector in self.stepping for module in vector.trained.modules()}
        assert layer.training == (layer in trained)
        searches = any(isinstance(vector, TrustRegion) for vector in self.stepping)
        assert torch.is_grad_enabled() or searches or not layer.training
        place = "unroll" if self.unrolls else self.places[layer]
        self.seen.add((place, layer.training))

    def step(self, vector: Any, step: Any, *args: Any) -> Any:
        self.stepping.append(vector)
        try:
            return step(*args)
        finally:
            self.stepping.pop()

    def unroll(self, unroll: Any, *args: Any) -> Any:
        self.unrolls = True
        try:
            return unroll(*args)
        finally:
            self.unrolls = False


REMEMBERING = "ppo", "impala", "td3", "r2d2"
"""Learners that are tested with a memory here."""


@pytest.mark.parametrize("agent", LEARNERS)
def test_only_what_a_loss_trains_is_in_train_mode(agent: str) -> None:
    """Acting, targets, values, old log-probabilities and what a loss only reads have no masks.

    Nor has what needs no gradient within a step. The exceptions are PPO's copy of the policy that
    acted (`test_ppo::dropout_draws_the_same_masks_twice_and_others_later`), TRPO's looks
    (`test_trpo::all_looks_of_a_step_are_under_the_same_masks`), and the one pass of CrossQ's
    critics (`test_crossq::updates_are_those_of_sb3_contrib`).
    """
    words = ["network.blocks.0.dropout=0.3", "network.blocks.0.norm=batch"]
    if agent in REMEMBERING:
        words += fitting(agent, "agent.sequence_length=4", "agent.train_freq=4", "network=lstm")
        words += ["network.blocks.1.layers=2", "network.blocks.1.dropout=0.3"]
    curious = [] if agent in ("bc", "pretrain") else fitting(agent, "agent.rnd.coef=0.5")
    run = build(agent, *words, *curious)
    watch = Watch(run.agent)
    for _ in range(4):
        run.step()
    modes = {mode for where, mode in watch.seen if where == "elsewhere"}
    assert modes == {False, True}, "both are looked at"
    targets = isinstance(run.agent, OffPolicyAgent) and agent != "crossq"
    expected = {"target": {False}} if targets else {}
    if agent in ("appo", "impala", "ppo", "trpo"):
        expected["unroll"] = {False}
    if curious:
        expected["rnd"] = {False, True}
    for place in ("target", "unroll", "rnd"):
        assert {mode for where, mode in watch.seen if where == place} == expected.get(place, set())


def matrices(run: Training) -> list[torch.Tensor]:
    """All weight matrices of an agent that are trained; those of targets are not."""
    modules = [part for part in run.agent.parts.values() if isinstance(part, nn.Module)]
    found = [p for module in modules for p in decayed_parameters(module) if p.requires_grad]
    return [parameter.detach() for parameter in found]
