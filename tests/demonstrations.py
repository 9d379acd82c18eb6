"""Datasets of policies that know what is right, to be learned from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neuraxis.agents.policies.policy import Policy
from neuraxis.configs import Config
from neuraxis.envs import make
from neuraxis.training.datasets import dataset
from neuraxis.training.datasets.record import record
from neuraxis.training.evaluate import Budget

Rule = Callable[[Any], Tensor]
"""From observations [B, *obs] to actions [B, *act]."""


class Expert(Policy):
    """Does what a rule says of the observation that opened the episode, or of the newest one."""

    noise_size = 1

    def __init__(self, observation: Any, action: Any, rule: Rule, remembers: bool = False) -> None:
        super().__init__(observation, action, normalize=False)
        self.rule, self.remembers = rule, remembers

    def initial_state(self, batch: int) -> Any:
        return (torch.zeros(1, batch, *(self.observation_space.shape or ())),)

    def act(
        self, obs: Any, state: Any, first: Any, noise: Any = None, greedy: bool = False
    ) -> tuple[Tensor, dict[str, Tensor], Any]:
        kept = state[0]
        if self.remembers:
            kept = torch.where(first.view(1, -1, *(1 for _ in obs.shape[1:])), obs, kept)
            obs = kept[0]
        return self.rule(obs), {}, (kept,)


def expert(cfg: Config, rule: Rule, remembers: bool = False) -> Expert:
    """An expert for an environment."""
    envs = make(cfg.env, 1, 0)
    envs.close()
    return Expert(envs.observation_space, envs.action_space, rule, remembers)


def balance(obs: Tensor) -> Tensor:
    """Keeps CartPole up for all its 500 steps."""
    place, speed, angle, turn = obs.unbind(-1)
    return (angle + 0.3 * turn + 0.02 * place + 0.05 * speed > 0).long()


def demonstrate(
    cfg: Config, folder: Path, rule: Rule, episodes: int = 50, remembers: bool = False
) -> float:
    """Writes a dataset of an expert; returns its mean return."""
    given = cfg.env, episodes, 0, cfg.num_envs, False, Budget()
    found, rows = record(expert(cfg, rule, remembers), *given)
    dataset.write(folder, found, {})
    return float(rows[:, 0].mean())
