"""Hindsight replay: new goals are what the episode achieved later, and rewards are judged by them.

The stream is made by hand: a row achieves the goal (column, row), and desires (-1, row), so that a
sample tells where its goals are from.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from neuraxis.agents import agent_class, agent_names
from neuraxis.agents.off_policy import OffPolicyAgent
from neuraxis.agents.replay.hindsight import HindsightReplay
from neuraxis.agents.replay.replay import Replay
from neuraxis.agents.replay.sample import Sample
from neuraxis.core.rollout import Rollout
from neuraxis.core.tree import leaves
from neuraxis.envs import EnvConfig, goals, make
from neuraxis.envs.goal_rewards import goal_rewards
from neuraxis.training.evaluate import evaluate

from .helpers import Counting, Training, claimed, collector, sampled, training

COLUMNS, LENGTH = 3, 4


def rewards(achieved: np.ndarray, desired: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The reward is 1000 for each row until the goal; there the episode terminates."""
    ahead = desired[:, 1] - achieved[:, 1]
    return (1000 * ahead).astype(np.float32), ahead == 0


class Stream:
    """What was written of each column, from its beginning, and the replay that got it."""

    def __init__(self, rollouts: int, seed: int = 0, parts: bool = False, **settings: Any) -> None:
        self.random = np.random.default_rng(seed)
        self.first = [[True] for _ in range(COLUMNS)]
        defaults = {"capacity": 24 * COLUMNS, "window": 2, "stride": 1, "strategy": "future"}
        chosen = defaults | settings
        self.replay = HindsightReplay(
            *(rewards, chosen.pop("strategy"), chosen.pop("n_sampled_goal", 4)),
            num_envs=COLUMNS,
            length=LENGTH,
            rng=np.random.default_rng(seed),
            device=torch.device("cpu"),
            **chosen,
        )
        for _ in range(rollouts):
            count = self.random.integers(1, COLUMNS + 1) if parts else COLUMNS
            self.add(np.sort(self.random.permutation(COLUMNS)[:count]))

    def add(self, columns: np.ndarray) -> None:
        """A rollout of some columns; one in eight restarts, and loses its last row."""
        begin = np.array([len(self.first[column]) - 1 for column in columns])
        for column in columns:
            self.first[column][-1] |= bool(self.random.random() < 1 / 8)
            opens = self.random.random(LENGTH) < 0.25
            self.first[column] += opens.tolist()
        rows = begin + np.arange(LENGTH + 1)[:, None]
        first = np.stack([self.first[column][-LENGTH - 1 :] for column in columns], 1)
        where = np.stack((np.broadcast_to(columns, rows.shape), rows), -1).astype(np.float32)
        desired = where.copy()
        desired[..., 0] = -1
        number = rows[:-1].astype(np.float32)
        rollout = Rollout(
            obs={"observation": where, "achieved_goal": where, "desired_goal": desired},
            first=first,
            action=number,
            reward=number,
            discount=np.full_like(number, 0.5),
            extras={},
            state=() if self.replay.stride == 1 else (np.zeros((1, len(columns))),),
            columns=columns,
            version=0,
            episodes=np.zeros((0, 4)),
        )
        self.replay.add(rollout.to("cpu"))

    def episode(self, column: int, row: int) -> tuple[int, int]:
        """The first and the newest row of an episode."""
        first = self.first[column]
        begin = max(r for r in range(row + 1) if first[r])
        return begin, next((r - 1 for r in range(row + 1, len(first)) if first[r]), len(first) - 1)


def segments(sample: Sample) -> Iterator[tuple[int, int, int]]:
    """(window, its first row and the row after the last one) of each episode in a sample."""
    first = sample.first.numpy()
    rows, count = first.shape
    for n in range(count):
        opens = [0, *(t for t in range(1, rows) if first[t, n]), rows]
        yield from ((n, *pair) for pair in pairwise(opens))


@pytest.mark.parametrize("strategy", ["future", "final", "episode"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"window": 7}, {"window": 8, "stride": 4}, {"alpha": 0.6}, {"capacity": 6 * COLUMNS}],
    ids=str,
)
@pytest.mark.parametrize(("rollouts", "parts"), [(3, False), (31, False), (40, True)])
def test_goals_are_what_the_episode_achieved_later(
    strategy: str, settings: dict[str, Any], rollouts: int, parts: bool
) -> None:
    """Before and after the ring is full, also where columns arrive at different times."""
    stream = Stream(rollouts, parts=parts, strategy=strategy, **settings)
    sample = sampled(stream.replay, 300)
    where, goal = (sample.obs[key].numpy().astype(int) for key in ("achieved_goal", "desired_goal"))
    oldest = stream.replay.windows.oldest
    changed = 0
    for n, begin, end in segments(sample):
        column, row = where[begin, n]
        opened, newest = stream.episode(column, row)
        assert (goal[begin:end, n, 0] == goal[begin, n, 0]).all(), "one goal for all of them"
        if goal[begin, n, 0] == -1:
            assert np.array_equal(goal[begin:end, n, 1], where[begin:end, n, 1]), "as it was"
            continue
        changed += 1
        (source,) = set(goal[begin:end, n, 1])
        least = {"future": row, "final": newest - 1, "episode": max(opened, oldest[column])}
        assert goal[begin, n, 0] == column and least[strategy] < source <= newest
        assert row < newest < len(stream.first[column])
    assert changed > 100


def test_rewards_and_ends_are_those_of_the_new_goals() -> None:
    sample = sampled(Stream(31, window=5).replay, 500)
    where, goal = (sample.obs[key].numpy() for key in ("achieved_goal", "desired_goal"))
    changed = (goal[:-1, :, 0] >= 0) & sample.valid.numpy()
    ahead = goal[:-1, :, 1] - where[1:, :, 1]
    assert changed.sum() > 500
    assert np.array_equal(sample.reward.numpy()[changed], 1000 * ahead[changed])
    assert np.array_equal(sample.discount.numpy()[changed], (ahead[changed] != 0).astype(float))
    # else as they were stored
    assert np.array_equal(sample.reward.numpy()[~changed], where[:-1, :, 1][~changed])
    assert (sample.discount.numpy()[~changed] == 0.5).all()


@pytest.mark.parametrize("n_sampled_goal", [1, 4])
def test_share_of_new_goals_and_their_distances(n_sampled_goal: int) -> None:
    """k of k + 1 windows with a future have a new goal, any of their future rows alike."""
    stream = Stream(6, n_sampled_goal=n_sampled_goal, capacity=100 * COLUMNS, window=1)
    sample = sampled(stream.replay, 20_000)
    where, goal = (
        sample.obs[key][0].numpy().astype(int) for key in ("achieved_goal", "desired_goal")
    )
    future = np.array([stream.episode(*pair)[1] for pair in where]) - where[:, 1]
    new = goal[future > 0, 0] >= 0
    assert new.mean() == pytest.approx(n_sampled_goal / (n_sampled_goal + 1), abs=0.02)
    assert not (goal[future == 0, 0] >= 0).any()
    for longest in range(1, 5):
        ahead = (goal - where)[(future == longest) & (goal[:, 0] >= 0), 1]
        counts = np.bincount(ahead, minlength=longest + 1)
        assert counts[0] == 0 and len(counts) == longest + 1
        assert np.allclose(counts[1:] / len(ahead), 1 / longest, atol=0.06)


def test_memory_of_another_goal_is_forgotten() -> None:
    sample = sampled(Stream(31, window=8, stride=4).replay, 300)
    new = sample.obs["desired_goal"][0, :, 0] >= 0
    assert sample.first[0][new].all() and not sample.first[0][~new].all()


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("rollouts", [0, 3, 40])
def test_a_loaded_replay_goes_on_as_the_first_one(rollouts: int, parts: bool) -> None:
    stream, other = Stream(rollouts, parts=parts, window=3), Stream(0, window=3)
    other.replay.load_state_dict(copy.deepcopy(stream.replay.state_dict()))
    other.replay.rng.bit_generator.state = stream.replay.rng.bit_generator.state
    other.random, other.first = copy.deepcopy((stream.random, stream.first))
    for _ in range(12):
        for each in (stream, other):
            each.add(np.arange(COLUMNS))
        one, same = (sampled(each.replay, 50) for each in (stream, other))
        for field in fields(Sample):
            pairs = zip(*(leaves(getattr(s, field.name)) for s in (one, same)), strict=True)
            assert all(np.array_equal(a, b) for a, b in pairs), field.name


def test_priorities_are_of_the_windows_whatever_their_goals() -> None:
    stream = Stream(6, alpha=1.0, window=1)
    starts, _ = stream.replay.draw(1)
    tree = stream.replay.tree
    assert tree is not None
    tree.set(np.arange(tree.size), 0.0)
    stream.replay.update_priorities(starts, np.ones(1))
    sample = sampled(stream.replay, 200)
    assert set(sample.starts) == set(starts)
    assert len(set(sample.obs["desired_goal"][0, :, 1].tolist())) > 1


def test_the_distribution_of_stable_baselines3() -> None:
    """Of the steps drawn, of the distances of their goals, and the rewards: HerReplayBuffer's."""
    vec_env = pytest.importorskip("stable_baselines3.common.vec_env")
    her = pytest.importorskip("stable_baselines3.her.her_replay_buffer")
    options = {"length": 5, "radius": 0.2, "size": 2}
    env_id, draws = "neuraxis/PointGoal-v0", 30_000
    theirs = vec_env.DummyVecEnv([lambda: gymnasium.make(env_id, **options)])
    buffer = her.HerReplayBuffer(
        *(10, theirs.observation_space, theirs.action_space, theirs),
        device="cpu",
        n_sampled_goal=3,
        goal_selection_strategy="future",
    )
    source = collector(env_id, 1, 5, kwargs=options, policy=Wandering())
    rollout = source.collect()
    place = {tuple(goal): t for t, goal in enumerate(rollout.obs["achieved_goal"][:, 0])}
    assert len(place) == 6, "all states differ"
    for t in range(5):
        now, later = ({k: v[t + i] for k, v in rollout.obs.items()} for i in range(2))
        step = rollout.action[t], rollout.reward[t], np.array([t == 4]), [{}]
        buffer.add(now, later, *step)
    ours = HindsightReplay(
        *(goal_rewards(EnvConfig(id=env_id, kwargs=options)), "future", 3),
        **{"capacity": 20, "num_envs": 1, "window": 1, "stride": 1, "length": 5},
        rng=np.random.default_rng(0),
        device=torch.device("cpu"),
    )
    ours.add(rollout.to("cpu"))
    sample, other = sampled(ours, draws), buffer.sample(draws)
    found = (sample.obs["achieved_goal"][0], sample.obs["desired_goal"][0], sample.reward[0])
    wanted = (
        other.observations["achieved_goal"],
        other.observations["desired_goal"],
        other.rewards[:, 0],
    )
    tables = [_table(place, *(part.numpy() for part in parts)) for parts in (found, wanted)]
    assert np.allclose(*tables, atol=0.01)


class Wandering(Counting):
    """Moves the point by its noise."""

    def initial_state(self, batch: int) -> Any:
        return ()

    def act(self, obs: Any, state: Any, first: Any, noise: Any = None, greedy: bool = False) -> Any:
        return 2 * noise - 1, {"noise": noise}, ()


def _table(place: dict[Any, int], achieved: Any, desired: Any, reward: Any) -> np.ndarray:
    """Shares [5, 7, 2] of each step, of the row that its goal is from (6: its own), and reward."""
    table = np.zeros((5, 7, 2))
    for now, goal, value in zip(achieved, desired, reward, strict=True):
        table[place[tuple(now)], place.get(tuple(goal), 6), int(value) + 1] += 1 / len(reward)
    return table


# --- the environments and their rewards


@pytest.mark.parametrize("name", ["BitFlip", "PointGoal"])
@pytest.mark.parametrize("terminates", [False, True])
def test_rewards_are_those_of_the_environment(name: str, terminates: bool) -> None:
    """Of N pairs at once, after the transforms of `env.reward_*`; the ends, too."""
    options = {"terminates": terminates} | ({"bits": 3} if name == "BitFlip" else {"radius": 1.0})
    env = EnvConfig(id=f"neuraxis/{name}-v0", kwargs=options, reward_scale=3.0, reward_clip=2.0)
    envs = make(env, 4, 0)
    judged = goal_rewards(env)
    envs.reset()
    seen: set[tuple[float, bool]] = set()
    ended = np.zeros(4, bool)
    for _ in range(40):
        resets = ended
        actions = np.stack([envs.action_space.sample() for _ in range(4)])
        obs, reward, terminated, truncated = envs.step(actions)
        ended = terminated | truncated
        found, over = judged(obs["achieved_goal"], obs["desired_goal"])
        assert found.dtype == np.float32 and over is not None
        for n in np.flatnonzero(~resets):
            assert found[n] == max(-2, 3 * reward[n]) and over[n] == terminated[n]
            seen.add((reward[n], bool(over[n])))
    assert seen == {(-1.0, False), (0.0, terminates)}


class Singly(goals.PointGoal):
    """Its functions take one pair of goals: of N pairs they make one number."""

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> float:
        return -float(np.linalg.norm(achieved_goal - desired_goal))

    def compute_terminated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> bool:
        return bool(np.linalg.norm(achieved_goal - desired_goal) < 0.5)


class Counted(goals.BitFlip):
    """Its goals are numbers from 5 on."""

    def __init__(self) -> None:
        super().__init__(3)
        number = spaces.Discrete(8, start=5)
        names = ("observation", "achieved_goal", "desired_goal")
        self.observation_space = spaces.Dict({name: number for name in names})

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        assert np.min(achieved_goal) >= 5
        return (achieved_goal == desired_goal) - 1.0

    compute_terminated: Any = property()  # which has_wrapper_attr does not find


def test_rewards_that_cannot_be_computed_are_refused() -> None:
    gymnasium.register("test/Silent-v0", "neuraxis.envs.builtin.diagnostic:Counter")
    with pytest.raises(
        ValueError, match=r"env\.id='test/Silent-v0': agent\.hindsight needs .* none$"
    ):
        goal_rewards(EnvConfig(id="test/Silent-v0"))
    gymnasium.register("test/Informed-v0", lambda **_: Informed())
    with pytest.raises(ValueError, match=r"^test/Informed-v0: compute_reward .* empty info: KeyE"):
        goal_rewards(EnvConfig(id="test/Informed-v0"))


class Informed(goals.BitFlip):
    """Its rewards need more than the goals."""

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        return info["height"] * super().compute_reward(achieved_goal, desired_goal, info)


def test_functions_of_one_pair_and_goals_in_other_numbers() -> None:
    gymnasium.register("test/Singly-v0", lambda **_: Singly())
    achieved, desired = np.random.default_rng(0).uniform(-1, 1, (2, 50, 3)).astype(np.float32)
    reward, over = goal_rewards(EnvConfig(id="test/Singly-v0"))(achieved, desired)
    distance = np.linalg.norm(achieved - desired, axis=1)
    assert over is not None
    assert np.allclose(reward, -distance) and np.array_equal(over, distance < 0.5)
    gymnasium.register("test/Counted-v0", lambda **_: Counted())
    reward, over = goal_rewards(EnvConfig(id="test/Counted-v0"))(np.arange(3), np.zeros(3, int))
    assert reward.tolist() == [0, -1, -1] and over is None


def test_success_of_episodes_is_told_in_order() -> None:
    """It is that of the last state, the row before the one that opens the next episode."""
    rollout = collector("neuraxis/BitFlip-v0", 5, 40, kwargs={"bits": 2}).collect()
    reached = (rollout.obs["achieved_goal"] == rollout.obs["desired_goal"]).all(-1)
    for column in range(5):
        ends = np.flatnonzero(rollout.first[1:, column])
        found = rollout.episodes[rollout.episodes[:, 0] == column, 3]
        assert found[: len(ends)].tolist() == reached[ends, column].tolist()
    assert set(rollout.episodes[:, 3]) == {0, 1}
    assert np.isnan(collector().collect().episodes[:, 3]).all()


# --- learning


@pytest.mark.parametrize("network", ["mlp", "lstm"])
@pytest.mark.parametrize(
    "agent", [name for name in agent_names() if issubclass(agent_class(name), OffPolicyAgent)]
)
def test_every_agent_with_a_replay_has_it(agent: str, network: str) -> None:
    """Its minibatches have new goals, and rewards that these have paid."""
    if network != "mlp" and not agent_class(agent).memory:
        pytest.skip("without memory")
    env = "BitFlip" if "discrete" in claimed(agent) else "PointGoal"
    run = training(
        *(f"agent={agent}", f"env=neuraxis/{env}-v0", f"network={network}", "num_envs=4"),
        *("agent.learning_starts=100", "agent.gradient_steps=1", "env.reward_scale=0.5"),
        *("agent.hindsight=future", "agent.n_step=2", "agent.sequence_length=8"),
    )
    losses = [run.step().get("loss/td") for _ in range(8)]
    assert losses[-1] is not None and np.isfinite(losses[-1])
    replay = run.agent.replay
    sample = sampled(replay, 500)
    stored = Replay.gather(replay, sample.starts, np.ones(500, np.float32))
    goals = (drawn.obs["desired_goal"][0] for drawn in (sample, stored))
    assert 0.1 < torch.eq(*goals).all(-1).float().mean() < 0.5
    assert set(sample.reward[sample.valid].tolist()) == {0.0, -0.5}


BITS = (
    *("agent=dqn", "env=neuraxis/BitFlip-v0", "agent.target_update_interval=100"),
    *("agent.learning_starts=200", "agent.learning_rate=2e-3", "agent.gamma=0.95"),
)
POINT = (
    *("agent=sac", "env=neuraxis/PointGoal-v0", "env.kwargs.size=2", "env.kwargs.radius=0.1"),
    *("env.kwargs.length=25", "agent.gradient_steps=16", "agent.batch_size=128", "agent.tau=0.02"),
    *("agent.learning_starts=200", "agent.learning_rate=3e-3", "agent.gamma=0.9"),
)


def success(run: Training) -> float:
    """The share of successes of the greedy policy."""
    return evaluate(run.agent.policy, run.cfg.env, 40, 1)["evaluate/success"]


@pytest.mark.parametrize("words", [BITS, POINT], ids=["dqn", "sac"])
def test_goals_are_reached_with_hindsight_only(words: tuple[str, ...]) -> None:
    small = "network.blocks.0.sizes=[64,64]"
    run = training(*words, small, "agent.hindsight=future", "total_steps=12_000")
    assert any(i % 8 == 0 and success(run) > 0.9 for i, _ in enumerate(run.run(), 1))
    control = training(*words, small, f"total_steps={run.agent.steps}")
    for _ in control.run():
        pass
    assert success(control) < 0.2
