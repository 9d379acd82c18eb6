"""Policies under action masks: what they choose, and what they learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from stable_baselines3.common.logger import Logger
from torch import Tensor, nn

from neuraxis.agents import agent_names
from neuraxis.agents.policies.joint_actions import JointActions
from neuraxis.core.action_mask import choices
from neuraxis.core.tree import map_tree
from neuraxis.networks.heads.by_space import action_head
from neuraxis.training import load, train

from .helpers import REWARDED, Training, claimed, quick, sampled, training
from .test_learning import identity, learned

KINDS = {
    "discrete": spaces.Discrete(5),
    "multidiscrete": spaces.MultiDiscrete([5, 4, 4, 4]),
    "multibinary": spaces.MultiBinary(5),
}
"""The actions of `neuraxis/Masked-v0`."""


def masked(agent: str, kind: str, *words: str) -> Training:
    env = (
        "env=neuraxis/Masked-v0",
        "env.kwargs.strict=true",
        "env.action_mask=info",
        f"env.kwargs.action_space={kind}",
    )
    return training(f"agent={agent}", *env, "num_envs=2", *words)


def random_masks(space: spaces.Space[Any], count: int) -> Tensor:
    """Random masks [count, n] that allow something in each part."""
    parts = []
    for size in choices(space):
        part = torch.rand(count, size) < 0.4
        part[torch.arange(count), torch.randint(size, (count,))] = True
        parts.append(part)
    return torch.cat(parts, -1)


def allowed(space: spaces.Space[Any], action: Tensor, mask: Tensor) -> Tensor:
    """Whether the mask allows each action, [count] bool."""
    parts = torch.split(mask, choices(space), -1)
    taken = action.long().reshape(len(action), -1).unbind(-1)
    pairs = zip(parts, taken, strict=True)
    return torch.stack([part.gather(-1, one[:, None])[:, 0] for part, one in pairs]).all(0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_forbidden_choice_has_neither_probability_nor_gradient(kind: str) -> None:
    space = KINDS[kind]
    head = action_head(space, 6, gain=3.0)
    mask = random_masks(space, 10_000)
    y = torch.randn(10_000, 6, requires_grad=True)
    params = head(y, mask)
    noise = head.noise(torch.rand(10_000, head.noise_size))
    for action in (head.sample(params, noise), head.mode(params)):
        assert allowed(space, action, mask).all()
        assert head.log_prob(params, action).min() > -100
    other = head(torch.randn(10_000, 6), mask)
    for value in (head.entropy(params), head.kl(params, other)):
        assert torch.isfinite(value).all() and value.min() > -1e-5
    (head.entropy(params) + head.log_prob(params, action) + head.kl(params, other)).sum().backward()
    assert y.grad is not None and torch.isfinite(y.grad).all()
    assert head.entropy(head(y[:1], torch.ones_like(mask[:1]))) > 0
    if kind == "discrete":
        only = mask[:1] & (mask.cumsum(-1) == 1)[:1]
        assert head.entropy(head(y[:1], only)) == 0


def test_the_logits_of_forbidden_choices_have_no_gradient() -> None:
    """Exactly none: they are not rows of weights that a step would move."""
    head = action_head(KINDS["discrete"], 6, gain=1.0)
    mask = torch.tensor([True, False, True, True, False]).expand(20, 5)
    params = head(torch.randn(20, 6), mask)
    (head.entropy(params) + head.log_prob(params, head.mode(params))).sum().backward()
    gradient = head.linear.weight.grad
    assert gradient is not None
    assert (gradient[[1, 4]] == 0).all() and (gradient[[0, 2, 3]] != 0).any(-1).all()


class Spaces(gymnasium.Env[Any, Any]):
    """Only its spaces are asked for."""

    def __init__(self, action_space: spaces.Space[Any]) -> None:
        self.action_space = action_space
        self.observation_space = spaces.Discrete(2)


@pytest.mark.parametrize("kind", KINDS)
def test_ppo_is_maskable_ppo(kind: str) -> None:
    """Log-probabilities, entropy, loss and gradient are sb3-contrib's, of one batch and weights."""
    torch.manual_seed(0)
    space, count = KINDS[kind], 64
    run = masked("ppo", kind, "agent.ent_coef=0.03", "agent.normalize_advantage=false")
    policy = run.agent.policy
    mine, others = torch.arange(policy.head.linear.out_features), slice(None)
    if kind == "multidiscrete":  # smaller parts have outputs without meaning
        mine = mine[(~policy.head.missing).flatten()]
    if kind == "multibinary":  # theirs has a logit for 0 as well; let it be 0
        others = slice(1, None, 2)
    model = MaskablePPO(
        *("MlpPolicy", Spaces(space)),
        **{"n_steps": count, "batch_size": count, "n_epochs": 1, "ent_coef": 0.03},
        **{"normalize_advantage": False, "max_grad_norm": 1e9, "device": "cpu"},
    )
    ours = linears(policy.actor, policy.critic, policy.head, policy.value)
    extractor = model.policy.mlp_extractor
    theirs = linears(
        *(extractor.policy_net, extractor.value_net),
        *(model.policy.action_net, model.policy.value_net),
    )
    with torch.no_grad():
        policy.head.linear.weight.normal_()
        for one, other in zip(ours, theirs, strict=True):
            if one is not policy.head.linear:
                other.load_state_dict(one.state_dict())
        last: Any = model.policy.action_net
        last.weight.zero_()[others].copy_(policy.head.linear.weight[mine])
        last.bias.zero_()[others].copy_(policy.head.linear.bias[mine])
    obs, mask = torch.randint(2, (count,)), random_masks(space, count)
    tree = {"observation": obs[None], "action_mask": mask[None].to(torch.int8)}
    first = torch.zeros(1, count, dtype=torch.bool)
    with torch.no_grad():
        params, value, _ = policy(tree, (), first)
        action = policy.head.sample(
            params, policy.head.noise(torch.rand(1, count, policy.noise_size))
        )
    batch = {
        "obs": tree,
        "first": first,
        "state": (),
        "action": action,
        "log_prob": policy.head.log_prob(params, action) + 0.3 * torch.randn(1, count),
        "advantage": torch.randn(1, count),
        "value": value,
        "target": value + torch.randn(1, count),
        "valid": torch.ones(1, count),
    }
    batch = run.agent.weigh(batch) | run.agent.coefficients()
    loss, terms = run.agent.loss(batch)
    loss.backward()
    _, log_prob, entropy = model.policy.evaluate_actions(obs, action[0], mask.float())
    assert entropy is not None
    assert torch.allclose(log_prob, (terms["log_ratio"] + batch["log_prob"])[0], atol=1e-6)
    assert torch.allclose(entropy, terms["entropy"][0], atol=1e-6)
    assert loss.item() == pytest.approx(their_loss(model, batch, obs, mask), abs=1e-6)
    for one, other in zip(ours, theirs, strict=True):
        rows, to = (mine, others) if one is policy.head.linear else (slice(None), slice(None))
        assert torch.allclose(one.weight.grad[rows], other.weight.grad[to], atol=1e-6)
        assert torch.allclose(one.bias.grad[rows], other.bias.grad[to], atol=1e-6)


def linears(*modules: nn.Module) -> list[Any]:
    return [m for module in modules for m in module.modules() if isinstance(m, nn.Linear)]


def their_loss(model: MaskablePPO, batch: dict[str, Any], obs: Tensor, mask: Tensor) -> float:
    """Has sb3-contrib train on the batch: the gradients stay in its weights."""
    logger = Logger(None, [])
    model.set_logger(logger)
    buffer: Any = model.rollout_buffer
    columns = {"observations": obs, "actions": batch["action"][0].view(len(obs), -1)}
    columns |= {"values": batch["value"][0], "log_probs": batch["log_prob"][0]}
    columns |= {"advantages": batch["advantage"][0], "returns": batch["target"][0]}
    columns |= {"action_masks": mask}
    for name, column in columns.items():
        array = getattr(buffer, name)
        array[:] = column.numpy().reshape(array.shape)
    buffer.full = True
    model.train()
    return logger.name_to_value["train/loss"]


CLAIMED = [(agent, kind) for agent in agent_names() for kind in KINDS if kind in claimed(agent)]


@pytest.mark.parametrize(("agent", "kind"), CLAIMED)
def test_a_forbidden_action_is_never_taken(agent: str, kind: str) -> None:
    """Of 10,000 masks, exploring and greedy; nor while it trains, where it would raise."""
    run = masked(agent, kind, *quick(agent))
    for _ in range(6):
        metrics = run.step()
        assert all(np.isfinite(value) for value in metrics.values())
    run.score(4)
    policy, count = run.agent.policy, 10_000
    mask = random_masks(KINDS[kind], count)
    obs = {"observation": torch.randint(2, (count,)), "action_mask": mask.to(torch.int8)}
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(5.0)
        for greedy in (False, True):
            first = torch.zeros(count, dtype=torch.bool)
            action, *_ = policy.act(obs, policy.initial_state(count), first, greedy=greedy)
            assert allowed(KINDS[kind], action, mask).all()


@pytest.mark.parametrize(("agent", "kind"), [pair for pair in CLAIMED if pair[0] in REWARDED])
def test_the_best_of_what_is_allowed_is_learned(agent: str, kind: str) -> None:
    """The greatest allowed choice in each part; chance is about half of the best return, 10."""
    env = (
        "env=neuraxis/Masked-v0",
        "env.kwargs.strict=true",
        "env.action_mask=info",
        f"env.kwargs.action_space={kind}",
    )
    size = {"discrete": 5, "multidiscrete": 3, "multibinary": 2}[kind]
    assert learned(training(*identity(agent), *env, f"env.kwargs.size={size}"), 9.9)


@pytest.mark.parametrize("double", ["true", "false"])
@pytest.mark.parametrize("distribution", ["none", "categorical", "quantile", "implicit"])
def test_what_is_forbidden_has_no_say_in_targets(distribution: str, double: str) -> None:
    """The greatest choice is always forbidden, and here both networks value it most."""
    kind = (f"agent.distribution={distribution}", f"agent.double={double}")
    run = masked("dqn", "discrete", *quick("dqn"), *kind, "agent.gamma=0.9")
    categorical = distribution == "categorical"  # of the returns -10 to 10
    for network in (run.agent.policy, run.agent.target.network):
        with torch.no_grad():
            bias = network.advantage.layers[-1].bias.view(5, -1)[-1]
            bias.copy_(torch.linspace(-100, 100, len(bias)) if categorical else 1000.0)
    run.agent.replay.add(run.rollout())
    target = run.agent.batch_of(sampled(run.agent.replay, 32))["target"]
    if categorical:
        target = target @ run.agent.policy.returns.support
    assert target.abs().max() < 8


def test_what_is_explored_is_any_allowed_action_of_its_column() -> None:
    """The same noise gives the same action; each allowed one is as likely as any other."""
    policy = masked("dqn", "multidiscrete", "env.kwargs.size=3").agent.policy
    policy.epsilon.fill_(0.5)
    count = 30_000
    mask = torch.tensor([True, False, True, True, True]).expand(count, -1)
    obs = {"observation": torch.ones(count, dtype=torch.int64), "action_mask": mask.to(torch.int8)}
    first = torch.zeros(count, dtype=torch.bool)
    noise = policy.noise(torch.rand(count, policy.noise_size))
    action, *_ = policy.act(obs, (), first, noise)
    assert torch.equal(action, policy.act(obs, (), first, noise)[0])
    assert torch.equal(
        action[7:8], policy.act(map_tree(lambda x: x[7:8], obs), (), first[:1], noise[7:8])[0]
    )
    greedy, *_ = policy.act(obs, (), first, greedy=True)
    share = policy.joint.index(action).bincount(minlength=6) / count
    best = int(policy.joint.index(greedy)[0])
    expected = torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0, 1.0]) / 8
    expected[best] += 0.5
    assert torch.allclose(share, expected, atol=0.012)  # four deviations


def test_the_mask_of_a_joint_action_is_that_of_all_its_parts() -> None:
    joint = JointActions(spaces.MultiDiscrete([2, 3]))
    mask = joint.mask(torch.tensor([True, False, True, False, True]))
    assert joint.action(mask.nonzero()[:, 0]).tolist() == [[0, 0], [0, 2]]
    bits = JointActions(spaces.MultiBinary(2)).mask(torch.tensor([True, False, True, True]))
    assert bits.tolist() == [True, True, False, False]
    assert JointActions(spaces.Discrete(2)).mask(torch.tensor([True, False])).tolist() == [
        True,
        False,
    ]


def test_a_policy_that_was_loaded_takes_the_mask_with_the_observation(tmp_path: Path) -> None:
    words = ("total_steps=64", "agent=dqn", *quick("dqn"), "wandb.mode=disabled", "num_envs=2")
    mask = (
        "env=neuraxis/Masked-v0",
        "env.kwargs.strict=true",
        "env.kwargs.in_observation=true",
        "env.action_mask=legal",
    )
    policy = load(train(*words, *mask, f"run_dir={tmp_path / 'run'}").dir)
    legal = random_masks(KINDS["discrete"], 50)
    obs = {"legal": legal.to(torch.int8), "seen": torch.zeros(50, dtype=torch.int64)}
    action, *_ = policy.act(obs, (), torch.zeros(50, dtype=torch.bool), greedy=True)
    assert allowed(KINDS["discrete"], action, legal).all()


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_a_run_without_a_mask_that_there_is_says_so(
    agent: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def said(*words: str) -> list[str]:
        caplog.clear()
        run = ("total_steps=64", "num_envs=1", f"agent={agent}", "agent.gamma=0.9", *quick(agent))
        train(
            *run,
            "wandb.mode=disabled",
            f"run_dir={tmp_path / str(len(list(tmp_path.iterdir())))}",
            *words,
        )
        return [text for text in caplog.messages if "action_mask" in text]

    assert said("env=CartPole-v1") == []
    assert said("env=Taxi-v4", "env.action_mask=info") == []
    (text,) = said("env=Taxi-v4")
    assert text.startswith("Taxi-v4 says in each step") and "env.action_mask=info" in text
