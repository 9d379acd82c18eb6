"""Where the learner is: in the run's own process, or in a Ray actor (`learner.placement`)."""

from __future__ import annotations

from ...agents.agent import Agent
from ...agents.policies.policy import Policy
from ...configs import Config
from .build import build_agent, new_replicas
from .learner import Learner
from .learner_group import local_learner
from .remote_learner import RemoteLearner


def driver_agent(cfg: Config, teacher: Policy | None) -> Agent:
    """The agent of the run's own process: it learns, or has the policy while an actor learns.

    Raises ValueError, see `build_agent`.
    """
    if cfg.learner.placement == "actor":
        return build_agent(cfg.model_copy(update={"device": "cpu"}), teacher=teacher)
    return build_agent(cfg, new_replicas(cfg), teacher=teacher)


def open_learner(cfg: Config, agent: Agent) -> Learner:
    """The learner, for the agent of the run's own process.

    Raises:
        ValueError: Ray cannot be started, or there are too few GPUs.
        RunError: A process did not start.
    """
    return (RemoteLearner if cfg.learner.placement == "actor" else local_learner)(cfg, agent)
