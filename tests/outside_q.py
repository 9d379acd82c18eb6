"""Stable-Baselines3's continuous Q-learning beside ours: the same weights, batches and noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stable_baselines3.common.logger import configure
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor, nn

from .helpers import Training


def parameters(*modules: nn.Module) -> list[Tensor]:
    """Weights and biases of the linear layers of modules, in their order."""
    layers = [m for module in modules for m in module.modules() if isinstance(m, nn.Linear)]
    return [p for layer in layers for p in (layer.weight.detach(), layer.bias.detach())]


def of_actor(policy: Any) -> list[Tensor]:
    """Those of our policy or of their actor; mean and deviation are two layers there."""
    if not hasattr(policy, "backbone"):
        names = [name for name in ("latent_pi", "mu", "log_std") if hasattr(policy, name)]
        return parameters(*(getattr(policy, name) for name in names))
    *body, weight, bias = parameters(policy.backbone, policy.head)
    size = policy.noise_size
    return [
        *body,
        *(p for k in range(0, len(bias), size) for p in (weight[k:][:size], bias[k:][:size])),
    ]


class Beside:
    """One of their models, which is given our weights.

    Args:
        run: Ours, with ReLU layers and without memory.
        kind: Their class.
        settings: Theirs.
        network: Settings of their networks.
    """

    def __init__(self, run: Training, kind: Any, settings: dict[str, Any], **network: Any) -> None:
        block: Any = run.cfg.network.blocks[0]
        self.agent = run.agent
        arch: Any = {"net_arch": list(block.sizes), "activation_fn": nn.ReLU} | network
        self.model = kind("MlpPolicy", run.cfg.env.id, policy_kwargs=arch, device="cpu", **settings)
        self.model.set_logger(configure(None, []))
        for ours, theirs in self.pairs():
            theirs.copy_(ours)

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Our parameters and theirs, of actors and critics and their targets."""
        agent, model = self.agent, self.model
        actors = [(agent.policy, model.actor)]
        if hasattr(model, "actor_target"):
            actors.append((agent.policy_target.network, model.actor_target))
        for mine, other in actors:
            yield from zip(of_actor(mine), of_actor(other), strict=True)
        obs = model.observation_space.shape[0]
        critics = (agent.critics, model.critic), (agent.target.network, model.critic_target)
        for mine, other in critics:
            ours = zip(mine.backbones, mine.heads, strict=True)
            for one, net in zip(ours, other.q_networks, strict=True):
                first, *rest = parameters(*one)  # which reads the action before the observation
                yield from zip([first.roll(obs, 1), *rest], parameters(net), strict=True)

    def batch(self, size: int) -> tuple[dict[str, Any], Tensor]:
        """A minibatch of ours, and the noise of its valid windows; theirs learns from these."""
        agent = self.agent
        batch = agent.weigh(agent.batch_of(agent.replay.gather(*agent.replay.draw(size))))
        keep = batch["valid"][0].bool()
        rows = batch["obs"][0], batch["action"][0], batch["obs"][1]
        columns = 1 - batch["discount"][0], batch["reward"][0]
        samples = ReplayBufferSamples(
            *(row[keep] for row in rows), *(column[keep, None] for column in columns)
        )
        self.model.replay_buffer.sample = lambda *_, **__: samples
        return batch, batch["noise"][:, keep]
