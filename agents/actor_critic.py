"""What the agents that learn a distribution over actions and a value of states have in common."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor

from ..envs.rollout import Rollout
from ..envs.tree import map_tree
from .agent import Agent, AgentConfig, Setup
from .losses import masked_variance, mean_weights
from .normalize import ReturnScale
from .optimizer import Metrics, Optimizer
from .policies import ActorCritic
from .schedules import Shape


class ActorCriticConfig(AgentConfig, frozen=True):
    """Settings of every actor-critic; names as in Stable-Baselines3."""

    learning_rate: float = Field(default=3e-4, gt=0)
    """Step of Adam."""
    learning_rate_schedule: Shape = "constant"
    """`linear` falls to 0 at the end of the run."""
    n_steps: int = Field(default=128, gt=0)
    """Steps of each environment between two updates."""
    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount per step."""
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """Weight of longer returns in the advantage: 0 one-step, 1 Monte Carlo."""
    ent_coef: float = Field(default=0.0, ge=0)
    """Weight of the entropy bonus."""
    vf_coef: float = Field(default=0.5, ge=0)
    """Weight of the value loss."""
    max_grad_norm: float | None = Field(default=0.5, gt=0)
    """Limit of the gradient's global norm."""
    adam_eps: float = Field(default=1e-5, gt=0)
    """Adam's epsilon."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled decay of weight matrices, per unit of learning rate."""
    normalize_observations: bool = False
    """Running mean and deviation of vector observations, kept in the policy."""
    normalize_rewards: bool = False
    """Divide rewards by the running deviation of the discounted return."""


class ActorCriticAgent(Agent[ActorCritic]):
    """The policy, its optimizer and the statistics; a subclass has the loss and `learn`.

    An asynchronous agent's policy leaves the log-probabilities of its actions in the extras, others
    their features (see `ActorCritic`) for a learner on the CPU: a GPU rounds otherwise.
    """

    optimizer: Optimizer

    def __init__(self, config: ActorCriticConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self.rollout_length = config.n_steps
        features = "features" if self.device.type == "cpu" else None
        self.policy = ActorCritic(
            setup.network,
            setup.observation_space,
            setup.action_space,
            config.normalize_observations,
            "log_prob" if self.asynchronous else features,
        )
        self.policy.to(self.device).eval()
        self.has_memory = self.policy.initial_state(1) != ()
        self.return_scale = (
            ReturnScale(setup.num_envs, config.gamma) if config.normalize_rewards else None
        )

    def loss(self, policy: ActorCritic, batch: dict[str, Any]) -> tuple[Tensor, Metrics]:
        """The scalar to descend for a minibatch, and the trace of its terms [L, N]."""
        raise NotImplementedError

    def weigh(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Weighs the steps of a whole minibatch [L, N]: the valid ones alike, 1 together."""
        return batch | {"weight": mean_weights(batch["valid"])}

    def _build_optimizer(
        self, config: ActorCriticConfig, batches: int, obstacle: str | None = None
    ) -> Optimizer:
        """The optimizer of `loss`, with `batches` updates a rollout; see `_execution`."""
        if self.has_memory:
            obstacle = obstacle or "a network with memory"
        if self.policy.trains_apart:
            obstacle = f"{type(self).__name__} with dropout or batch normalisation"
        rounds = self.setup.total_steps / (config.n_steps * self.setup.num_envs)
        return Optimizer(
            self.policy,
            self.loss,
            learning_rate=config.learning_rate,
            max_grad_norm=config.max_grad_norm,
            eps=config.adam_eps,
            weight_decay=config.weight_decay,
            execution=self._execution(rounds * batches, obstacle),
            prepare=self.weigh,
            peers=self.setup.peers,
        )

    def _reward(self, rollout: Rollout) -> Tensor:
        """Rewards [T, B] as they are learned from; takes them into the statistics."""
        if self.return_scale is None:
            return rollout.reward
        return self.return_scale(rollout.reward, rollout.first, rollout.columns)

    def _finish(self, rollout: Rollout) -> None:
        """Counts the steps learned from and takes the observations into the statistics."""
        self.policy.eval()
        if self.policy.normalizer is not None:
            self.policy.normalizer.update(map_tree(lambda leaf: leaf[1:], rollout.obs))
        self.steps += rollout.steps

    def tensors(self) -> dict[str, Tensor]:
        """Weights of all that is trained, and their gradients."""
        return self.optimizer.tensors()

    def state_dict(self) -> dict[str, Any]:
        """See `Agent.state_dict`."""
        scale = self.return_scale
        return super().state_dict() | {
            "optimizer": self.optimizer.state_dict(),
            "return_scale": None if scale is None else scale.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Agent.load_state_dict`."""
        super().load_state_dict(state)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.return_scale is not None:
            self.return_scale.load_state_dict(state["return_scale"])


def explained_variance(error: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """1 - variance of `error` (target - value) / variance of `target`, [T, B] over `mask`."""
    return 1 - masked_variance(error, mask) / masked_variance(target, mask).clamp(min=1e-8)
