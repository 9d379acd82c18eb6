"""The settings that every agent with a replay has."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .learning.schedules import Shape
from .plasticity import PlasticityConfig
from .replay.location import Location
from .setup import GradientConfig, Setup


class OffPolicyConfig(GradientConfig, frozen=True):
    """Settings of every agent with a replay; names as in Stable-Baselines3 where it has them."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """Step of the optimizer."""
    buffer_size: int = Field(default=100_000, gt=0)
    """Transitions that the replay holds, over all environments."""
    replay_device: Location = "auto"
    """Where it lies: on the learner's device, on the CPU (minibatches are sent to a GPU ahead of
    time), or as it fits: on a GPU if it takes at most half of the memory that is free there."""
    learning_starts: int = Field(default=1_000, ge=0)
    """Environment steps before the first update."""
    batch_size: int = Field(default=64, gt=0)
    """Windows in a minibatch: single steps, or sequences with a memory network."""
    train_freq: int = Field(default=8, gt=0)
    """Steps of each environment between two rounds of updates."""
    gradient_steps: int = Field(default=-1, ge=-1)
    """Updates in a round; -1: one for each new environment step or, with memory, one for each
    `sequence_length` steps: `batch_size` steps are learned from for each new one."""
    n_step: int = Field(default=1, gt=0)
    """Rewards summed before the bootstrap."""
    sequence_length: int = Field(default=16, gt=0)
    """Steps that a memory network learns from at once, a multiple of `train_freq` (unused without
    memory)."""
    burn_in: int = Field(default=0, ge=0)
    """Steps before each sequence from which only the memory is computed, without gradient; 0 for a
    network without memory."""
    prioritized: bool = False
    """Draw windows in proportion to their last TD errors."""
    prioritized_alpha: float = Field(default=0.6, gt=0, le=1)
    """Exponent of the priorities."""
    prioritized_beta: float = Field(default=0.4, ge=0, le=1)
    """Exponent of the importance weights at the start."""
    prioritized_beta_schedule: Shape = "linear"
    """How it rises to 1 over the run."""
    prioritized_eta: float = Field(default=0.9, ge=0, le=1)
    """A sequence's priority is eta max|TD| + (1 - eta) mean|TD|."""
    hindsight: Literal["none", "future", "final", "episode"] = "none"
    """Most windows get a goal that their episode achieved (HER, Stable-Baselines3's
    goal_selection_strategy): in any later step, in its last one, in any step. For environments with
    achieved_goal and desired_goal."""
    n_sampled_goal: int = Field(default=4, gt=0)
    """Windows with such a goal for each one with its own (unused without `hindsight`)."""
    plasticity: PlasticityConfig = PlasticityConfig()
    """Fresh weights from time to time."""


class ActorCriticConfig(OffPolicyConfig, frozen=True):
    """Settings of every off-policy actor-critic; names as in Stable-Baselines3."""

    buffer_size: int = Field(default=1_000_000, gt=0)
    """Transitions that the replay holds, over all environments."""
    batch_size: int = Field(default=256, gt=0)
    """Windows in a minibatch: single steps, or sequences with a memory network."""
    tau: float | None = Field(default=0.005, gt=0, le=1)
    """Share of the newest weights that target networks take each time they follow."""
    policy_delay: int = Field(default=1, gt=0)
    """Updates of the critics for each of the policy."""
    n_critics: int = Field(default=2, gt=0)
    """Number of critics; the least of their values makes the targets."""
    noise_repeat: int = Field(default=1, gt=0)
    """Steps of a rollout for which the noise on a Box's actions stays the same: longer noise
    explores further."""


def check(cfg: OffPolicyConfig, setup: Setup, memory: bool, taught: bool) -> None:
    """Checks that settings suit a run.

    Args:
        cfg: The settings.
        setup: The run.
        memory: Whether the network has memory.
        taught: Whether there is a teacher.

    Raises:
        ValueError: They do not suit it, or no update would ever be taken.
    """
    if cfg.burn_in and not memory:
        raise ValueError(
            f"agent.burn_in={cfg.burn_in}: a burn-in needs a network with memory; take "
            "network=lstm, gru or transformer, or agent.burn_in=0"
        )
    if memory and cfg.sequence_length % cfg.train_freq:
        raise ValueError(
            f"agent.sequence_length={cfg.sequence_length}: expected a multiple of "
            f"agent.train_freq={cfg.train_freq}: sequences begin where rollouts begin, and "
            "each step must be in equally many of them"
        )
    if taught and cfg.hindsight != "none":
        raise ValueError(
            f"agent.hindsight={cfg.hindsight}: the teacher's advice is about the original "
            "goals; expected none with agent.teacher.from"
        )
    if cfg.gradient_steps == 0:
        raise ValueError("agent.gradient_steps=0: expected 1 or more, or -1; 0 never learns")
    if cfg.learning_starts >= setup.total_steps:
        raise ValueError(
            f"agent.learning_starts={cfg.learning_starts}: expected less than "
            f"total_steps={setup.total_steps}, or nothing is learned"
        )
