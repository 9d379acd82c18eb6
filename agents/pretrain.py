"""Pre-training of a backbone without rewards: it learns to predict or to reconstruct observations.

A decoder predicts observations from the backbone's features. With `objective=next_observation` it
reads the action as well and predicts the next observation, as the forward models of "Incentivizing
exploration in reinforcement learning with deep predictive models" by Stadie et al. (2015) and
"Data-efficient reinforcement learning with self-predictive representations" by Schwarzer et al.
(2021) do; with `objective=reconstruction` it is an autoencoder (Hinton & Salakhutdinov 2006), of
observations that `agent.augment.noise` may have changed (a denoising one, Vincent et al. 2008). The
loss is the mean squared error over all numbers of an observation, as a network without image block
reads them: normalised, bytes divided by their largest value, classes as one-hot vectors.

Another run then starts from its backbone (`init.from=RUN init.parts=[backbone.*]`). Its output
layers and its critic, unless that shares the backbone, are not trained: it plays at random.

Deviations: the prediction is of the observation itself, where Schwarzer et al. predict features of
a target network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from gymnasium import Space
from pydantic import Field
from torch import Tensor, nn

from ..core.rollout import Rollout
from ..core.tree import Tree, map_tree
from ..networks.heads.gaussian import GaussianConfig
from ..networks.layers import HIDDEN_GAIN, linear
from ..networks.observation import Encoder
from .agent import Metrics
from .learning.losses import masked_mean
from .learning.terms import Terms
from .setup import Setup
from .supervised import SupervisedAgent, SupervisedConfig

LOSSES = {"next_observation": "loss/next_observation", "reconstruction": "loss/reconstruction"}


class Pretrain(SupervisedAgent):
    """Pre-training of the backbone, for every kind of observation and action."""

    learns_policy: ClassVar[bool] = False
    unused: ClassVar[Mapping[str, str]] = {
        **SupervisedAgent.unused,
        **dict.fromkeys(
            (
                "ent_coef",
                "ent_coef_schedule",
                *(f"gaussian.{x}" for x in GaussianConfig.model_fields),
            ),
            "trains no policy",
        ),
        "augment.shift": "predicts what was seen, and not what was shifted",
    }

    class Config(SupervisedConfig, frozen=True):
        """Settings of pre-training."""

        name: str = "pretrain"
        """This file."""
        dataset: str | None = Field(default=None, min_length=1)
        """Folder of the episodes that `neuraxis record` wrote, or minari:ID; it must be given.
        Steps count those that were read."""
        objective: Literal["next_observation", "reconstruction"] = "next_observation"
        """What the decoder predicts from the features: the next observation, or the present one."""
        decoder_size: int = Field(default=256, gt=0)
        """Units of the decoder's hidden layer."""

    def __init__(self, config: Config, setup: Setup) -> None:
        self.config = config
        super().__init__(config, setup)
        self.notes = (
            "agent=pretrain learns no policy: the episodes at the end are played at random",
        )
        self.execute_updates()

    def trained(self) -> nn.Module:
        """See `OnPolicyAgent.trained`: the actor's backbone, and the decoder."""
        setup, policy = self.setup, self.policy
        self.target = Encoder(policy.input_space).to(self.device)  # without weights
        action_space = setup.action_space if self.config.objective == "next_observation" else None
        sizes = policy.actor.out_size, self.config.decoder_size, self.target.out_size
        self.decoder = self.parts["decoder"] = Decoder(*sizes, action_space).to(self.device)
        policy.requires_grad_(False)
        policy.actor.requires_grad_(True)
        return nn.ModuleDict({"actor": policy.actor, "decoder": self.decoder})

    @torch.no_grad()
    def steps_of(self, rollout: Rollout[Tensor]) -> dict[str, Tree]:
        """See `SupervisedAgent.steps_of`: also the decoder's `target` [T, B, D]."""
        rows = slice(1, None) if self.config.objective == "next_observation" else slice(None, -1)
        obs = map_tree(lambda leaf: leaf[rows], rollout.obs)
        target = self.target(self.policy.inputs(obs), rollout.first[rows])
        return {**super().steps_of(rollout), "target": target}

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, Terms]:
        """The mean squared error of the decoder."""
        features = self.policy.features(batch["obs"], batch["state"], batch["first"])
        said = self.decoder(features, batch["action"], batch["first"])
        error = (said - batch["target"]).square().mean(-1)
        terms = {"error": error.detach(), "valid": batch["valid"]}
        return (error * batch["weight"]).sum(), terms

    def metrics(self, terms: Terms, coefficients: Terms) -> Metrics:
        """See `FreshAgent.metrics`."""
        return {LOSSES[self.config.objective]: masked_mean(terms["error"], terms["valid"])}


class Decoder(nn.Module):
    """Predicts observations from features and, if an action space is given, an action."""

    def __init__(
        self, features: int, hidden: int, out_size: int, action_space: Space[Any] | None
    ) -> None:
        super().__init__()
        self.action = None if action_space is None else Encoder(action_space)
        inputs = features + (0 if self.action is None else self.action.out_size)
        self.hidden = linear(inputs, hidden, gain=HIDDEN_GAIN)
        self.out = linear(hidden, out_size, gain=1.0)

    def forward(self, features: Tensor, action: Tensor, first: Tensor) -> Tensor:
        """Maps features [L, N, F], actions [L, N, *act] and first [L, N] to [L, N, D]."""
        if self.action is not None:
            features = torch.cat((features, self.action(action, first)), -1)
        return self.out(self.hidden(features).relu())
