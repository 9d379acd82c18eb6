"""Recorded episodes: what is written, what is read, and the rollouts made of them."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from neuraxis.core.errors import RunError
from neuraxis.core.rollout import Rollout
from neuraxis.core.tree import leaves
from neuraxis.training import train
from neuraxis.training.cli import exit_codes, main
from neuraxis.training.datasets import dataset
from neuraxis.training.datasets.dataset import Dataset
from neuraxis.training.datasets.dataset_source import DatasetSource
from neuraxis.training.datasets.record import record
from neuraxis.training.evaluate import Budget
from neuraxis.training.session import prepare

from .demonstrations import balance, demonstrate, expert
from .helpers import config, training

CARTPOLE = ("env=CartPole-v1", "env.vectorization=sync")


def recorded(*words: str, episodes: int = 5, rule: Any = balance) -> tuple[Dataset, np.ndarray]:
    cfg = config(*words)
    return record(expert(cfg, rule), cfg.env, episodes, 0, cfg.num_envs, False, Budget())


def leftwards(obs: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(obs), dtype=torch.int64)


@pytest.mark.parametrize(("rule", "ends"), [(balance, False), (leftwards, True)])
def test_each_row_follows_from_the_row_before(rule: Any, ends: bool) -> None:
    """CartPole has no randomness but its start; only the pole that falls is a termination."""
    found, rows = recorded(*CARTPOLE, "num_envs=3", rule=rule)
    env = CartPoleEnv()
    env.reset()
    for r in np.flatnonzero(~found.first[1:]):
        env.state = found.obs[r].astype(np.float64)
        env.steps_beyond_terminated = None
        obs, reward, terminated, *_ = env.step(int(found.action[r]))
        np.testing.assert_allclose(found.obs[r + 1], obs, rtol=1e-4, atol=1e-5)
        assert (found.reward[r], found.discount[r]) == (reward, not terminated)
    last = found.begins[1:] - 1
    assert not found.action[last].any() and not found.reward[last].any()
    assert (found.discount[last] == 1).all() and (found.discount[last - 1] == (not ends)).all()
    assert np.array_equal(found.lengths, rows[:, 1]) and np.array_equal(found.returns, rows[:, 0])


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    found, _ = recorded(
        *("env=neuraxis/Dict-v0", "env.kwargs.size=8", "num_envs=2"),
        episodes=3,
        rule=lambda obs: torch.zeros(len(obs["number"]), dtype=torch.int64),
    )
    dataset.write(tmp_path / "demos", found, {"env": {"id": "neuraxis/Dict-v0"}})
    again = dataset.read(tmp_path / "demos")
    assert again.observation_space == found.observation_space
    assert again.action_space == found.action_space
    for name in dataset.NAMES:
        pairs = zip(leaves(getattr(found, name)), leaves(getattr(again, name)), strict=True)
        assert all(one.dtype == two.dtype and np.array_equal(one, two) for one, two in pairs)
    about = json.loads((tmp_path / "demos" / "dataset.json").read_text())
    assert (about["episodes"], about["steps"], about["env"]["id"]) == (3, 30, "neuraxis/Dict-v0")
    assert not list(tmp_path.rglob("*.pkl"))


def counted(folder: Path, lengths: list[int]) -> Dataset:
    """A dataset whose observations are the numbers of its rows, written to a folder."""
    sizes = np.array(lengths) + 1
    rows = np.arange(sizes.sum())
    first = np.isin(rows, np.cumsum([0, *sizes[:-1]]))
    found = Dataset(
        spaces.Box(-np.inf, np.inf, (1,)),
        spaces.Discrete(1000),
        obs=rows[:, None].astype(np.float32),
        first=first,
        action=rows,
        reward=np.where(np.roll(first, -1), 0, 1).astype(np.float32),
        discount=np.ones(len(rows), np.float32),
    )
    dataset.write(folder, found, {})
    return found


def source(folder: Path, num_envs: int, length: int, *words: str) -> DatasetSource:
    run = training(f"num_envs={num_envs}", "env=neuraxis/Counter-v0", *words)
    policy = run.agent.policy
    policy.observation_space = spaces.Box(-1, 1, (1,))
    policy.action_space = spaces.Discrete(1000)
    return DatasetSource(run.cfg, policy, length, str(folder))


def test_a_pass_has_every_episode_once_and_whole(tmp_path: Path) -> None:
    """Episodes of 1 to 7 steps, 28 in a pass and 7 resets; two columns read 35 rows in two."""
    found = counted(tmp_path / "demos", [1, 2, 3, 4, 5, 6, 7])
    given = source(tmp_path / "demos", 1, 5, "env.reward_scale=2")
    rollouts = [given.next() for _ in range(14)]
    rows = np.concatenate([rollout.action[:, 0] for rollout in rollouts])
    passes = rows[:35], rows[35:]
    assert all(np.array_equal(np.sort(each), np.arange(35)) for each in passes)
    assert not np.array_equal(*passes)
    for begin in found.begins[:-1]:  # each episode in its own order
        place = int(np.flatnonzero(passes[0] == begin)[0])
        size = int(np.diff(found.begins)[np.searchsorted(found.begins, begin)])
        assert np.array_equal(passes[0][place : place + size], np.arange(begin, begin + size))
    for rollout, after in itertools.pairwise(rollouts):
        assert rollout.first[-1] == after.first[0] and rollout.obs[-1] == after.obs[0]
    assert sum(rollout.steps for rollout in rollouts) == 2 * 28
    valid = np.concatenate([rollout.valid for rollout in rollouts])
    reward = np.concatenate([rollout.reward for rollout in rollouts])
    assert np.array_equal(reward, 2.0 * valid)
    ended = np.concatenate([rollout.episodes for rollout in rollouts])
    assert sorted(ended[:7, 2].tolist()) == [1, 2, 3, 4, 5, 6, 7]
    assert np.array_equal(ended[:, 1], ended[:, 2])  # 1 a step, before the scale


def test_columns_share_a_pass(tmp_path: Path) -> None:
    """Each of 12 episodes has been dealt out as often as any other; three are being read."""
    found = counted(tmp_path / "demos", [4] * 12)
    given = source(tmp_path / "demos", 3, 10)
    rows = np.concatenate([given.next().action.flatten() for _ in range(50)])
    times = np.bincount(rows, minlength=len(found.first))
    assert times.sum() == 1500 and times.max() - times.min() <= 2


def same(one: Rollout, other: Rollout) -> bool:
    names = ("obs", "first", "action", "reward", "discount", "state", "episodes", "version")
    pairs = (zip(leaves(getattr(one, n)), leaves(getattr(other, n)), strict=True) for n in names)
    return all(np.array_equal(a, b, equal_nan=True) for pair in pairs for a, b in pair)


def test_a_source_goes_back_to_where_it_stood_at_the_last_publish(tmp_path: Path) -> None:
    counted(tmp_path / "demos", [3, 9, 1, 4])
    first = source(tmp_path / "demos", 2, 4, "network=lstm")
    for _ in range(3):
        first.next()
    first.publish(first.policy)
    state = first.state_dict()
    expected = [first.next() for _ in range(4)]
    second = source(tmp_path / "demos", 2, 4, "network=lstm")
    second.load_state_dict(state)
    assert all(same(one, second.next()) for one in expected)


@pytest.mark.parametrize("network", ["lstm", "transformer"])
def test_the_memory_is_that_of_reading_the_episodes(network: str, tmp_path: Path) -> None:
    counted(tmp_path / "demos", [3, 9, 1, 4])
    given = source(tmp_path / "demos", 2, 4, f"network={network}")
    state = given.policy.initial_state(2)
    for _ in range(5):
        rollout = given.next()
        for mine, theirs in zip(leaves(state), leaves(rollout.state), strict=True):
            torch.testing.assert_close(mine, torch.as_tensor(theirs))
        obs, first = torch.as_tensor(rollout.obs[:-1]), torch.as_tensor(rollout.first[:-1])
        with torch.no_grad():
            for row in range(4):
                _, _, state = given.policy.act(obs[row], state, first[row], greedy=True)


def neuraxis(*words: str) -> int:
    return exit_codes.exit_code(main.neuraxis, list(words))


def test_the_command_records_and_says_what_to_do_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("wandb.mode=disabled", "agent.n_steps=16", "eval.final_episodes=1")
    train(*words, total_steps=256, run_dir="run")
    assert neuraxis("record", "run", "--out", "demos", "--episodes", "4", "--stochastic") == 0
    out = capsys.readouterr().out
    assert "over 4 episodes" in out and "agent=bc agent.dataset=demos env=CartPole-v1" in out
    found = dataset.read("demos")
    assert len(found.returns) == 4
    about = json.loads(Path("demos/dataset.json").read_text())
    last = Path("run/checkpoints/last").read_text().strip()
    assert about["player"] == {"run": "run", "checkpoint": last, "agent": "ppo"}
    assert about["stochastic"] and about["steps"] == found.lengths.sum()
    assert neuraxis("record", "run", "--out", "demos") == 2
    assert "--out demos: has a dataset; give another one" in capsys.readouterr().err
    assert neuraxis("record", "run", "--out", "other", "seed=1") == 2
    assert not Path("other").exists()


@pytest.fixture
def demos(tmp_path: Path) -> Path:
    folder = tmp_path / "demos"
    demonstrate(config(*CARTPOLE), folder, leftwards, 2)
    return folder


def refused(*words: str) -> str:
    with pytest.raises((ValueError, RunError)) as error:
        prepare(config("agent=bc", *words))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_bad_datasets_are_refused_in_one_line(demos: Path) -> None:
    parent, given = demos.parent, f"agent.dataset={demos}"
    assert "expected agent.dataset=DIR" in refused()
    assert "no such dataset; did you mean demos?" in refused(f"agent.dataset={parent}/demo")
    assert "not a dataset, it has no dataset.json" in refused(f"agent.dataset={parent}")
    assert "observation_space Box" in refused(given, "env=Acrobot-v1")
    pendulum = ("env=Pendulum-v1", "env.time_limit=5")
    demonstrate(config(*pendulum), parent / "box", lambda obs: obs[:, :1], 2)
    same = (f"agent.dataset={parent / 'box'}", *pendulum, "env.rescale_actions=false")
    assert "action_space Box(-1.0, 1.0, (1,), float32), the policy was made" in refused(*same)
    assert "ray.workers=2: expected 0" in refused(given, "ray.workers=2")
    (demos / "dataset.json").write_text('{"format": 2}')
    assert "format 2, this neuraxis reads 1: update" in refused(given)
    (demos / "dataset.json").write_text("[]")
    assert "damaged, not a JSON object" in refused(given)


def test_a_damaged_dataset_is_refused(demos: Path) -> None:
    file = demos / "stream" / "state.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    assert "state.safetensors: damaged, its SHA-256 differs" in refused(f"agent.dataset={demos}")
    file.unlink()
    assert "state.safetensors: missing" in refused(f"agent.dataset={demos}")


def with_one(array: np.ndarray, row: int, value: float) -> np.ndarray:
    """The array, in float32 if it is one of floats, with another value in a row."""
    array[row] = value
    return array.astype(np.float32) if array.dtype.kind == "f" else array


ONES: dict[str, tuple[spaces.Space[Any], Any, Any]] = {
    "discrete": (spaces.Discrete(3, start=2), 4, 5),
    "multidiscrete": (spaces.MultiDiscrete([2, 3]), [1, 2], [2, 0]),
    "multibinary": (spaces.MultiBinary(2), [0, 1], [0, 2]),
    "box": (spaces.Box(-1, 1, (2,)), [0.5, 3.0], [0.5, np.nan]),
}


@pytest.mark.parametrize("kind", ONES)
def test_actions_are_in_their_space_except_in_the_last_rows(kind: str, tmp_path: Path) -> None:
    """There is no step; and a Box has those that a policy chose, before they are clipped."""
    space, good, bad = ONES[kind]
    whole = counted(tmp_path / "whole", [2, 1])
    actions = np.stack([np.asarray(good, space.dtype)] * 5)
    actions[[2, 4]] = 0
    dataset.check(replace(whole, action_space=space, action=actions))
    actions[3] = bad
    with pytest.raises(ValueError, match=r"the action( \S+)* in row 3 is not "):
        dataset.check(replace(whole, action_space=space, action=actions))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"reward": np.zeros(3, np.float32)}, r"an array has the shape \(3,\), expected"),
        ({"obs": np.zeros((20, 3), np.float32)}, "an array has the shape"),
        ({"first": np.zeros(20, bool)}, "expected episodes of one step or more"),
        ({"first": np.ones(20, bool)}, "expected episodes of one step or more"),
        ({"obs": with_one(np.zeros((20, 1)), 4, np.nan)}, "the observation in row 4 is not finite"),
        ({"reward": with_one(np.zeros(20), 7, np.inf)}, "the reward in row 7 is not finite"),
        ({"action": with_one(np.arange(20), 3, 1000)}, r"the action 1000 in row 3 is not in Discr"),
        ({"action": with_one(np.arange(20), 0, -1)}, "the action -1 in row 0 is not in"),
    ],
)
def test_arrays_that_are_no_stream_are_refused(
    change: dict[str, Any], line: str, tmp_path: Path
) -> None:
    whole = counted(tmp_path / "whole", [9, 9])
    broken = replace(whole, **change)
    tree = {name: getattr(broken, name) for name in dataset.NAMES}
    spaces_of = [dataset.to_tree(space) for space in (whole.observation_space, whole.action_space)]
    dataset.checkpoint.write(tmp_path / "whole" / "stream", tree | {"spaces": spaces_of})
    with pytest.raises(RunError, match=line):
        dataset.read(tmp_path / "whole")
