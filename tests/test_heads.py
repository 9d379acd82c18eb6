"""Action heads against torch.distributions, and their samples against their probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch import distributions as td

from neuraxis.networks import ActionHead, action_head

SPACES = [
    spaces.Discrete(5),
    spaces.MultiDiscrete([3, 3]),
    spaces.MultiDiscrete([4, 1, 2]),
    spaces.MultiBinary(3),
    spaces.Box(-1, 1, (2,)),
]
DRAWS = 40_000


def reference(head: ActionHead[Any], y: Tensor, space: spaces.Space) -> td.Distribution:
    """The distribution of torch over choices counted from 0, from the same linear layer."""
    out = head.linear(y)
    if isinstance(space, spaces.Discrete):
        return td.Categorical(logits=out)
    if isinstance(space, spaces.MultiBinary):
        return td.Independent(td.Bernoulli(logits=out), 1)
    std = head.get_parameter("log_std").exp().expand_as(out)
    return td.Independent(td.Normal(out, std), 1)


def parts(head: ActionHead[Any], y: Tensor, space: spaces.MultiDiscrete) -> list[td.Categorical]:
    largest = int(space.nvec.max())
    logits = head.linear(y).unflatten(-1, (-1, largest))
    return [td.Categorical(logits=logits[..., i, :n]) for i, n in enumerate(space.nvec)]


def make(space: spaces.Space, columns: int = 7) -> tuple[ActionHead[Any], Tensor]:
    torch.manual_seed(0)
    head = action_head(space, 6, gain=1.0, log_std=-0.5)
    return head, torch.randn(3, columns, 6)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_against_torch_distributions(space: spaces.Space) -> None:
    head, y = make(space)
    params = head(y)
    action = head.sample(params, head.noise(torch.rand(3, 7, head.noise_size)))
    log_prob, entropy = head.log_prob(params, action), head.entropy(params)
    if isinstance(space, spaces.MultiDiscrete):
        each = parts(head, y, space)
        expected = sum(d.log_prob(action[..., i]) for i, d in enumerate(each))
        expected_entropy = sum(d.entropy() for d in each)
    else:
        distribution = reference(head, y, space)
        expected = distribution.log_prob(action.float() if action.dtype == torch.int8 else action)
        expected_entropy = distribution.entropy()
    assert log_prob.shape == entropy.shape == (3, 7)
    torch.testing.assert_close(log_prob, expected)
    torch.testing.assert_close(entropy, expected_entropy)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_actions_belong_to_the_space(space: spaces.Space) -> None:
    head, y = make(space)
    params = head(y)
    lowest, highest = torch.zeros(3, 7, head.noise_size), torch.full((3, 7, head.noise_size), 1.0)
    for uniform in (lowest, highest, torch.rand(3, 7, head.noise_size)):
        action = head.sample(params, head.noise(uniform))
        assert action.shape == (3, 7, *(space.shape or ())) and action.isfinite().all()
        assert head.log_prob(params, action).isfinite().all()
        if not isinstance(space, spaces.Box):  # a Gaussian is clipped by the environment
            for one in action.flatten(0, 1).numpy():
                assert space.contains(one), one
    assert head.mode(params).dtype == head.sample(params, lowest).dtype


@pytest.mark.parametrize("space", SPACES[:-1], ids=str)
def test_sampling_frequencies(space: spaces.Space) -> None:
    head, _ = make(space)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        params = head(torch.randn(1, 6, generator=generator)).expand(
            DRAWS, *head(torch.zeros(1, 6)).shape[1:]
        )
        uniform = torch.rand(DRAWS, head.noise_size, generator=generator)
        action = head.sample(params, head.noise(uniform))
        values, counts = action.unique(dim=0, return_counts=True)
        probability = head.log_prob(params[: len(values)], values).exp()
    torch.testing.assert_close(counts / DRAWS, probability, atol=0.01, rtol=0)
    assert probability.sum() > 0.999
    mode = head.mode(params[:1])[0]
    assert torch.equal(values[probability.argmax()], mode)


def test_gaussian_samples() -> None:
    head, y = make(SPACES[-1], columns=1)
    mean, log_std = params = head(y[:1].expand(DRAWS, 1, 6))
    action = head.sample(params, head.noise(torch.rand(DRAWS, 1, 2)))
    torch.testing.assert_close(action.mean(0), mean[0], atol=0.02, rtol=0)
    torch.testing.assert_close(action.std(0)[0], log_std.exp(), atol=0.02, rtol=0)
    assert torch.equal(head.sample(params, head.noise(torch.full((DRAWS, 1, 2), 0.5))), mean)
    assert torch.equal(head.mode(params), mean)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_sampling_is_a_pure_function_of_a_columns_noise(space: spaces.Space) -> None:
    head, y = make(space)
    noise = head.noise(torch.rand(3, 7, head.noise_size))
    action = head.sample(head(y), noise)
    alone = head.sample(head(y[:, 2:3]), noise[:, 2:3])
    torch.testing.assert_close(action[:, 2:3], alone)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_gradient_flows_to_every_parameter(space: spaces.Space) -> None:
    head, y = make(space)
    params = head(y)
    action = head.sample(params, head.noise(torch.rand(3, 7, head.noise_size))).detach()
    (head.log_prob(params, action) + head.entropy(params)).sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
        assert parameter.grad.isfinite().all()


def test_small_gain_starts_close_to_uniform() -> None:
    head = action_head(spaces.Discrete(4), 64)
    probability = head(torch.randn(10, 64)).exp()
    torch.testing.assert_close(probability, torch.full((10, 4), 0.25), atol=0.05, rtol=0)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(3),
        spaces.Dict({"a": spaces.Discrete(2)}),
        spaces.Box(-1, 1, (2, 2)),
        spaces.MultiDiscrete(np.array([[2, 2]])),
    ],
    ids=str,
)
def test_spaces_without_head(space: spaces.Space) -> None:
    with pytest.raises(ValueError, match="no head; expected Discrete"):
        action_head(space, 4)
