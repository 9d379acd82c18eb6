"""SAC without a target network: CrossQ, whose critics value both states of a step in one pass."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from sb3_contrib import CrossQ
from sb3_contrib.common.torch_layers import BatchRenorm1d
from stable_baselines3.common.logger import configure
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor, nn

from neuraxis.configs import load
from neuraxis.networks.batch_norm import BatchRenorm
from neuraxis.networks.mlp import MLP

from .helpers import Training, action_words, sampled, training
from .test_learning import identity, learned

SMALL = ("agent=crossq", "network.blocks.0.sizes=[16,16]", "network.critic.0.sizes=[24,24]")
PENDULUM = ("env=Pendulum-v1", "env.time_limit=5", "num_envs=4", "agent.learning_starts=100_000")


def filled(*words: str) -> Training:
    """CrossQ with some episodes in its replay, that has not learned."""
    run = training(*SMALL, *PENDULUM, "total_steps=200_000", *words)
    for _ in range(8):
        run.step()
    return run


def numbers(*modules: nn.Module) -> list[Tensor]:
    """Of linear layers and batch renormalisation: weights and biases, and running statistics."""
    found = []
    for layer in (layer for module in modules for layer in module.modules()):
        if isinstance(layer, nn.Linear):
            found += [layer.weight.detach(), layer.bias.detach()]
        elif isinstance(layer, BatchRenorm):
            statistics = layer.running_mean, layer.running_var
            found += [layer.weight.detach(), layer.bias.detach(), *statistics]
        elif isinstance(layer, BatchRenorm1d):
            found += [layer.scale.detach(), layer.bias.detach(), layer.ra_mean, layer.ra_var]
    return found


def pairs(agent: Any, model: CrossQ) -> Iterator[tuple[Tensor, Tensor]]:
    """Our numbers and theirs. Their critics read the observation before the action."""
    *body, weight, bias = numbers(agent.policy.backbone, agent.policy.head)
    heads = [weight[:1], bias[:1], weight[1:], bias[1:]]
    actor: Any = model.actor
    theirs = numbers(actor.latent_pi, actor.mu, actor.log_std)
    yield from zip([*body, *heads], theirs, strict=True)
    critics = zip(agent.critics.backbones, agent.critics.heads, strict=True)
    for parts, net in zip(critics, model.critic.q_networks, strict=True):
        ours = numbers(*parts)
        ours[:5] = [each.roll(3, -1) for each in ours[:5]]  # the first norm and the first layer
        yield from zip(ours, numbers(net), strict=True)


def test_updates_are_those_of_sb3_contrib(monkeypatch: Any) -> None:
    """Nine in a row, of which three teach the policy; theirs gets the valid steps alone."""
    slow = ("agent.optimizer_eps=1e-2", "agent.learning_rate=1e-3", "agent.gamma=0.9")
    agent = filled(*slow).agent
    arch: Any = {"net_arch": {"pi": [16, 16], "qf": [24, 24]}}
    model = CrossQ(
        "MlpPolicy", "Pendulum-v1", 1e-3, gamma=0.9, policy_kwargs=arch, device="cpu"
    )  # fmt: skip
    model.set_logger(configure(None, []))
    for ours, theirs in pairs(agent, model):
        theirs.copy_(ours)
    learned = [model.actor.optimizer, model.critic.optimizer, model.ent_coef_optimizer]
    for optimizer in learned:
        assert optimizer is not None
        optimizer.param_groups[0].update(eps=1e-2, betas=(0.5, 0.999))
    steps = []
    for _ in range(9):
        batch = agent.weigh(agent.batch_of(sampled(agent.replay, 32)))
        keep = batch["valid"][0].bool()
        assert not keep.all()
        rows = batch["obs"][0], batch["action"][0], batch["obs"][1]
        columns = 1 - batch["discount"][0], batch["reward"][0]
        samples = ReplayBufferSamples(
            *(row[keep] for row in rows), *(column[keep, None] for column in columns)
        )
        monkeypatch.setattr(model.replay_buffer, "sample", lambda *_, given=samples, **__: given)
        draws = iter((batch["noise"][1, keep], batch["noise"][0, keep]))
        monkeypatch.setattr(
            "torch.distributions.normal._standard_normal", lambda *_, draws=draws, **__: next(draws)
        )
        before = agent.actor_optimizer.flat.clone()
        model.train(1, int(keep.sum()))
        agent.update(batch)
        steps.append(bool((agent.actor_optimizer.flat != before).any()))
        for ours, theirs in pairs(agent, model):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert steps == [False, False, True] * 3
    assert model.log_ent_coef is not None
    torch.testing.assert_close(agent.temperature.log, model.log_ent_coef[0])


@pytest.mark.parametrize("words", [(), ("agent.n_step=3",), ("agent.n_quantiles=5",)])
def test_resets_change_neither_statistics_nor_gradients(words: tuple[str, ...]) -> None:
    """What the rows of resets contain is of no account."""
    found = []
    for poison in (0.0, 100.0):
        agent = filled(*words).agent
        batch = agent.weigh(agent.batch_of(sampled(agent.replay, 32)))
        reset = ~batch["successor"][0]
        assert reset.any()
        batch["action"][0, reset] += poison
        batch["obs"][0, reset] += poison
        agent.critic_optimizer.step(agent.critic_loss, batch)
        buffers = [b for b in agent.critics.buffers() if b.is_floating_point()]
        found.append([agent.critic_optimizer.flat, *buffers])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_the_preset_brings_its_networks() -> None:
    cfg = load(["agent=crossq"])
    assert cfg.network.critic is not None
    actor, critic = cfg.network.blocks[0], cfg.network.critic[0]
    assert isinstance(actor, MLP.Config) and isinstance(critic, MLP.Config)
    assert (actor.sizes, critic.sizes) == ((256, 256), (1024, 1024))
    assert {actor.norm, critic.norm} == {"batch_renorm"} and actor.norm_inputs
    assert load(["agent=crossq", "network=lstm"]).network == load(["network=lstm"]).network
    assert load(["agent=tqc"]).network == load([]).network


def test_what_takes_the_place_of_the_target_is_missed() -> None:
    words = ("agent=crossq", "env=Pendulum-v1", "network.blocks.0.sizes=[8]")
    assert not training(*words, "network.critic.0.sizes=[8]").agent.notes
    (note,) = training(*words, "network=mlp").agent.notes
    assert "take network=crossq" in note


@pytest.mark.parametrize("kind", ["box", "discrete"])
def test_identity(kind: str) -> None:
    network = ("network.blocks.0.sizes=[32]", "network.critic.0.sizes=[64]")
    words = (*identity("sac", kind)[1:], "agent=crossq", "agent.policy_delay=1")
    assert learned(training(*words, *network, *action_words(kind)), 8.0)


@pytest.mark.parametrize("network", ["lstm", "transformer"])
def test_memory(network: str) -> None:
    """Critics with memory have one pass over the rows of a sequence and the row after it."""
    words = ("agent=crossq", f"network={network}", "network.blocks.0.norm=batch_renorm")
    run = training(*words, *PENDULUM[:3], "agent.learning_starts=20", "agent.burn_in=2",
        "agent.sequence_length=8", "agent.batch_size=4", "agent.gradient_steps=3")  # fmt: skip
    metrics: dict[str, float] = {}
    for _ in range(6):
        metrics |= run.step()
    assert {"loss/td", "loss/policy", "policy/entropy"} <= metrics.keys()
    assert all(abs(value) < 1e4 for value in metrics.values())
