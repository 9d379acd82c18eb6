"""Who learns: what the loop asks of a learner.

metrics = Learner(cfg, agent).learn(rollout)

`learner_group.LearnerGroup` are several, `remote_learner.RemoteLearner` is one in another process.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...agents.agent import Agent
from ...configs import Config
from ...core.memory import lower
from ...core.rollout import Rollout
from .process import configure_gpu


class Learner:
    """The agent learns here, in this process.

    Args:
        cfg: The run's configuration.
        agent: What learns.
    """

    def __init__(self, cfg: Config, agent: Agent) -> None:
        self.cfg = cfg.learner
        self.agent = agent
        if agent.device.type == "cuda":
            configure_gpu(cfg.learner)
        self._sizes = cfg.named("agent.batch_size", "agent.n_steps", "num_envs", "network.blocks")

    def learn(self, rollout: Rollout[np.ndarray]) -> dict[str, Tensor]:
        """Learns from a rollout in NumPy; returns metrics as 0-dim tensors.

        Raises:
            RunError: Another learner failed.
            OutOfMemory: Names the settings to lower.
        """
        device = self.agent.device
        half = self.cfg.precision == "bfloat16"
        # Without a cache: it would keep the weights of the first update for the whole rollout.
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=half, cache_enabled=False)
        with autocast, lower(self._sizes):
            return self.agent.learn(rollout.to(device))

    def tensors(self) -> dict[str, Tensor]:
        """See `Agent.tensors`."""
        return self.agent.tensors()

    def state_dict(self) -> dict[str, Any]:
        """See `Agent.state_dict`."""
        return self.agent.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Agent.load_state_dict`; of all learners."""
        self.agent.load_state_dict(state)

    def close(self) -> None:
        """Ends the processes of the other learners."""
