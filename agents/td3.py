"""TD3: a deterministic policy that climbs the value of its actions, with three remedies to DDPG.

"Addressing function approximation error in actor-critic methods" by Fujimoto et al. (2018): the
smaller of two critics makes the targets, targets are smoothed by noise on the action, and the
policy learns less often than the critics. With one critic, no noise in targets and no delay
(`agent=ddpg`) it is "Continuous control with deep reinforcement learning" by Lillicrap et al.
(2016), with Gaussian noise to explore, as Fujimoto et al. have it, and not that of an
Ornstein-Uhlenbeck process.

Deviations: the errors of critics are halved, as SAC's are. n-step returns and priorities are
options. Memory: see `off_policy_actor_critic`.
"""

from __future__ import annotations

from gymnasium import spaces
from pydantic import Field
from torch import Tensor

from ..core.rollout import Rollout
from ..core.tree import Tree
from .actor_critic_batch import Batch
from .agent import Metrics
from .learning.schedules import Shape, scheduled
from .learning.target import TargetNetwork
from .learning.terms import Terms
from .off_policy_actor_critic import OffPolicyActorCritic
from .off_policy_config import ActorCriticConfig
from .policies.deterministic import Deterministic
from .setup import Setup


class TD3(OffPolicyActorCritic[Deterministic]):
    """Twin delayed deep deterministic policy gradient on bounded Box actions."""

    why_these_actions = "its policy follows the gradient of the value by the action"

    class Config(ActorCriticConfig, frozen=True):
        """TD3's settings; names as in Stable-Baselines3 where it has them."""

        name: str = "td3"
        """This file."""
        tau: float = Field(default=0.005, gt=0, le=1)
        """Share of the newest weights that target networks take each time they follow."""
        policy_delay: int = Field(default=2, gt=0)
        """Updates of the critics for each of the policy and of the target networks."""
        action_noise_std: float = Field(default=0.1, ge=0)
        """Deviation of the noise that explores; an action reaches from -1 to 1. Until
        `learning_starts` actions are uniform."""
        action_noise_std_schedule: Shape = "constant"
        """How this deviation changes over the run."""
        target_policy_noise: float = Field(default=0.2, ge=0)
        """Deviation of the noise on the actions of targets."""
        target_noise_clip: float = Field(default=0.5, ge=0)
        """Its limit."""

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config = config
        policy, twin = (self._network() for _ in range(2))
        self.makers["actor_optimizer"] = self._network
        self.build_parts(config, policy)
        twin.normalizer = policy.normalizer  # both see the same inputs
        twin.to(self.device)
        self.policy_target = TargetNetwork(twin, self.actor_optimizer, config.tau)
        self.parts["policy_target"] = self.policy_target
        self.next_policy = self.policy_target.network
        self.execute(self.updates_per_step * setup.total_steps)
        self.explore()

    def _network(self) -> Deterministic:
        setup, space = self.setup, self.setup.action_space
        assert isinstance(space, spaces.Box)
        options = self.config.normalize_observations, self.config.noise_repeat
        return Deterministic(setup.network, setup.observation_space, space, *options)

    def learn(self, rollout: Rollout[Tensor]) -> Metrics:
        """See `OffPolicyAgent.learn`; sets the noise of the next rollout."""
        metrics = super().learn(rollout)
        self.explore()
        return metrics

    def explore(self) -> None:
        """Sets the noise of acting: uniform actions until `learning_starts`, then Gaussian."""
        cfg = self.config
        noise_std = scheduled(cfg.action_noise_std, cfg.action_noise_std_schedule, self.progress)
        self.policy.noise_std.fill_(noise_std)
        self.policy.share.fill_(float(self.steps >= cfg.learning_starts))

    def update(self, batch: Batch) -> Terms:
        """See `Agent.update`: steps of critics and, if due, of the policy; the targets follow."""
        terms = self.critic_optimizer.step(self.critic_loss, batch)
        actor = self.policy_step(batch)
        if actor:
            self.follow()
            self.policy_target.follow()
        return actor | terms | {"valid": batch["valid"]}

    def next_action(self, batch: Batch, obs: Tree, first: Tensor) -> tuple[Tensor, Tree]:
        """See `OffPolicyActorCritic.next_action`: the target policy's action, smoothed."""
        limit = self.config.target_noise_clip
        action, _ = self.next_policy(obs, batch["memory"]["next_actor"], first)
        noise = (self.config.target_policy_noise * batch["noise"][1:]).clamp(-limit, limit)
        return (action + noise).clamp(-1.0, 1.0), ()

    def bootstrap(self, value: Tensor, about: Tree) -> Tensor:
        """See `OffPolicyActorCritic.bootstrap`: the smallest value."""
        return value.amin(0)

    def actor_loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """Minus the value of the policy's actions, by the first critic (algorithm 1)."""
        obs, first = self.learned(batch)
        action, _ = self.policy(obs, batch["memory"]["actor"], first)
        gain = self.valued(batch, action, count=1)[0]
        return -(batch["weight"] * gain).sum(), {"gain": gain.detach()}
