"""A policy as an ONNX file: it acts as `predict` does, and needs nothing of neuraxis."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

from neuraxis.agents.policies.policy import Policy
from neuraxis.core.errors import RunError
from neuraxis.core.tree import leaves, map_tree
from neuraxis.envs import ids
from neuraxis.envs.single import make_single
from neuraxis.envs.wrappers.interface import Interface
from neuraxis.training import load, train
from neuraxis.training.cli.main import neuraxis
from neuraxis.training.interop import onnx_check, onnx_export
from neuraxis.training.interop.onnx_check import OnnxPolicy, largest_difference
from neuraxis.training.interop.onnx_export import write_onnx
from neuraxis.training.interop.onnx_graph import PolicyGraph
from neuraxis.training.interop.sb3_policy import Sb3Policy

from .helpers import quick, training
from .random_spaces import ENV
from .test_predict import LSTM, ODD, SMALL, TASKS

IDENTITY = "env=neuraxis/Identity-v0", "env.kwargs.size=3", SMALL
SPACES = f"env=tests.random_spaces:{ENV}", SMALL
REPLAY = quick("dqn")
GRAPHS = TASKS | {
    "counts from 5": (ODD, SMALL),
    "a far box": (ODD, "env.kwargs.box=true", SMALL),
    "unsigned numbers": (*SPACES, "env.kwargs.number=118"),
    "nested": (*SPACES, "env.kwargs.number=96", "env.frame_stack=2", "env.flatten=true"),
    "dict": ("env=neuraxis/PointGoal-v0", "env.frame_stack=2", SMALL),
    "whole numbers": ("env=tests.test_onnx:onnx/Whole-v0", "env.rescale_actions=true", SMALL),
    "bits": (*IDENTITY, "env.kwargs.action_space=multibinary"),
    "joint actions": (*IDENTITY, "env.kwargs.action_space=multidiscrete", "agent=dqn", *REPLAY),
    "masked joint actions": (
        *("env=neuraxis/Masked-v0", "env.kwargs.action_space=multidiscrete", "env.kwargs.size=3"),
        *("env.action_mask=info", "agent=dqn", SMALL, *REPLAY),
    ),
    "masked stack": (*TASKS["mask in the observation"], "env.frame_stack=2", "env.flatten=true"),
    "distribution": ("env=CartPole-v1", "agent=iqn", "agent.noisy=true", SMALL, *REPLAY),
    "squashed": ("env=Pendulum-v1", "agent=sac", SMALL, *quick("sac")),
    "deterministic": ("env=Pendulum-v1", "agent=td3", SMALL, *quick("td3")),
    "table": ("env=Taxi-v4", "agent=tabular_q"),
}


class Eager:
    """The function that is exported, run by PyTorch."""

    def __init__(self, graph: PolicyGraph) -> None:
        self.graph = graph
        self.state: dict[str, torch.Tensor] = {}

    def __call__(self, obs: Any, first: np.ndarray, **more: np.ndarray) -> np.ndarray:
        inputs = self.graph.example(len(first))
        names = [name for name in inputs if name.startswith("observation")]
        given = dict(zip(names, leaves(obs), strict=True)) | {"first": first} | more
        inputs |= {name: torch.as_tensor(leaf) for name, leaf in given.items()} | self.state
        states = [name for name in inputs if name.startswith("state.")]
        with torch.inference_mode():
            action, *after = self.graph(inputs)
        self.state = dict(zip(states, after, strict=True))
        return action.numpy()


def lively(*words: str) -> Policy:
    """A policy whose actions depend on what it sees: fresh ones hardly do."""
    run = training(*words, "num_envs=2")
    if "agent.normalize_observations=true" in words:
        run.step()
    policy = run.agent.policy.eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return policy


@pytest.mark.parametrize("name", GRAPHS)
def test_the_graph_computes_what_predict_does(name: str) -> None:
    """To the last digits of float32, before any conversion, for every way to see and act."""
    policy = lively(*GRAPHS[name])
    graph = PolicyGraph(policy)
    assert largest_difference(policy, lambda: Eager(graph)) < 1e-5


class Whole(gymnasium.Env[Any, Any]):
    """Actions are whole numbers in a Box."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(np.array([-3, 0]), np.array([5, 90]), dtype=np.int16)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.np_random.normal(size=2), {}

    def step(self, action: Any) -> Any:
        return self.np_random.normal(size=2), float(action.sum()), False, False, {}


creator: Any = Whole
gymnasium.register("onnx/Whole-v0", creator, max_episode_steps=4)


def both(policy: Policy, onnx: OnnxPolicy, steps: int) -> tuple[np.ndarray, np.ndarray, int]:
    """The actions of a file and of `predict` in real episodes, and how many of these ended."""
    assert isinstance(policy.interface, Interface)
    config = policy.interface.config
    env = make_single(config, ids.find(config.id), None)
    (obs, info), state, gained, found, ended = env.reset(seed=1), None, 0.0, [], 0
    for _ in range(steps):
        rows = map_tree(lambda leaf: np.asarray(leaf)[None], obs)
        more: dict[str, Any] = {}
        if config.action_mask == "info":
            more["action_mask"] = np.asarray(info["action_mask"], np.int8)[None]
        if config.last_action:
            more["reward"] = np.array([gained], np.float32)
        first = np.array([state is None])
        wanted, state = policy.predict(rows, state, first, **more)
        found.append((onnx(rows, first, **more), wanted))
        obs, gained, terminated, truncated, info = env.step(wanted[0])
        if terminated or truncated:
            (obs, info), state, ended = env.reset(), None, ended + 1
    actions, wanted = (np.concatenate(side) for side in zip(*found, strict=True))
    return actions, wanted, ended


FILES = {
    "mlp, choices, masks": (
        *("env=neuraxis/Masked-v0", "env.kwargs.action_space=multidiscrete", "env.kwargs.size=3"),
        *("env.action_mask=info", SMALL),
    ),
    "lstm, gru, numbers, last action": (
        *("env=Pendulum-v1", "env.time_limit=20", "env.last_action=true"),
        "agent.normalize_observations=true",
        "network.blocks=[{name: mlp, sizes: [8]}, {name: lstm, size: 8}, {name: gru, size: 8}]",
    ),
    "cnn, transformer, stack": (
        *("env=MiniGrid-Empty-Random-6x6-v0", "env.time_limit=20", "env.frame_stack=2"),
        "network.blocks=[{name: cnn, size: 16}, {name: transformer, size: 8, heads: 2, layers: 1}]",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_acts_as_predict_does_in_real_episodes(name: str, tmp_path: Path) -> None:
    """Its own memory, for more than two episodes; every backbone is in one of the files."""
    policy = lively(*FILES[name])
    written = write_onnx(policy, tmp_path / "policy.onnx")
    content = (tmp_path / "policy.onnx").read_bytes()
    assert len(content) == written.size and written.difference < 1e-5
    actions, wanted, ended = both(policy, OnnxPolicy(content), 60)
    assert ended >= 2 and (wanted != wanted[0]).any()
    np.testing.assert_allclose(actions, wanted, atol=1e-5)
    assert actions.dtype == wanted.dtype
