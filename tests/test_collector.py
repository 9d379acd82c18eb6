"""The collector's bookkeeping: an environment that counts, policies that tell what they saw."""

from __future__ import annotations

from collections import Counter
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from neuraxis.agents.policies.policy import Policy
from neuraxis.core.rollout import Rollout, join
from neuraxis.core.tree import leaves
from neuraxis.envs import EnvError, diagnostic
from neuraxis.envs.regrouping import regroup

from .helpers import Counting, Training, collector, training


class Watched(diagnostic.Counter):
    """Counts what really happens in the environments."""

    steps = resets = 0

    def reset(self, **options: Any) -> Any:
        Watched.resets += 1
        return super().reset(**options)

    def step(self, action: int) -> Any:
        Watched.steps += 1
        return super().step(action)


def same(one: Rollout, other: Rollout) -> bool:
    """Bit for bit, all but the time."""
    trees = ((vars(one)[name], vars(other)[name]) for name in vars(one))
    pairs = (pair for a, b in trees for pair in zip(leaves(a), leaves(b), strict=True))
    arrays = ((np.asarray(a), np.asarray(b)) for a, b in pairs)
    return all(
        (a.tobytes(), a.shape, a.dtype) == (b.tobytes(), b.shape, b.dtype) for a, b in arrays
    )


def counted(length: int, truncate: bool, rollouts: int = 7, size: int = 8) -> list[Rollout]:
    source = collector(kwargs={"length": length, "truncate": truncate}, length=size)
    return [source.collect() for _ in range(rollouts)]


@pytest.mark.parametrize("truncate", [False, True])
@pytest.mark.parametrize("length", [1, 5, 100])
def test_rows_of_a_counter(length: int, truncate: bool) -> None:
    """A stream of an environment that counts to 5 reads 0 1 2 3 4 5 0 1 ..., on and on."""
    t = 0
    for rollout in counted(length, truncate):
        rows = np.arange(t, t + 9) % (length + 1)  # T+1 states
        steps = rows[1:]  # of the state that the action leads to
        assert np.array_equal(rollout.obs, np.broadcast_to(rows[:, None, None], (9, 3, 1)))
        assert np.array_equal(rollout.first, np.broadcast_to((rows == 0)[:, None], (9, 3)))
        assert np.array_equal(rollout.valid[:, 0], steps != 0)
        assert np.array_equal(rollout.reward[:, 0], steps)  # 0 at the reset
        ended = (steps == length) & (not truncate)
        assert np.array_equal(rollout.discount[:, 0], 1.0 - ended)
        assert rollout.reward.dtype == rollout.discount.dtype == np.float32
        t += 8


def test_valid_transitions_are_the_environments_steps() -> None:
    gymnasium.register("test/Watched-v0", lambda **kwargs: Watched(**kwargs))
    source = collector("test/Watched-v0")
    Watched.steps = Watched.resets = 0  # each column was opened once
    rollouts = [source.collect() for _ in range(9)]
    assert sum(rollout.steps for rollout in rollouts) == Watched.steps
    resets = sum(int((~rollout.valid).sum()) for rollout in rollouts)
    assert resets == Watched.resets == 36  # 72 steps of 3 columns, each sixth a reset
    assert Watched.steps == 3 * 72 - 36


def test_a_transition_joins_its_own_states() -> None:
    for rollout in counted(5, truncate=True):
        jumps = (rollout.obs[1:] - rollout.obs[:-1])[..., 0]
        assert (jumps[rollout.valid] == 1).all() and (jumps[~rollout.valid] == -5).all()


def test_episodes() -> None:
    rollouts = counted(5, truncate=False, rollouts=3)
    # an episode is 5 steps and a reset: it ends at t = 4, 10, 16, 22 of 24, in each of 3 columns
    assert [len(rollout.episodes) for rollout in rollouts] == [3, 3, 6]
    rows = np.concatenate([rollout.episodes for rollout in rollouts])
    assert rows.dtype == np.float64
    assert rows[:, :3].tolist() == [[column, 15.0, 5.0] for _ in range(4) for column in range(3)]


def test_episodes_keep_the_raw_reward() -> None:
    options = {"reward_scale": 2.0, "reward_clip": 5.0}
    rollout = collector(options=options).collect()
    assert rollout.reward[:5, 0].tolist() == [2.0, 4.0, 5.0, 5.0, 5.0]
    assert rollout.episodes[0, :3].tolist() == [0, 15.0, 5.0]


def test_memory_is_given_and_taken() -> None:
    """Acting sees the memory of the row before, until a new episode forgets it."""
    source = collector()
    end = np.zeros((1, 3), np.float32)
    for _ in range(4):
        rollout = source.collect()
        (start,) = rollout.state
        assert np.array_equal(start, end)  # of the first row, as the last rollout left it
        assert np.array_equal(rollout.extras["before"], rollout.obs[:-1, :, 0])
        end = rollout.extras["before"][-1:] + 1


def test_each_column_has_its_own_noise() -> None:
    one, two = (collector(seed=seed).collect().extras["noise"] for seed in (0, 1))
    assert one.shape == (8, 3, 2) and len(np.unique(one)) == one.size
    assert not np.intersect1d(one, two).size
    assert ((one >= 0) & (one < 1)).all()


@pytest.mark.parametrize("policy", [Counting, None])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1", "neuraxis/Memory-v0"])
def test_two_collectors_are_one(env_id: str, policy: type[Counting] | None) -> None:
    """Four columns, and twice two of them: the same, bit for bit."""

    def build(num_envs: int, first_column: int) -> Any:
        made = policy() if policy else network(env_id)
        return collector(env_id, num_envs, 40, first_column, made)

    whole, left, right = build(4, 0), build(2, 0), build(2, 2)
    for _ in range(3):
        one, two = whole.collect(), join([left.collect(), right.collect()])
        exact = ("obs", "first", "action", "reward", "discount", "columns")
        for name in exact if policy is None else vars(one):
            if name != "episodes":
                for a, b in zip(leaves(vars(one)[name]), leaves(vars(two)[name]), strict=True):
                    assert np.array_equal(a, b), name
        order = [sorted(rollout.episodes[:, :3].tolist()) for rollout in (one, two)]
        assert order[0] == order[1]


def network(env_id: str, *words: str) -> Policy:
    words = ("agent=ppo", f"env={env_id}", "network=lstm", "num_envs=1", *words)
    return training(*words).agent.policy


@pytest.mark.parametrize("settings", [{}, {"vectorization": "sync"}, {"last_action": True}])
def test_columns_go_on_in_other_groups(settings: dict[str, Any]) -> None:
    """From one group to two and back: each column as if it had stayed where it was."""
    words = [f"env.{key}={value}" for key, value in settings.items()]
    policy = network("CartPole-v1", *words)

    def build(num_envs: int, first_column: int) -> Any:
        return collector("CartPole-v1", num_envs, 40, first_column, policy, **settings)

    def loaded(states: list[dict[str, Any]], groups: int) -> list[Any]:
        size = 4 // groups
        built = [build(size, group * size) for group in range(groups)]
        for one, state in zip(built, regroup(states, groups), strict=True):
            assert one.load_state_dict(state) == Counter(), "each is where it stood"
        return built

    stayed = build(4, 0)
    moved = [build(4, 0)]
    for groups in (1, 2, 4, 1):
        moved = loaded([one.state_dict() for one in moved], groups)
        expected, found = stayed.collect(), join([one.collect() for one in moved])
        for name in ("obs", "first", "action", "reward", "discount", "columns"):
            pairs = zip(*(leaves(vars(one)[name]) for one in (expected, found)), strict=True)
            assert all(np.array_equal(*pair) for pair in pairs), name
        assert sorted(found.episodes[:, :3].tolist()) == sorted(expected.episodes[:, :3].tolist())


GROUPED = {
    "ppo-mlp": ("agent=ppo", "agent.n_steps=32", "agent.batch_size=64"),
    "ppo-lstm": ("agent=ppo", "agent.n_steps=32", "agent.batch_size=64", "network=lstm"),
    "dqn": ("agent=dqn", "agent.learning_starts=64", "agent.batch_size=16"),
}


@pytest.mark.parametrize("name", GROUPED)
def test_groups_change_nothing(name: str) -> None:
    """Law 4: training is the same however the columns are grouped."""

    def metrics(groups: int) -> list[dict[str, float]]:
        settings = ("total_steps=1000", "num_envs=4", "network.blocks.0.sizes=[16]")
        run = training(*GROUPED[name], *settings, f"groups={groups}")
        rows = [run.step() for _ in range(6)]
        assert run.agent.steps > 150
        return rows

    one = metrics(1)
    assert "loss/value" in one[-1] or "loss/td" in one[-1]
    for groups in (2, 4):
        for row, expected in zip(metrics(groups), one, strict=True):
            assert row == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_a_reward_that_is_no_number() -> None:
    source = collector("neuraxis/Faulty-v0", first_column=4, kwargs={"nan_reward_at": 5})
    with pytest.raises(EnvError, match=r"column 4 .*nan.*finite"):
        source.collect()


def test_a_failing_environment_is_named() -> None:
    source = collector("neuraxis/Faulty-v0", kwargs={"raise_at_step": 3})
    with pytest.raises(EnvError, match=r"Faulty-v0, column 0.*step 3 is faulty"):
        source.collect()


class Leaping(gymnasium.Env[Any, Any]):
    """Shows the action that it was given."""

    observation_space = gymnasium.spaces.Box(-10, 10, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-2, 2, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.asarray(action, np.float32), 0.0, False, False, {}


class Fixed(Counting):
    """Always the same action, far out of bounds in odd columns."""

    def act(self, obs: Any, state: Any, first: Any, noise: Any = None, greedy: bool = False) -> Any:
        _, extras, state = super().act(obs, state, first, noise, greedy)
        return torch.tensor([[0.25], [-7.0], [0.25]]), extras, state


def test_actions_are_stored_as_chosen() -> None:
    """The density is of the unclipped action; the environment gets it within its bounds."""
    gymnasium.register("test/Leaping-v0", lambda **kwargs: Leaping(**kwargs))
    rollout = collector("test/Leaping-v0", policy=Fixed()).collect()
    assert (rollout.action[:, :, 0] == [0.25, -7.0, 0.25]).all()
    assert (rollout.obs[1:, :, 0] == [0.5, -2.0, 0.5]).all()  # [-1, 1] to the agent, [-2, 2] to it


def test_state_dict_goes_back() -> None:
    source = collector()
    for _ in range(3):
        source.collect()
    saved = source.state_dict()
    expected = [source.collect() for _ in range(3)]
    again = collector()
    assert again.load_state_dict(saved) == Counter()
    assert all(same(again.collect(), rollout) for rollout in expected)


def test_a_column_that_cannot_go_back_opens_an_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the step before is none, and memory is forgotten."""
    source = collector()
    source.collect()  # after 8 rows each column stands at 2
    saved = source.state_dict()
    again = collector()
    restore = again.envs.restore

    def forgetful(snapshot: Any) -> np.ndarray:
        snapshot["obs"][1] = -1  # not what a repeated column 1 sees
        return restore(snapshot)

    monkeypatch.setattr(again.envs, "restore", forgetful)
    assert again.load_state_dict(saved) == Counter(reopened=1)
    rollout = again.collect()
    assert rollout.first[0].tolist() == [False, True, False]
    assert rollout.obs[:2, :, 0].tolist() == [[2, 0, 2], [3, 1, 3]]
    assert rollout.extras["before"][0].tolist() == [2, 0, 2]
    lengths = {int(column): length for column, _, length, _ in rollout.episodes[::-1]}
    assert lengths[1] == 5.0  # the episode that was cut off is not counted on


def test_published_weights_are_numbered() -> None:
    run: Training = training("num_envs=2", "agent.n_steps=4", "agent.batch_size=8")
    versions = []
    for _ in range(3):
        rollout = run.rollout()
        versions.append(rollout.version)
        run.agent.learn(rollout)
        run.source.publish(run.agent.policy)
    assert versions == [0, 1, 2]


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        ("neuraxis/Counter-v0", {"length": 3}),
        ("neuraxis/Identity-v0", {"action_space": "multidiscrete", "size": 2, "length": 3}),
    ],
)
def test_the_last_action_and_reward_are_seen(env_id: str, kwargs: dict[str, Any]) -> None:
    """Row t + 1 shows action and reward of row t, as the agent sees them; an opening row zeros."""
    words = ("agent=ppo", f"env={env_id}", "env.last_action=true", "env.reward_scale=2")
    words += tuple(f"env.kwargs.{key}={value}" for key, value in kwargs.items())
    run = training(*words, "env.reward_clip=3", "num_envs=3", "agent.n_steps=8")
    before = None
    for _ in range(3):
        rollout = run.source.next()
        action, reward = rollout.obs["last_action"], rollout.obs["last_reward"][..., 0]
        one_hot = np.eye(2, dtype=np.float32)[rollout.action].reshape(8, 3, -1)
        assert rollout.first[1:].any()
        assert np.array_equal(action[1:], one_hot * rollout.valid[..., None])
        assert np.array_equal(reward[1:], rollout.reward * rollout.valid)
        assert reward.max() in (2, 3)
        if before is None:
            assert not action[0].any() and not reward[0].any()
        else:
            assert np.array_equal(action[0], before.obs["last_action"][-1])
            assert np.array_equal(reward[0], before.obs["last_reward"][-1, :, 0])
        before = rollout
