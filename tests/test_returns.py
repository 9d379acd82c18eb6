"""Law 2: returns equal hand-written numbers, and a stream is its episodes computed apart."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from neuraxis.agents.learning.returns import (
    backward_recursion,
    gae,
    n_step_returns,
    rescale,
    unscale,
    vtrace,
)

ENDS = ("terminated", "truncated", "open")
GAMMA = 0.9


def stream(*episodes: tuple[int, str], seed: int = 0) -> dict[str, Any]:
    """One column of episodes (length, end), NEXT_STEP: after each end comes a step that is none."""
    random = np.random.default_rng(seed)
    first, discount = [], []
    for length, end in episodes:
        first += [True] + [False] * length  # one row a state
        discount += [1.0] * (length - 1) + [float(end != "terminated"), 1.0]  # and its reset's
    steps = len(first) - 1
    valid = ~np.array(first[1:])
    rows = {
        "reward": random.normal(size=steps) * valid,
        "discount": np.array(discount[:steps]),
        "valid": valid,
        "value": random.normal(size=steps + 1),
    }
    return {name: torch.from_numpy(row)[:, None] for name, row in rows.items()}


def column(values: list[Any]) -> Tensor:
    return torch.tensor(values)[:, None]


# Rows 0-2: an episode that terminates, row 3 its reset; rows 4-5: one truncated, row 6 its
# reset; row 7 belongs to one that is still open. Gamma 0.5.
HAND: dict[str, Any] = {
    "reward": column([1.0, 2.0, 4.0, 0.0, 8.0, 2.0, 0.0, 1.0]),
    "discount": column([1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
    "valid": column([True, True, True, False, True, True, False, True]),
    "value": column([1.0, 2.0, 4.0, 9.0, 2.0, 4.0, 8.0, 2.0, 4.0]),
}


def test_gae_by_hand() -> None:
    advantage = gae(**HAND, gamma=0.5, gae_lambda=0.5)  # a step's weight on the next is 0.25
    expected = [
        1.5,  # (1 + 0.5 * 2 - 1) + 0.25 * 2
        2.0,  # (2 + 0.5 * 4 - 2) + 0.25 * 0
        0.0,  # 4 - 4: terminated, the value 9 of the last observation does not count
        0.0,  # reset
        8.5,  # (8 + 0.5 * 4 - 2) + 0.25 * 2
        2.0,  # 2 + 0.5 * 8 - 4: truncated, the value 8 of the last observation counts
        0.0,  # reset
        1.0,  # 1 + 0.5 * 4 - 2: the rollout ends, the episode does not
    ]
    assert advantage[:, 0].tolist() == expected


def test_gae_with_lambda_0_is_the_td_error() -> None:
    advantage = gae(**HAND, gamma=0.5, gae_lambda=0.0)
    assert advantage[:, 0].tolist() == [1.0, 2.0, 0.0, 0.0, 8.0, 2.0, 0.0, 1.0]


def test_gae_with_lambda_1_is_monte_carlo() -> None:
    returns = gae(**HAND, gamma=0.5, gae_lambda=1.0) + HAND["value"][:-1]
    expected = [
        3.0,  # 1 + 0.5 * 2 + 0.25 * 4
        4.0,  # 2 + 0.5 * 4
        4.0,
        11.0,  # 8 + 0.5 * 2 + 0.25 * 8, from the true last observation
        6.0,  # 2 + 0.5 * 8
        3.0,  # 1 + 0.5 * 4
    ]
    assert returns[HAND["valid"]].tolist() == expected


# Ratios of HAND's steps: 4 is limited to rho_bar 2 and c_bar 1; those of resets may be anything.
RATIO = column([0.5, 4.0, 1.0, 7.0, 2.0, 0.5, 0.0, 4.0])


def test_vtrace_by_hand() -> None:
    # TD errors (above): 1, 2, 0; 8, 2; 1. Gamma 0.5, rho = min(2, ratio), c = min(1, ratio).
    target, advantage, rho = vtrace(
        **HAND, log_ratio=RATIO.log(), gamma=0.5, rho_bar=2.0, c_bar=1.0
    )
    correction = [  # vs - V = rho * TD + 0.5 * c * (the next one)
        1.5,  # 0.5 * 1 + 0.5 * 0.5 * 4
        4.0,  # 2 * 2 + 0.5 * 1 * 0
        0.0,  # 1 * 0: terminated
        0.0,  # reset
        16.5,  # 2 * 8 + 0.5 * 1 * 1
        1.0,  # 0.5 * 2 + 0: truncated
        0.0,  # reset
        2.0,  # 2 * 1: the rollout ends
    ]
    assert torch.allclose(target, HAND["value"][:-1] + column(correction))
    expected = [  # r + 0.5 vs' - V = TD + 0.5 * (vs' - V')
        3.0,  # 1 + 0.5 * 4
        2.0,  # 2 + 0.5 * 0
        0.0,  # 0
        0.0,  # reset
        8.5,  # 8 + 0.5 * 1
        2.0,  # 2: truncated, from the true last observation
        0.0,  # reset
        1.0,  # 1: bootstraps from the value
    ]
    assert torch.allclose(advantage, column(expected))
    assert torch.allclose(rho, column([0.5, 2.0, 1.0, 2.0, 2.0, 0.5, 0.0, 2.0]))


def test_vtrace_with_lambda_by_hand() -> None:
    ratio: dict[str, Any] = {"log_ratio": RATIO.log(), "gamma": 0.5, "rho_bar": 2.0}
    target, advantage, _ = vtrace(**HAND, **ratio, gae_lambda=0.5)
    # rows 1 and 0: 2 * 2 = 4, then 0.5 * 1 + 0.5 * (0.5 * 0.5) * 4 = 1
    assert (target - HAND["value"][:-1])[:2, 0].tolist() == pytest.approx([1.0, 4.0])
    # row 0: 1 + 0.5 * 0.5 * (vs' - V' = 4)
    assert advantage[:2, 0].tolist() == pytest.approx([2.0, 2.0])


EPISODES = [(3, "truncated"), (1, "terminated"), (4, "terminated"), (1, "truncated"), (2, "open")]


@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
def test_vtrace_on_policy_is_the_lambda_return(gae_lambda: float) -> None:
    row = stream(*EPISODES)
    ratio = torch.zeros_like(row["reward"])
    target, advantage, rho = vtrace(**row, log_ratio=ratio, gamma=GAMMA, gae_lambda=gae_lambda)
    expected = gae(**row, gamma=GAMMA, gae_lambda=gae_lambda)
    assert torch.allclose(advantage, expected) and (rho == 1).all()
    assert torch.allclose(target, expected + row["value"][:-1])


def slow_vtrace(row: dict[str, Tensor], ratio: Tensor, t: int) -> float:
    """Sums over the later steps of the episode: equation 1 of the paper, as it stands there."""
    total, weight = float(row["value"][t]), 1.0
    for k in range(t, len(ratio)):
        if not row["valid"][k]:
            break
        after = GAMMA * float(row["discount"][k] * row["value"][k + 1])
        td = float(row["reward"][k]) + after - float(row["value"][k])
        total += weight * min(1.5, float(ratio[k])) * td
        weight *= GAMMA * float(row["discount"][k]) * min(0.8, float(ratio[k]))
    return total


def test_vtrace_is_the_papers_sum() -> None:
    row = stream(*EPISODES)
    ratio = torch.from_numpy(np.random.default_rng(1).uniform(0.1, 3, row["reward"].shape))
    target, advantage, _ = vtrace(**row, log_ratio=ratio.log(), gamma=GAMMA, rho_bar=1.5, c_bar=0.8)
    after = torch.cat((target[1:], row["value"][-1:]))
    expected = row["reward"] + GAMMA * row["discount"] * after - row["value"][:-1]
    assert torch.allclose(advantage, expected * row["valid"])
    for t in range(len(ratio)):
        if row["valid"][t]:
            assert float(target[t]) == pytest.approx(slow_vtrace(row, ratio, t), abs=1e-12)


def slow_n_step(row: dict[str, Tensor], t: int, n: int) -> float:
    """Sums at most n rewards, ahead from step t."""
    total, factor = 0.0, 1.0
    for k in range(t, t + n):
        total += factor * float(row["reward"][k])
        factor *= GAMMA
        if row["discount"][k] == 0:
            return total
        if k + 1 < len(row["valid"]) and not row["valid"][k + 1]:
            return total + factor * float(row["value"][k + 1])  # truncated: its last observation
    return total + factor * float(row["value"][t + n])


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("length", [1, 2, 3, 7])
@pytest.mark.parametrize("end", ENDS)
def test_n_step_returns_at_every_kind_of_end(end: str, length: int, n: int) -> None:
    after: list[tuple[int, str]] = [] if end == "open" else [(4, "truncated"), (1, "open")]
    row = stream((2, "terminated"), (length, end), *after)
    steps = len(row["reward"])
    if n > steps:
        return
    returns = n_step_returns(**row, gamma=GAMMA, n=n)
    assert returns.shape == (steps - n + 1, 1)
    checked = 0
    for t in range(steps - n + 1):
        if row["valid"][t]:
            assert float(returns[t]) == pytest.approx(slow_n_step(row, t, n), abs=1e-12)
            checked += 1
    assert checked


def test_one_step_returns_are_td_targets() -> None:
    one = n_step_returns(**HAND, gamma=0.5, n=1)
    td = gae(**HAND, gamma=0.5, gae_lambda=0.0) + HAND["value"][:-1]
    assert torch.equal(one[HAND["valid"]], td[HAND["valid"]])


def test_n_step_over_the_whole_episode_is_monte_carlo() -> None:
    row = stream((6, "terminated"))
    returns = n_step_returns(**row, gamma=GAMMA, n=6)
    discounted = sum(GAMMA**k * float(row["reward"][k]) for k in range(6))
    assert returns.item() == pytest.approx(discounted)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
def test_a_stream_is_its_episodes(gae_lambda: float) -> None:
    row = stream(*EPISODES)
    ratio = torch.from_numpy(np.random.default_rng(1).normal(size=row["reward"].shape))
    settings: dict[str, Any] = {"gamma": GAMMA, "gae_lambda": gae_lambda}
    whole = gae(**row, **settings), *vtrace(**row, log_ratio=ratio, **settings)
    begin = 0
    for length, _ in EPISODES:
        steps, states = slice(begin, begin + length), slice(begin, begin + length + 1)
        apart = {name: x[states if name == "value" else steps] for name, x in row.items()}
        alone = gae(**apart, **settings), *vtrace(**apart, log_ratio=ratio[steps], **settings)
        assert all(torch.equal(a[steps], b) for a, b in zip(whole, alone, strict=True))
        begin += length + 1  # over the reset


def test_columns_are_apart() -> None:
    rows = [stream((3, "terminated"), (4, "open"), seed=1), stream((8, "truncated"), seed=2)]
    both = {name: torch.cat([row[name] for row in rows], 1) for name in rows[0]}
    for i, row in enumerate(rows):
        assert torch.equal(
            gae(**both, gamma=GAMMA, gae_lambda=0.8)[:, i : i + 1],
            gae(**row, gamma=GAMMA, gae_lambda=0.8),
        )
        assert torch.equal(
            n_step_returns(**both, gamma=GAMMA, n=3)[:, i : i + 1],
            n_step_returns(**row, gamma=GAMMA, n=3),
        )


def test_backward_recursion() -> None:
    # acc[1] = 3 + 0.5 * 8 = 7, acc[0] = 1 + 2 * 7 = 15
    acc = backward_recursion(column([1.0, 3.0]), column([2.0, 0.5]), torch.tensor([8.0]))
    assert acc[:, 0].tolist() == [15.0, 7.0]


def test_unscale_inverts_rescale() -> None:
    x = torch.tensor([-1e4, -33.0, -1.0, -1e-3, 0.0, 1e-3, 0.5, 1.0, 7.0, 500.0, 1e5])
    assert torch.allclose(unscale(rescale(x.double())), x.double(), rtol=1e-12, atol=1e-15)
    assert torch.allclose(unscale(rescale(x)), x, rtol=1e-6, atol=0)
    assert rescale(torch.tensor(3.0)).item() == pytest.approx(1.003)  # sqrt(4) - 1 + 0.001 * 3
    assert rescale(torch.tensor(-3.0)).item() == pytest.approx(-1.003)


@pytest.mark.parametrize("function", [rescale, unscale])
def test_float32_keeps_its_digits(function: Callable[[Tensor], Tensor]) -> None:
    """From 1e-7 up; the textbook forms lose 5 % at 1e-3 and the sign at 1e-5."""
    size = torch.logspace(-7, 6, 500)
    for x in (size, -size, torch.zeros(1)):
        assert torch.allclose(function(x).double(), function(x.double()), rtol=1e-6, atol=0)
        assert torch.equal(function(x).sign(), x.sign())


@pytest.mark.parametrize("limit", [1.0, 1e9, float("inf")])
def test_vtrace_is_finite_for_any_ratio(limit: float) -> None:
    """Also at resets, whose actions are of no account: 0 times infinity would not be 0."""
    row = {name: x.float() if name != "valid" else x for name, x in stream(*EPISODES).items()}
    assert not row["valid"].all()
    for log_ratio in (100.0, -100.0):
        ratio = torch.full_like(row["reward"], log_ratio)
        found = vtrace(**row, log_ratio=ratio, gamma=GAMMA, rho_bar=limit)
        assert all(x.isfinite().all() for x in found)
        assert not found[1][~row["valid"]].any()
