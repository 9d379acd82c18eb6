"""Stacks of frames: each frame is sent once, and what comes back is bit for bit the same."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neuraxis.core.frames import PackedStacks, packed, unpacked
from neuraxis.core.tree import leaves, map_tree
from neuraxis.networks.observation import frames_of
from neuraxis.training.distributed.local_source import LocalSource
from neuraxis.training.distributed.overlap_process import Collecting
from neuraxis.training.distributed.packed_weights import pack
from neuraxis.training.distributed.ray_worker import Worker

from .helpers import STACKED, collector, training

BREAKOUT = ("env=ALE/Breakout-v5", "env.atari.size=20", "env.vectorization=sync")
PPO = ("agent=ppo", "network=mlp", "network.blocks.0.sizes=[8]")
OPENINGS = ("zeros", "repeated", "unseen", "on")


def stacked(
    size: int, rows: int, columns: int, dtype: Any = np.uint8, seed: int = 0, share: float = 0.2
) -> Any:
    """Stacks [rows, B, S, 3, 2] of episodes that open in any way, at a share of the rows.

    Frames are few, so that equal ones follow upon one another. At an opening, older frames are
    zeros, the new frame, frames that no row has as its newest, or those of the episode before.
    """
    random = np.random.default_rng(seed)
    few = random.integers(0, 9, (3, 3, 2)).astype(dtype)
    found = np.zeros((rows, columns, size, 3, 2), dtype)
    for column in range(columns):
        stack = few[random.integers(0, 3, size)]
        for row in range(rows):
            new = few[random.integers(3)][None]
            opening = OPENINGS[random.integers(4)] if random.random() < share else "on"
            older = {
                "zeros": np.zeros_like(stack[1:]),
                "repeated": np.repeat(new, size - 1, 0),
                "unseen": random.integers(10, 20, stack[1:].shape).astype(dtype),
                "on": stack[1:],
            }
            stack = found[row, column] = np.concatenate((older[opening], new))
    return found


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("size", "rows"), [(4, 90), (2, 40), (1, 7), (4, 1)])
def test_stacks_come_back(size: int, rows: int, dtype: Any, compress: bool) -> None:
    stacks = stacked(size, rows, 3, dtype)
    rollout = collector().collect()
    sent = packed(replace(rollout, obs=stacks.reshape(rows, 3, size * 3, 2)), [size], compress)
    found = unpacked(pickle.loads(pickle.dumps(sent))).obs
    assert found.dtype == dtype and found.flags.writeable
    assert found.tobytes() == stacks.tobytes() and found.shape == (rows, 3, size * 3, 2)
    new = [
        [
            size if row == 0 or (old[1:] != now[:-1]).any() else 1
            for row, (old, now) in enumerate(zip([own[0], *own[:-1]], own, strict=True))
        ]
        for own in stacks.swapaxes(0, 1)
    ]
    if size > 1 or compress:
        assert np.array_equal(sent.obs.count.T, new)
    if not compress and size > 1:
        assert len(sent.obs.frames) == np.sum(new)


def test_numbers_that_are_equal_but_not_the_same() -> None:
    """-0.0 equals 0.0, and NaN equals nothing."""
    stacks = np.zeros((4, 1, 2, 1), np.float32)
    stacks[1, 0, 0] = -0.0
    stacks[2:] = np.nan
    sent = packed(replace(collector().collect(), obs=stacks), [2])
    assert unpacked(sent).obs.tobytes() == stacks.tobytes()
    assert sent.obs.count.ravel().tolist() == [2, 2, 2, 1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (BREAKOUT, [4]),
        ((*BREAKOUT, "env.frame_stack=3", "env.last_action=true"), [0, 0, 3]),
        ((*BREAKOUT, "env.flatten=true"), [0]),
        (STACKED, [2, 0, 0, 0, 0]),
        ((*STACKED[:2], "env.frame_stack=2", "env.image_layout=hwc"), [1, 0, 0, 0, 0]),
        (("env=Pendulum-v1", "env.frame_stack=2"), [0]),
    ],
)
def test_stacks_are_known_by_the_settings(words: tuple[str, ...], expected: list[int]) -> None:
    """Only these are packed, unless all images are to be compressed."""
    run = training(*words, *PPO, "agent.n_steps=20", "num_envs=2")
    assert isinstance(run.source, LocalSource)
    (source,) = run.source.collectors
    assert frames_of(source.envs.observation_space, run.cfg.env.stacked) == expected
    rollout = source.collect()
    for compress in (False, True):
        sent = packed(rollout, expected, compress)
        found = [isinstance(leaf, PackedStacks) for leaf in leaves(sent.obs)]
        assert found == [size > (not compress) for size in expected]
        map_tree(np.testing.assert_array_equal, unpacked(sent).obs, rollout.obs)
    if words == BREAKOUT:
        sizes = [len(pickle.dumps(one.obs)) for one in (rollout, packed(rollout, expected), sent)]
        assert sizes[1] < 0.3 * sizes[0] and sizes[2] < 0.3 * sizes[1]
    run.source.close()


def test_what_leaves_a_process_is_packed() -> None:
    """By a worker of Ray, compressed if that is set, and by the process of `overlap=true`."""
    run = training(*STACKED, *PPO, "agent.n_steps=8", "num_envs=2", "ray.compression=zlib")
    worker = Worker(run.cfg, run.agent.policy, 8, 0)
    beside = Collecting()
    beside.open(pickle.dumps((run.cfg, run.agent.policy, 8)))
    weights = pack(run.agent.policy)
    replies = worker.collect(0, 0, weights).result, beside.collect(0, weights).rollout
    expected = run.source.next()
    for rollout, compressed in zip(replies, (True, False), strict=True):
        image = next(leaves(rollout.obs))
        assert isinstance(image, PackedStacks) and image.compressed == compressed
        map_tree(np.testing.assert_array_equal, unpacked(rollout).obs, expected.obs)
    for opened in (worker, beside, run.source):
        opened.close()
