"""A replay that keeps single frames gives the windows of one that keeps whole stacks."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from neuraxis.agents import setup
from neuraxis.agents.replay.frame_ring import FrameRing
from neuraxis.agents.replay.replay import Replay
from neuraxis.core.errors import RunError
from neuraxis.core.rollout import Rollout
from neuraxis.core.tree import leaves, map_tree

from .helpers import STACKED, training
from .test_frames import stacked

COLUMNS, STACK, LENGTH = 3, 4, 4
CPU = torch.device("cpu")
DQN = (
    *("agent=dqn", "num_envs=4", "agent.train_freq=4", "agent.learning_starts=32"),
    *("agent.buffer_size=400", "agent.batch_size=16", "agent.n_step=2"),
)


class Feed:
    """A replay and the streams of its columns: stacks whose episodes open at a share of the rows.

    Args:
        kept: Whether each frame is kept once.
        share: See `stacked`.
        settings: Of the replay.
    """

    def __init__(self, kept: bool, share: float, **settings: Any) -> None:
        self.rng = np.random.default_rng(0)
        given: dict[str, Any] = {"capacity": 40 * COLUMNS, "window": 3, "stride": 1} | settings
        frames = [STACK if kept else 1, 0]
        self.replay = Replay(
            num_envs=COLUMNS, length=LENGTH, rng=self.rng, device=CPU, frames=frames, **given
        )
        self.stream = stacked(STACK, 400, COLUMNS, share=share)
        self.at = np.zeros(COLUMNS, int)

    def add(self, *columns: int, lost: int = 0) -> None:
        """The next rollout of some columns; some of their rows may be `lost` before it."""
        self.at[list(columns)] += lost
        rows = self.at[list(columns)] + np.arange(LENGTH + 1)[:, None]
        self.at[list(columns)] += LENGTH
        first = np.zeros(rows.shape, bool)
        first[0] = lost > 0
        image = self.stream[rows, columns].reshape(*rows.shape, STACK * 3, 2)
        number = rows[:-1].astype(np.float32)
        rollout = Rollout(
            obs={"image": image, "number": rows[..., None]},
            first=first,
            action=rows[:-1],
            reward=number,
            discount=np.ones_like(number),
            extras={},
            state=() if self.replay.stride == 1 else (np.zeros((1, len(columns), 2), np.float32),),
            columns=np.array(columns),
            version=0,
            episodes=np.zeros((0, 4)),
        )
        self.replay.add(rollout.to("cpu"))

    def starts(self) -> np.ndarray:
        """All places where windows begin."""
        windows = self.replay.windows
        begin, end = windows.span
        return windows._each(begin, end)


ADDED = [(0, 1, 2), (0, 2), (1,), (1,), (2, 0), (1, 0, 2), (2,)] * 8


def assert_same(one: Any, other: Any) -> None:
    """Samples, bit for bit."""
    for name in ("obs", "first", "action", "reward", "discount", "state", "weight"):
        map_tree(lambda a, b: np.testing.assert_array_equal(a, b), *_pair(one, other, name))


def _pair(one: Any, other: Any, name: str) -> tuple[Any, Any]:
    return getattr(one, name), getattr(other, name)


@pytest.mark.parametrize(("share", "rows"), [(0.005, 96), (0.3, 40), (1.0, 40)])
@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_windows_are_those_of_whole_stacks(
    alpha: float, stride: int, share: float, rows: int
) -> None:
    """However episodes open, and whenever columns arrive; also where one is opened anew."""
    rare, settings = share < 0.01, {"alpha": alpha, "stride": stride, "capacity": rows * COLUMNS}
    feeds = [Feed(kept, share, **settings) for kept in (True, False)]
    ours, plain = (feed.replay for feed in feeds)
    assert isinstance(ours.steps, FrameRing) and not isinstance(plain.steps, FrameRing)
    for number, columns in enumerate(ADDED):
        for feed in feeds:
            feed.add(*columns, lost=0 if rare or number % 9 else 3)
        starts = feeds[0].starts()
        assert set(starts) <= set(feeds[1].starts())
        weight = np.ones(len(starts), np.float32)
        assert_same(ours.gather(starts, weight), plain.gather(starts, weight))
        if ours.tree is not None and plain.tree is not None:
            there = np.zeros(ours.tree.size, bool)
            there[starts] = True
            assert np.array_equal(ours.tree.priorities, np.where(there, plain.tree.priorities, 0))
        assert len(ours) <= len(plain) and ours.window_bytes == plain.window_bytes
    if rare:  # nothing is gone earlier: the same draws
        assert len(ours) == len(plain)
        assert_same(*(replay.gather(*replay.draw(64, 0.7)) for replay in (ours, plain)))
    else:
        assert 0 < len(ours) < len(plain) and ours.ready


def test_as_many_rows_as_there_is_room_for() -> None:
    """All where stacks go on for long; 1.1 of about 1.7 where three quarters of 30 % open."""
    for share, least, most in ((0.005, 1.0, 1.0), (0.3, 0.55, 0.75)):
        feed = Feed(True, share, capacity=128 * COLUMNS)
        for _ in range(70):
            feed.add(0, 1, 2)
        held = len(feed.replay) / (127 * COLUMNS)
        assert least <= held <= most, held


def test_a_quarter_of_the_memory() -> None:
    feeds = [Feed(kept, 0.01, capacity=160 * COLUMNS) for kept in (True, False)]
    sizes = []
    for feed in feeds:
        feed.add(0, 1, 2)
        ring = feed.replay.steps
        frames = ring.frames.trees if isinstance(ring, FrameRing) else ring.trees["obs"]["image"]
        sizes.append(sum(leaf.nbytes for leaf in leaves(frames)))
    assert sizes[0] / sizes[1] == (160 + 10 + STACK) / (160 * STACK)  # a sixteenth more, and S


@pytest.mark.parametrize("added", [0, 3, 40])
def test_what_was_saved_goes_on(added: int) -> None:
    feed, again = (Feed(True, 0.3, alpha=0.6) for _ in range(2))
    for columns in ADDED[:added]:
        feed.add(*columns)
    again.replay.load_state_dict(copy.deepcopy(feed.replay.state_dict()))
    assert np.array_equal(feed.starts(), again.starts())
    again.at = feed.at.copy()
    for columns in ADDED[added : added + 16]:
        for one in (feed, again):
            one.add(*columns)
        if feed.replay.ready:
            assert_same(*(one.replay.gather(*one.replay.draw(32, 0.7)) for one in (feed, again)))
    assert len(feed.replay) == len(again.replay)


def test_a_checkpoint_with_whole_stacks_is_refused() -> None:
    plain = Feed(False, 0.1)
    plain.add(0, 1, 2)
    with pytest.raises(RunError, match=r"keeps whole stacks of frames.*init\.from=RUN$"):
        Feed(True, 0.1).replay.load_state_dict(plain.replay.state_dict())


@pytest.mark.parametrize("words", [(), ("agent.prioritized=true", "network=lstm")])
def test_an_agent_learns_the_same(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    run = training(*STACKED, *DQN, *words)
    monkeypatch.setattr(setup, "frames_of", lambda *_: [0])
    plain = training(*STACKED, *DQN, *words)
    assert isinstance(run.agent.replay.steps, FrameRing)
    assert not isinstance(plain.agent.replay.steps, FrameRing)
    metrics = []
    for one in (run, plain):
        torch.manual_seed(0)
        metrics.append([one.step() for _ in range(12)])
    assert metrics[0] == metrics[1] and "q/mean" in metrics[0][-1]
