"""Minibatches: each sequence once an epoch, in parts as equal as can be."""

import numpy as np
import pytest
import torch

from neuraxis.agents.learning.minibatches import cut, minibatches, smallest
from neuraxis.training.distributed.build import build_agent

from .helpers import config


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
    assert smallest(count, size) == min(sizes)
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


ASYNC = ("ray.mode=async", "ray.workers=3", "num_envs=3")
FOUR = ("ray.workers=4", "num_envs=4")
ONE = ("agent.n_steps=1", "num_envs=1")
REFUSED = [
    ("ppo", (*ONE,), "n_steps=1 with num_envs=1"),
    ("ppo", ("agent.batch_size=1",), "batch_size=1"),
    ("ppo", ("agent.n_steps=3", "num_envs=1", "agent.batch_size=2"), "batch_size=2"),
    ("ppo", ("network=lstm", "agent.sequence_length=1", "agent.batch_size=1"), "batch_size=1"),
    ("appo", (*ONE,), "n_steps=1 with num_envs=1"),
    ("appo", ("agent.n_steps=1", *ASYNC), "n_steps=1 with rollouts of 1 of num_envs=3 columns"),
    ("appo", ("agent.n_steps=3", "agent.batch_size=2", *ASYNC[:1], *FOUR), "batch_size=2"),
    ("trpo", (*ONE,), "n_steps=1 with num_envs=1"),
]


@pytest.mark.parametrize(("agent", "words", "place"), REFUSED)
def test_a_minibatch_of_one_step_is_refused(agent: str, words: tuple[str, ...], place: str) -> None:
    """Its advantage cannot be normalised; as it is it would outweigh all other steps."""
    with pytest.raises(ValueError) as refused:
        build_agent(config(f"agent={agent}", *words))
    message = str(refused.value)
    assert message.startswith(
        f"agent.{place}: a minibatch of one step has no standard deviation; raise "
    )
    assert message.endswith("or set agent.normalize_advantage=false") and "\n" not in message
    build_agent(config(f"agent={agent}", *words, "agent.normalize_advantage=false"))


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ("appo", ("agent.n_steps=1", *ASYNC, "ray.rollouts_per_update=2")),
        ("appo", ("agent.n_steps=2", "agent.batch_size=2", *ASYNC)),
        ("trpo", ("agent.batch_size=1",)),  # of the critic; the actor takes the whole rollout
        ("trpo", ("agent.n_steps=3", "num_envs=1", "agent.batch_size=2")),
        ("ppo", ("network=lstm", "agent.sequence_length=2", "agent.batch_size=1")),
        ("reinforce", ("agent.normalize_advantage=true", *ONE)),  # it takes whole episodes
        ("impala", (*ONE,)),
        ("a2c", ("agent.n_steps=1", "num_envs=1")),
    ],
)
def test_minibatches_of_several_steps_are_not_refused(agent: str, words: tuple[str, ...]) -> None:
    build_agent(config(f"agent={agent}", *words))
