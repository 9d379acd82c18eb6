"""The agent of a configuration, and the device that it learns on."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import gymnasium
import torch

from ... import agents
from ...agents.agent import Agent
from ...agents.learning.data_parallel import Replicas
from ...agents.policies.policy import Policy
from ...configs import Config
from ...core.memory import lower
from ...envs.goal_rewards import goal_rewards
from ...envs.make import probe


def _columns(cfg: Config) -> int:
    """Columns of each rollout."""
    workers, taken = cfg.ray.workers, cfg.ray.rollouts_per_update
    alone = workers and cfg.ray.mode == "async"
    return cfg.num_envs // workers * taken if alone else cfg.num_envs


def build_agent(
    cfg: Config,
    replicas: Replicas | None = None,
    spaces: Sequence[gymnasium.Space] = (),
    teacher: Policy | None = None,
) -> Agent:
    """Builds the agent of a configuration, with fresh weights.

    Args:
        cfg: The configuration.
        replicas: The learners that it learns with; None: there are no others.
        spaces: Of observations and of actions; those of the environment if they are not given.
        teacher: Advises it, as `agent.teacher` says; None: nobody does, or only the policy is
            wanted.

    Raises:
        ValueError: Agent, network, environment, settings and machine do not go together.
    """
    goals = None if spaces else functools.partial(goal_rewards, cfg.env)
    interface = None
    if not spaces:
        interface = probe(cfg.env, cfg.seed)
        spaces = interface.observation_space, interface.action_space
    setup = agents.Setup(
        cfg.network,
        *spaces,
        num_envs=cfg.num_envs,
        late=cfg.overlap,
        stacked=cfg.env.stacked,
        rollout_columns=_columns(cfg),
        total_steps=cfg.total_steps,
        seed=cfg.seed,
        device=choose_device(cfg.device, replicas),
        compile=None if cfg.compile == "auto" else cfg.compile,
        replicas=replicas,
        teacher=teacher,
        goal_rewards=goals,
    )
    with lower(cfg.named("network.blocks")):
        agent = agents.build(cfg.agent, setup)
    agent.policy.interface = interface
    return agent


def new_replicas(cfg: Config) -> Replicas | None:
    """The place of the first of several learners, not connected yet; None if there is only one."""
    return Replicas(0, cfg.learner.count) if cfg.learner.count > 1 else None


def choose_device(name: str, replicas: Replicas | None = None) -> torch.device:
    """The device of that name; `auto` is the GPU if there is one.

    Args:
        name: `auto`, `cpu` or `cuda`.
        replicas: The learners, which share the GPUs that this process sees: one each.

    Raises:
        ValueError: There is no such device here.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cuda" and not gpus:
        raise ValueError(
            "device=cuda: PyTorch finds no CUDA GPU here; use device=auto or device=cpu"
        )
    if name == "cpu" or not gpus:
        return torch.device("cpu")
    return torch.device("cuda", replicas.rank % gpus if replicas else 0)
