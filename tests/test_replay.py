"""The replay holds the stream of an environment that counts, so every sample can be judged."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from neuraxis.agents import Setup
from neuraxis.agents.replay.location import locate
from neuraxis.agents.replay.replay import Replay
from neuraxis.agents.replay.sample import Sample
from neuraxis.agents.replay.sumtree import SumTree
from neuraxis.core.images import image_space
from neuraxis.core.tree import map_tree

from .helpers import collector, config, part, sampled

COLUMNS = 3
CPU = torch.device("cpu")


class Feed:
    """A replay and the collector that fills it: episodes of 5 steps, so 6 rows."""

    def __init__(self, stride: int = 4, rollouts: int = 5, **settings: Any) -> None:
        defaults = {"capacity": 40 * COLUMNS, "window": 3, "stride": stride}
        self.rng = np.random.default_rng(0)
        self.length = stride if stride > 1 else 4
        settings = defaults | settings | {"num_envs": COLUMNS, "length": self.length}
        self.replay = Replay(rng=self.rng, device=CPU, **settings)
        self.source = collector(num_envs=COLUMNS, length=self.length)
        self.add(rollouts)

    def add(self, rollouts: int = 1) -> None:
        for _ in range(rollouts):
            self.replay.add(self.source.collect().to("cpu"))

    @property
    def starts(self) -> list[range]:
        """The blocks (ever counted) where a window can begin, of each column."""
        return [range(*pair) for pair in zip(*self.replay.windows.span, strict=True)]


def position(sample: Sample, feed: Feed) -> tuple[np.ndarray, np.ndarray]:
    """Row (ever counted, of those that the ring may hold) and column of each window."""
    blocks, columns = np.divmod(sample.starts, COLUMNS)
    windows = feed.replay.windows
    rows = [
        {block % windows.blocks: block * windows.stride for block in own} for own in feed.starts
    ]
    found = [rows[column][block] for block, column in zip(blocks, columns, strict=True)]
    return np.array(found), columns


@pytest.mark.parametrize("rollouts", [1, 5, 9, 10, 11, 37])  # the ring holds 10
@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("window", [1, 3, 4])
def test_windows_are_the_stream(window: int, stride: int, rollouts: int) -> None:
    """Whatever was overwritten: row r reads r mod 6, and no transition jumps."""
    feed = Feed(stride, rollouts, window=window)
    sample = sampled(feed.replay, 300)
    start, _ = position(sample, feed)
    rows = start + np.arange(window + 1)[:, None]
    obs = sample.obs[..., 0].numpy()
    assert np.array_equal(obs, rows % 6)
    assert np.array_equal(sample.first.numpy(), rows % 6 == 0)
    valid = sample.valid.numpy()
    assert ((obs[1:] - obs[:-1])[valid] == 1).all() and ((obs[1:] - obs[:-1])[~valid] == -5).all()
    assert np.array_equal(sample.reward.numpy(), obs[1:])
    assert np.array_equal(sample.discount.numpy() == 0, obs[1:] == 5)
    assert (sample.weight == 1).all()


def test_actions_are_of_their_column() -> None:
    """Actions are random, so they tell columns and rows apart."""
    feed = Feed(rollouts=0)
    rollouts = [feed.source.collect() for _ in range(30)]
    for rollout in rollouts:
        feed.replay.add(rollout.to("cpu"))
    stream = np.concatenate([rollout.action for rollout in rollouts])
    sample = sampled(feed.replay, 500)
    start, columns = position(sample, feed)
    expected = stream[start + np.arange(3)[:, None], columns]
    assert np.array_equal(sample.action.numpy(), expected)
    assert set(columns) == set(range(COLUMNS))


def test_every_start_is_drawn() -> None:
    feed = Feed(stride=1, rollouts=20)  # 80 rows; the ring of 40 holds states 41 ... 80
    assert feed.starts == [range(41, 78)] * COLUMNS  # the last window of 3 is rows 77 ... 80
    start, _ = position(sampled(feed.replay, 4000), feed)
    assert set(start) == set(range(41, 78))


def test_starts_before_and_after_the_ring_is_full() -> None:
    feed = Feed(stride=4, rollouts=0, window=6)
    seen = []
    for _ in range(12):
        feed.add()
        (held,) = set(feed.starts)
        seen.append((held.start, held.stop))
    # blocks of 4 rows; after n rollouts 4n + 1 states, of which the ring keeps the last 40:
    # with n = 10 state 0 is overwritten, with it block 0. A window of 6 ends 2 blocks before n.
    assert seen[:3] == [(0, 0), (0, 1), (0, 2)]
    assert seen[8:] == [(0, 8), (1, 9), (2, 10), (3, 11)]


def test_stored_memory_belongs_to_its_window() -> None:
    """The memory counts the rows of the episode: before row r that is r mod 6, or 6 at a reset."""
    feed = Feed(stride=4, rollouts=37)
    sample = sampled(feed.replay, 300)
    start, _ = position(sample, feed)
    (memory,) = sample.state
    assert memory.shape == (1, 300)
    assert np.array_equal(memory[0].numpy(), np.where(start % 6 == 0, 6, start % 6))


def test_length() -> None:
    feed = Feed(rollouts=2)
    assert len(feed.replay) == 2 * 4 * COLUMNS
    feed.add(30)
    assert len(feed.replay) == 39 * COLUMNS  # 40 states


def test_too_small_a_buffer_is_refused() -> None:
    rng = np.random.default_rng(0)
    # a window of 9 steps and the next row are 10 rows, 11 with what division by 3 may lose;
    # a rollout of 20 needs 21
    for length, enough in ((4, 33), (20, 66)):
        with pytest.raises(ValueError, match=rf"agent.buffer_size=20: .*at least {enough}$"):
            Replay(20, COLUMNS, window=9, stride=1, length=length, rng=rng, device=CPU)
        Replay(enough, COLUMNS, window=9, stride=1, length=length, rng=rng, device=CPU)


def test_priorities_are_frequencies() -> None:
    feed = Feed(stride=1, rollouts=2, alpha=0.5, window=1)
    replay = feed.replay
    items = np.arange(8 * COLUMNS)
    priority = np.random.default_rng(1).uniform(0, 9, len(items))
    replay.update_priorities(items, priority)
    counts = np.bincount(sampled(replay, 200_000).starts, minlength=len(items))
    expected = np.sqrt(priority) / np.sqrt(priority).sum()
    assert np.allclose(counts / 200_000, expected, atol=2e-4)  # stratified: closer than by chance


def test_importance_weights_by_hand() -> None:
    feed = Feed(stride=1, rollouts=1, alpha=1.0, window=1)
    priority = np.array([1.0, 3.0] + [2.0] * 10)  # of 4 starts in 3 columns; the sum is 24
    feed.replay.update_priorities(np.arange(12), priority)
    sample = sampled(feed.replay, 240, beta=0.5)
    # N P(i) = 12 p / 24 = p / 2, to the power -0.5, divided by the largest, that of p = 1:
    # p = 1: 1, p = 2: sqrt(1/2), p = 3: sqrt(1/3)
    expected = np.sqrt(1 / priority[sample.starts])
    assert np.allclose(sample.weight.numpy(), expected, atol=1e-6)
    assert (sampled(feed.replay, 240, beta=0.0).weight == 1).all()


def test_new_windows_have_the_highest_priority() -> None:
    feed = Feed(stride=4, rollouts=3, alpha=0.5)
    tree = feed.replay.tree
    assert tree is not None
    assert feed.starts == [range(3)] * COLUMNS
    assert (tree.priorities[: 3 * COLUMNS] == 1).all()  # before any error is known
    feed.replay.update_priorities(np.array([0, 1, 5]), np.array([100.0, 0.25, 4.0]))
    assert tree.priorities[:9].tolist() == [10.0, 0.5, 1, 1, 1, 2.0, 1, 1, 1]
    feed.add()
    assert (tree.priorities[9:12] == 10).all() and not tree.priorities[12:].any()


def test_overwritten_windows_are_gone() -> None:
    feed = Feed(stride=4, rollouts=3, alpha=1.0)
    replay, tree = feed.replay, feed.replay.tree
    assert tree is not None
    for _ in range(40):
        feed.add()
        replay.update_priorities(sampled(replay, 8).starts, np.full(8, 2.0))
        alive = np.zeros((10, COLUMNS), bool)
        alive[np.array(feed.starts[0]) % 10] = True
        assert ((tree.priorities > 0) == alive.ravel()).all()


@pytest.mark.parametrize("alpha", [0.0, 0.6])
@pytest.mark.parametrize("rollouts", [1, 5, 23])
def test_state_dict_gives_the_same_samples(rollouts: int, alpha: float) -> None:
    feed = Feed(rollouts=rollouts, alpha=alpha)
    if alpha:
        starts = sampled(feed.replay, 16).starts
        feed.replay.update_priorities(starts, np.arange(16.0) + 1)
    state = copy.deepcopy((feed.replay.state_dict(), feed.source.state_dict()))
    again = Feed(rollouts=0, alpha=alpha)
    again.rng.bit_generator.state = feed.rng.bit_generator.state
    again.replay.load_state_dict(state[0])
    again.source.load_state_dict(state[1])
    for _ in range(14):  # over the end of the ring
        for one in (feed, again):
            one.add()
        a, b = sampled(feed.replay, 32, 0.7), sampled(again.replay, 32, 0.7)
        assert np.array_equal(a.starts, b.starts)
        for name in ("obs", "first", "action", "reward", "discount", "weight"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        assert torch.equal(a.state[0], b.state[0])
        if alpha:
            for one, sample in ((feed, a), (again, b)):
                one.replay.update_priorities(sample.starts, sample.reward.sum(0).numpy() + 0.1)


def test_an_empty_replay_round_trips() -> None:
    again = Feed(rollouts=0, alpha=0.5)
    again.replay.load_state_dict(Feed(rollouts=0, alpha=0.5).replay.state_dict())
    again.add(3)
    assert len(sampled(again.replay, 5).starts) == 5


def test_draws_when_all_columns_arrive_together() -> None:
    """A block for each window, then a column for each: two calls of the generator, as ever."""
    feed = Feed(stride=1, rollouts=20, window=3)  # the ring of 40 rows has blocks 41 ... 77
    rng = copy.deepcopy(feed.rng)
    for count in (7, 300):
        blocks = rng.integers(41, 78, count) % 40
        expected = blocks * COLUMNS + rng.integers(0, COLUMNS, count)
        assert np.array_equal(sampled(feed.replay, count).starts, expected)


def apart(alpha: float, stride: int, rollouts: int) -> tuple[Feed, Feed]:
    """Two replays of the same stream: one lacks the last four rollouts of column 1."""
    late, whole = Feed(stride, 0, alpha=alpha), Feed(stride, 0, alpha=alpha)
    for number in range(rollouts):
        rollout = whole.source.collect().to("cpu")
        whole.replay.add(rollout)
        late.replay.add(part(rollout, [2, 0]))
        if number < rollouts - 4:
            late.replay.add(part(rollout, [1]))
    return late, whole


@pytest.mark.parametrize("rollouts", [8, 37])  # the ring holds 10
@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_columns_may_arrive_at_different_times(alpha: float, stride: int, rollouts: int) -> None:
    """Each window is the stream of its column; each is drawn, and as often as any other."""
    late, whole = apart(alpha, stride, rollouts)
    held = late.starts
    assert held[0] == held[2] == whole.starts[0] and held[1].stop < held[0].stop
    sample = sampled(late.replay, 30_000)
    start, columns = position(sample, late)
    rows = start + np.arange(4)[:, None]
    assert np.array_equal(sample.obs[..., 0].numpy(), rows % 6)
    assert np.array_equal(sample.first.numpy(), rows % 6 == 0)
    (memory,) = sample.state
    if stride > 1:
        expected = np.where((start % 6 == 0) & (start > 0), 6, start % 6)
        assert np.array_equal(memory[0].numpy(), expected)
    both = np.isin(columns, (0, 2))
    theirs = whole.replay.gather(sample.starts[both], np.ones(int(both.sum()), np.float32))
    assert np.array_equal(sample.action.numpy()[:, both], theirs.action.numpy())
    windows, counts = np.unique(sample.starts, return_counts=True)
    resets = (not stride - 1) and alpha > 0  # these have nothing to learn from
    there = [(c, b) for c in range(COLUMNS) for b in held[c] if not (resets and b % 6 == 5)]
    assert len(windows) == len(there)
    assert np.allclose(counts, 30_000 / len(there), rtol=0.35)


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_columns_apart_are_saved(alpha: float) -> None:
    late, again = apart(alpha, 4, 12)[0], Feed(rollouts=0, alpha=alpha)
    again.replay.load_state_dict(copy.deepcopy(late.replay.state_dict()))
    again.rng.bit_generator.state = late.rng.bit_generator.state
    again.source.load_state_dict(late.source.state_dict())
    for columns in ([1], [0, 1, 2], [1, 2]):
        for one in (late, again):
            one.replay.add(part(one.source.collect().to("cpu"), columns))
        a, b = sampled(late.replay, 64, 0.7), sampled(again.replay, 64, 0.7)
        assert np.array_equal(a.starts, b.starts)
        assert torch.equal(a.obs, b.obs) and torch.equal(a.state[0], b.state[0])


def test_a_single_column_is_enough() -> None:
    feed = Feed(rollouts=0)
    assert not feed.replay.ready
    for _ in range(3):
        feed.replay.add(part(feed.source.collect().to("cpu"), [1]))
    assert feed.replay.ready and len(feed.replay) == 12
    assert set(position(sampled(feed.replay, 50), feed)[1]) == {1}


def test_windows_of_resets_have_no_priority() -> None:
    """Row 5 of 6 leads to a reset: with a window's first step alone to learn from, it is empty."""
    feed = Feed(stride=1, rollouts=3, alpha=0.6, window=3)
    tree = feed.replay.tree
    assert tree is not None
    found = tree.priorities[: 10 * COLUMNS].reshape(10, COLUMNS)
    assert np.array_equal(found, np.repeat([[1, 1, 1, 1, 1, 0, 1, 1, 1, 1]], COLUMNS, 0).T)
    assert set(position(sampled(feed.replay, 500), feed)[0]) == set(range(10)) - {5}
    two = Feed(stride=1, rollouts=3, alpha=0.6, window=3, learned=slice(0, 2)).replay.tree
    assert two is not None and (two.priorities[: 10 * COLUMNS] == 1).all()


def test_nothing_but_resets_is_nothing_to_draw() -> None:
    feed = Feed(stride=1, rollouts=0, alpha=0.6, window=1)
    rollout = feed.source.collect().to("cpu")
    feed.replay.add(replace(rollout, first=torch.ones_like(rollout.first)))
    assert not feed.replay.ready


def test_only_memories_that_were_written_are_saved() -> None:
    feed = Feed(stride=4, rollouts=3)
    state = feed.replay.state_dict()
    assert state["memories"]["state"][0].shape == (3, COLUMNS, 1)
    assert state["steps"]["reward"].shape == (13, COLUMNS)
    feed.add(20)
    assert feed.replay.state_dict()["memories"]["state"][0].shape == (10, COLUMNS, 1)


def test_a_replay_lies_where_its_agent_learns() -> None:
    """Also one that was loaded; `meta` stands for a GPU."""
    saved = Feed(rollouts=2).replay.state_dict()
    settings: dict[str, Any] = {
        "window": 3,
        "stride": 4,
        "length": 4,
        "rng": np.random.default_rng(0),
    }
    replay = Replay(120, COLUMNS, **settings, device=torch.device("meta"))
    replay.load_state_dict(saved)
    devices: list[str] = []
    for ring in (replay.steps, replay.memories):
        map_tree(lambda leaf: devices.append(leaf.device.type), ring.trees)
    assert set(devices) == {"meta"} and len(devices) == 8  # two of them extras


@pytest.mark.parametrize(
    ("wish", "size", "found"),
    [("auto", 40, "cuda"), ("auto", 60, "cpu"), ("learner", 60, "cuda"), ("cpu", 40, "cpu")],
)
def test_a_replay_lies_where_there_is_room(
    wish: Any, size: float, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU with 100 bytes that are free; beside a CPU that learns there is no choice."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 200))
    assert locate(wish, torch.device("cuda", 0), size).type == found
    assert locate(wish, CPU, size) == CPU


def test_the_size_of_a_step_is_what_the_replay_keeps() -> None:
    """Frames of a stack count once."""
    image = image_space(spaces.Box(0, 255, (4, 84, 84), np.uint8), "chw")
    assert image is not None
    seen = spaces.Dict({"image": image, "speed": spaces.Box(-1, 1, (3,), np.float32)})
    action = spaces.Tuple((spaces.Discrete(4), spaces.Box(-1, 1, (2,), np.float32)))
    cfg = config("agent=dqn")
    setup = Setup(cfg.network, seen, action, 1, 1, 0, CPU, None, stacked=4)
    assert setup.step_bytes == 84 * 84 + 3 * 4 + 8 + 2 * 4


@pytest.mark.parametrize("ring", ["steps", "memories"])
def test_a_replay_that_does_not_fit_says_so(ring: str) -> None:
    feed = Feed(rollouts=0)
    getattr(feed.replay, ring).rows = 1 << 60
    with pytest.raises(MemoryError, match=r"; lower agent\.buffer_size=120$"):
        feed.add()


@pytest.mark.parametrize("size", [1, 2, 7, 64, 100])
def test_sum_tree_is_a_naive_search(size: int) -> None:
    random = np.random.default_rng(size)
    tree, naive = SumTree(size), np.zeros(size)
    for _ in range(20):
        items = random.integers(0, size, 5)
        values = random.integers(0, 4, 5).astype(float)  # whole numbers: sums are exact
        tree.set(items, values)
        for item, value in zip(items, values, strict=True):
            naive[item] = value
        assert np.array_equal(tree.priorities, naive) and tree.total == naive.sum()
        if not naive.any():
            continue
        uniform = random.random(33)
        drawn, share = tree.sample(uniform)
        mass = (np.arange(33) + uniform) / 33 * naive.sum()
        expected = np.searchsorted(naive.cumsum(), mass, side="right")
        assert np.array_equal(drawn, expected)
        assert np.allclose(share, naive[expected] / naive.sum() * (naive > 0).sum())


def test_sum_tree_never_draws_an_empty_item() -> None:
    """Also where rounding puts the mass beyond the last item."""
    tree = SumTree(9)
    tree.set(np.arange(6), np.array([0.1, 0.0, 0.3, 1e-9, 0.7, 0.0]))
    drawn, _ = tree.sample(np.full(1000, np.nextafter(1.0, 0.0)))
    assert set(drawn) <= {0, 2, 3, 4}
    drawn, _ = tree.sample(np.zeros(1000))
    assert set(drawn) <= {0, 2, 3, 4}
