"""Minibatches: each sequence once an epoch, in parts as equal as can be."""

import numpy as np
import pytest
import torch

from neuraxis.agents.learning.minibatches import cut, minibatches


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [
        (65, 64, [33, 32]),  # not 64 and 1: one step has no deviation
        (65, 16, [13, 13, 13, 13, 13]),
        (64, 16, [16, 16, 16, 16]),
        (10, 4, [4, 3, 3]),
        (5, 1, [1, 1, 1, 1, 1]),
        (7, 8, [7]),
        (8, 8, [8]),
    ],
)
def test_sizes_are_equal_and_every_sequence_comes_once_an_epoch(
    count: int, size: int, sizes: list[int]
) -> None:
    numbers = torch.arange(count)
    batch = {"obs": numbers.repeat(3, 1), "state": (numbers.repeat(2, 1)[..., None],)}
    epochs, orders = 4, []
    picked = list(minibatches(batch, count, size, epochs, np.random.default_rng(0)))
    assert [part["obs"].shape[1] for part in picked] == sizes * epochs
    for epoch in range(epochs):
        parts = picked[epoch * len(sizes) : (epoch + 1) * len(sizes)]
        order = torch.cat([part["obs"] for part in parts], 1)
        assert torch.equal(order.sort(1).values, batch["obs"])
        state = torch.cat([part["state"][0] for part in parts], 1)
        assert torch.equal(state[..., 0], order[:2])  # what belongs together stays so
        orders.append(order[0])
    if len(sizes) > 1:
        assert not torch.equal(orders[0], orders[1])  # shuffled anew


def test_cut() -> None:
    x = torch.arange(12).view(6, 2)  # rows are steps of two columns
    assert cut(x, 3).tolist() == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]
    assert cut(x, 1).tolist() == [list(range(12))]
