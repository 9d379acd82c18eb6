"""A policy is loaded without its environment, and an environment that is gone is named."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from neuraxis import load, train
from neuraxis.core.errors import RunError
from neuraxis.core.images import ImageSpace
from neuraxis.core.space_trees import from_tree, to_tree
from neuraxis.training.cli import exit_codes, main
from neuraxis.training.storage import checkpoint, checkpoint_folder

SMALL = ["wandb.mode=disabled", "num_envs=2", "total_steps=64", "agent.n_steps=16"]
SMALL += ["eval.final_episodes=1", "device=cpu"]
BYTES = np.zeros((8, 9, 3), np.uint8)
SPACES = [
    spaces.Box(-1, 1, (3,)),
    spaces.Box(np.array([0, -np.inf]), np.array([np.inf, 3.0]), dtype=np.float64),
    *(spaces.Box(0, 1, (2, 2), dtype) for dtype in (np.uint16, np.int8, np.float16)),
    spaces.Box(0, 1, (0,)),
    spaces.Box(0, 1, ()),
    ImageSpace(BYTES, BYTES + 255, -1),
    ImageSpace(BYTES, BYTES + 255, None),
    spaces.Discrete(3, start=-2),
    spaces.Discrete(3, dtype=np.int32),
    spaces.MultiDiscrete(np.array([[2, 3], [4, 5]]), start=np.array([[1, 0], [0, 1]])),
    spaces.MultiDiscrete([2, 3], dtype=np.int32),
    spaces.MultiBinary(4),
    spaces.MultiBinary([2, 3]),
    spaces.Dict(OrderedDict([("z", spaces.Discrete(2)), ("a.b", spaces.Tuple([]))])),
    spaces.Tuple([spaces.Dict({"x": spaces.Box(0, 1, (1,))}), spaces.Discrete(9)]),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_space_comes_back_from_a_checkpoint(space: Any, tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "c", to_tree(space))
    found: Any = from_tree(checkpoint.read(tmp_path / "c"))
    assert type(found) is type(space) and found == space and found.dtype == space.dtype
    if isinstance(space, spaces.Dict):
        assert list(found) == list(space)
    if isinstance(space, ImageSpace):
        assert found.channel_axis == space.channel_axis


class Own(gymnasium.Env[Any, Any]):
    """What a person's script registers."""

    def __init__(self) -> None:
        self.observation_space: Any = spaces.Dict({"far": spaces.Box(-1, 1, (2,))})
        self.action_space: Any = spaces.Discrete(2, start=5)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 1.0, True, False, {}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run of an environment that is registered no more, but by the module `registers`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    make: Any = Own
    gymnasium.register("Script-v0", make)
    train(*SMALL, "env=Script-v0", "run_dir=run")
    Path("registers.py").write_text(
        "import gymnasium, sys\n"
        f"own = sys.modules[{__name__!r}].Own\n"
        "gymnasium.register('Script-v0', own)\n"
    )
    del gymnasium.registry["Script-v0"]
    yield tmp_path / "run"
    gymnasium.registry.pop("Script-v0", None)
    sys.modules.pop("registers", None)


def neuraxis(line: str) -> int:
    return exit_codes.exit_code(main.neuraxis, line.split())


def test_a_policy_is_loaded_without_its_environment(run: Path) -> None:
    policy = load(run)
    obs = {"far": torch.zeros(1, 2)}
    action, _, _ = policy.act(obs, policy.initial_state(1), torch.ones(1, dtype=torch.bool))
    assert action.shape == (1,)


def test_a_checkpoint_of_before_needs_the_environment(run: Path) -> None:
    for step in checkpoint_folder.steps(run / "checkpoints"):
        tree = checkpoint.read(step)
        del tree["agent"]["spaces"]
        checkpoint.write(step, tree)
    with pytest.raises(ValueError, match=r"env\.id=my_module:Script-v0"):
        load(run)
    make: Any = Own
    gymnasium.register("Script-v0", make)
    load(run)


def test_strange_spaces_are_refused(run: Path) -> None:
    for step in checkpoint_folder.steps(run / "checkpoints"):
        tree = checkpoint.read(step)
        tree["agent"]["spaces"] = [{"box": ["x", "y", "z"]}, {}]
        checkpoint.write(step, tree)
    with pytest.raises(RunError, match="does not fit what"):
        load(run)


def test_an_environment_of_a_script_is_named_with_its_module(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["evaluate run --episodes 1", "resume run total_steps=128 -q", "train env=Script-v0"]
    for line in lines:
        assert neuraxis(line) == 2
        err = capsys.readouterr().err
        assert "env.id='Script-v0' is not a registered environment" in err
        assert "if a module of yours has it: env.id=my_module:Script-v0" in err
        assert "GymV26" not in err
    assert neuraxis("evaluate run --episodes 1 env.id=registers:Script-v0") == 0
    assert neuraxis("evaluate run total_steps=3") == 2
    assert "expected env.id=MODULE:ID" in capsys.readouterr().err
    assert neuraxis("resume run total_steps=128 -q env.id=registers:Other-v0") == 2
    assert "env.id=registers:Other-v0: cannot change" in capsys.readouterr().err
    assert neuraxis("resume run total_steps=128 -q env.id=registers:Script-v0") == 0
    assert neuraxis("evaluate run --episodes 1") == 0, "from now on the run says it itself"


def test_workers_say_it_too(run: Path) -> None:
    make: Any = Own
    gymnasium.register("Script-v0", make)
    with pytest.raises(RunError, match=r"env\.id=my_module:Script-v0"):
        train(*SMALL, "env=Script-v0", "run_dir=with_ray", "ray.workers=1")
