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
import pytest
import torch
from click.testing import CliRunner

from neuraxis.agents.policies.policy import Policy
from neuraxis.core.errors import RunError
from neuraxis.core.tree import leaves
from neuraxis.envs import EnvConfig, ids
from neuraxis.envs.single import make_single
from neuraxis.training import load, train
from neuraxis.training.cli.main import neuraxis
from neuraxis.training.interop.onnx_files import onnx_check, onnx_export
from neuraxis.training.interop.onnx_files.onnx_check import OnnxPolicy, largest_difference
from neuraxis.training.interop.onnx_files.onnx_export import write_onnx
from neuraxis.training.interop.onnx_files.onnx_graph import PolicyGraph
from neuraxis.training.interop.sb3_policy import Sb3Policy

from .helpers import config, quick, training
from .random_spaces import ENV
from .test_predict import ODD, SMALL, TASKS

IDENTITY = "env=neuraxis/Identity-v0", "env.kwargs.size=3", SMALL
SPACES = f"env=tests.random_spaces:{ENV}", SMALL
MASKED = (
    *("env=neuraxis/Masked-v0", "env.kwargs.action_space=multidiscrete", "env.kwargs.size=3"),
    *("env.action_mask=info", SMALL),
)
REPLAY = quick("dqn")
GRAPHS = TASKS | {
    "counts from 5": (ODD, SMALL),
    "a far box": (ODD, "env.kwargs.box=true", SMALL),
    "unsigned numbers": (*SPACES, "env.kwargs.number=118"),
    "nested": (*SPACES, "env.kwargs.number=96", "env.frame_stack=2", "env.flatten=true"),
    "dict": ("env=neuraxis/PointGoal-v0", "env.frame_stack=2", SMALL),
    "whole numbers": ("env=tests.test_onnx:onnx/Seen-v0", SMALL),
    "bits": (*IDENTITY, "env.kwargs.action_space=multibinary"),
    "joint actions": (*IDENTITY, "env.kwargs.action_space=multidiscrete", "agent=dqn", *REPLAY),
    "masked choices": MASKED,
    "masked joint actions": (*MASKED, "agent=dqn", *REPLAY),
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


class Seen(gymnasium.Env[Any, Any]):
    """Shows random numbers, or pictures; actions are whole numbers, or fractional ones."""

    def __init__(self, pictures: bool = False) -> None:
        box = gymnasium.spaces.Box
        self.observation_space: Any = box(-np.inf, np.inf, (2,), np.float64)
        self.action_space: Any = box(np.array([-3, 0]), np.array([5, 90]), dtype=np.int16)
        if pictures:
            self.observation_space = box(0, 255, (8, 8, 3), np.uint8)
            self.action_space = box(0, 10, (2,), np.float64)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert action in self.action_space
        return self.observation_space.sample(), float(action.sum()), False, False, {}


creator: Any = Seen
gymnasium.register("onnx/Seen-v0", creator, max_episode_steps=20)


def both(
    policy: Policy, onnx: OnnxPolicy, settings: EnvConfig, steps: int = 60
) -> tuple[np.ndarray, np.ndarray, int]:
    """The actions of a file and of `predict` in real episodes, and how many of these ended."""
    assert policy.interface is not None
    env = make_single(settings, ids.find(settings), None)
    (obs, info), state, gained, found, ended = env.reset(seed=1), None, 0.0, [], 0
    for _ in range(steps):
        rows, _ = policy.interface.rows(obs)
        more: dict[str, Any] = {}
        if settings.action_mask == "info":
            more["action_mask"] = np.asarray(info["action_mask"], np.int8)[None]
        if settings.last_action:
            more["reward"] = np.array([gained], np.float32)
        first = np.array([state is None])
        wanted, state = policy.predict(rows, state, first, **more)
        found.append((onnx(rows, first, **more), wanted))
        obs, gained, terminated, truncated, info = env.step(wanted[0])
        if terminated or truncated:
            (obs, info), state, ended = env.reset(), None, ended + 1
    actions, wanted = (np.concatenate(side) for side in zip(*found, strict=True))
    return actions, wanted, ended


EVERY = (
    *("env=tests.test_onnx:onnx/Seen-v0", "env.kwargs.pictures=true"),
    *("env.frame_stack=2", "env.last_action=true"),
    "network.blocks=[{name: cnn, size: 16}, {name: lstm, size: 8}, {name: gru, size: 8}, "
    "{name: transformer, size: 8, heads: 2, layers: 1, memory: 4}]",
)
"""Every backbone but the MLP, which the run below has, and every kind of state."""


def test_a_file_acts_as_predict_does_in_real_episodes(tmp_path: Path) -> None:
    """It has a state of its own, for more than two episodes."""
    policy = lively(*EVERY)
    written = write_onnx(policy, tmp_path / "policy.onnx")
    content = (tmp_path / "policy.onnx").read_bytes()
    assert len(content) == written.size and written.difference < 1e-3
    onnx = OnnxPolicy(content)
    actions, wanted, ended = both(policy, onnx, config(*EVERY).env)
    assert ended >= 2 and len(np.unique(wanted, axis=0)) > 50
    np.testing.assert_allclose(actions, wanted, atol=1e-3)  # of 10
    assert actions.dtype == wanted.dtype
    names = [*(f"memory.{number}" for number in range(5)), "frames", "action"]
    assert list(onnx.about["state"]) == [f"state.{name}" for name in names]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A run, its file, and what the command said."""
    folder = tmp_path_factory.mktemp("onnx")
    few = "total_steps=64", "agent.n_steps=16", "agent.batch_size=16", "eval.final_episodes=1"
    run = train(*MASKED, *few, num_envs=2, wandb={"mode": "disabled"}, run_dir=folder / "run")
    command = ["export", str(run.dir), "--onnx", str(folder / "new" / "policy.onnx")]
    result = CliRunner().invoke(neuraxis, command)
    assert result.exit_code == 0, result.output
    return run.dir, folder / "new" / "policy.onnx", result.output


def test_a_run_is_exported(exported: tuple[Path, Path, str]) -> None:
    run, file, said = exported
    content = file.read_bytes()
    assert said == f"{len(content):,} bytes, within 0 of predict: {file}\n"
    assert [path.name for path in file.parent.iterdir()] == ["policy.onnx"]
    onnx = OnnxPolicy(content)
    actions, wanted, ended = both(load(run), onnx, config(*MASKED).env)
    np.testing.assert_array_equal(actions, wanted)
    assert ended >= 2 and len(np.unique(wanted, axis=0)) > 2
    assert onnx.about["environment"] == "neuraxis/Masked-v0" and onnx.about["state"] == {}
    assert onnx.about["inputs"]["action_mask"] == {"shape": ["batch", 5], "dtype": "int8"}


ALONE = """
import sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
rows = {"observation": np.zeros(2, np.int64), "first": np.ones(2, bool)}
(action,) = session.run(None, rows | {"action_mask": np.ones((2, 5), np.int8)})
assert not {"torch", "gymnasium", "neuraxis"} & sys.modules.keys()
print(action.tolist())
"""


def test_a_file_needs_nothing_of_ours(exported: tuple[Path, Path, str]) -> None:
    run, file, _ = exported
    command = [sys.executable, "-I", "-c", ALONE, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wanted, _ = load(run).predict(np.zeros(2, np.int64), action_mask=np.ones((2, 5), np.int8))
    assert json.loads(done.stdout) == wanted.tolist()


def test_a_graph_that_acts_otherwise_is_not_written(
    exported: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content, file = exported[1].read_bytes(), tmp_path / "policy.onnx"
    file.write_bytes(b"before")
    monkeypatch.setattr(onnx_export, "as_onnx", lambda graph: content)
    with pytest.raises(RunError, match=r"policy.onnx: not written: \d+ of 144 actions differ"):
        write_onnx(lively(*MASKED), file)
    assert file.read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1


def test_numbers_may_differ_by_rounding_and_choices_by_ties() -> None:
    ones, whole = np.ones((200, 2)), np.ones(200, np.int64)
    assert onnx_check.compared(ones + 5e-5, ones) == pytest.approx(5e-5)
    assert onnx_check.compared(whole + (np.arange(200) < 3), whole) == 1
    for other, wanted in (
        (ones + 5e-4, ones),
        (np.full_like(ones, np.nan), ones),
        (whole + (np.arange(200) < 9), whole),
        (ones.astype(np.float32), ones),
        (ones[:, :1], ones),
    ):
        with pytest.raises(RunError, match=r"differ from those of predict|and predict as"):
            onnx_check.compared(other, wanted)


class Unfit(torch.nn.Module):
    """Computes outside of PyTorch."""

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.tanh(y.numpy()))


def test_what_cannot_be_exported_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = lively("env=CartPole-v1", SMALL)
    with pytest.raises(ValueError, match=r"policy.pt: expected a file that ends in \.onnx"):
        write_onnx(policy, tmp_path / "policy.pt")
    file = tmp_path / "policy.onnx"
    spaces = policy.observation_space, policy.action_space
    with pytest.raises(ValueError, match="Stable-Baselines3's own code; expected a run of `train`"):
        write_onnx(Sb3Policy(*spaces, torch.nn.Identity(), normalize=False), file)
    head: Any = policy.head
    policy.head = torch.nn.Sequential(Unfit(), head)
    with pytest.raises(
        RunError, match="not written: the policy does not fit into a graph: "
    ) as found:
        write_onnx(policy, file)
    assert "\n" not in str(found.value) and len(str(found.value)) <= 400
    policy.interface = None
    with pytest.raises(ValueError, match="the environment's spaces are not known"):
        write_onnx(policy, file)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"onnx is not installed; pip install 'neuraxis\[onnx\]'"):
        write_onnx(policy, file)
    result = CliRunner().invoke(neuraxis, ["export", str(tmp_path), "--onnx", str(file)])
    assert result.exit_code == 2 and not list(tmp_path.iterdir())
