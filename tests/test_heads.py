"""Action heads against torch.distributions, and their samples against their probabilities."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from torch import Tensor
from torch import distributions as td

from neuraxis.networks import ActionHead, GaussianConfig, action_head
from neuraxis.networks.heads.gaussian import Gaussian, limited
from neuraxis.networks.heads.squashed import LARGEST, Squashed, log_slope
from neuraxis.networks.heads.state_noise import StateNoise

SPACES = [
    spaces.Discrete(5),
    spaces.MultiDiscrete([3, 3]),
    spaces.MultiDiscrete([4, 1, 2]),
    spaces.MultiBinary(3),
    spaces.Box(-1, 1, (2,)),
]
GAUSSIAN = GaussianConfig(log_std_init=-0.5)
STATE_DEPENDENT = GaussianConfig(log_std_init=-0.5, log_std_max=0.0, state_dependent_std=True)
SQUASHED = GaussianConfig(log_std_init=-0.5, squashed=True)
SDE = GaussianConfig(log_std_init=-1.0, use_sde=True)
SQUASHED_SDE = GaussianConfig(log_std_init=-1.0, use_sde=True, squashed=True, sde_sample_freq=2)
BOXES = {
    "state-dependent deviation": STATE_DEPENDENT,
    "squashed": SQUASHED,
    "gSDE": SDE,
    "squashed gSDE": SQUASHED_SDE,
}
HEADS = [*((space, GAUSSIAN) for space in SPACES), *((SPACES[-1], box) for box in BOXES.values())]
NAMES = [*map(str, SPACES), *BOXES]
DRAWS = 40_000


def reference(head: ActionHead[Any], y: Tensor, space: spaces.Space) -> td.Distribution:
    """The distribution of torch over choices counted from 0, from the same linear layer."""
    if isinstance(head, Squashed):
        inner = reference(head.inner, y, space)
        return td.TransformedDistribution(inner, td.TanhTransform(cache_size=1))
    out = head.linear(y)
    if isinstance(space, spaces.Discrete):
        return td.Categorical(logits=out)
    if isinstance(space, spaces.MultiBinary):
        return td.Independent(td.Bernoulli(logits=out), 1)
    if isinstance(head, Gaussian) and head.deviation is not None:
        log_std = head.deviation(y).clamp(max=0.0)
    elif isinstance(head, StateNoise):
        log_std = (y.square() @ head.log_std.exp().square().t() + 1e-6).sqrt().log()
    else:
        log_std = head.get_parameter("log_std")
    std = log_std.exp().expand_as(out)
    return td.Independent(td.Normal(out, std), 1)


def parts(head: ActionHead[Any], y: Tensor, space: spaces.MultiDiscrete) -> list[td.Categorical]:
    largest = int(space.nvec.max())
    logits = head.linear(y).unflatten(-1, (-1, largest))
    return [td.Categorical(logits=logits[..., i, :n]) for i, n in enumerate(space.nvec)]


def make(
    space: spaces.Space, gaussian: GaussianConfig = GAUSSIAN, columns: int = 7
) -> tuple[ActionHead[Any], Tensor]:
    torch.manual_seed(0)
    head = action_head(space, 6, gain=1.0, gaussian=gaussian)
    return head, torch.randn(3, columns, 6)


@pytest.mark.parametrize(("space", "gaussian"), HEADS, ids=NAMES)
def test_against_torch_distributions(space: spaces.Space, gaussian: GaussianConfig) -> None:
    head, y = make(space, gaussian)
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
        if isinstance(head, Squashed):  # torch has none
            expected_entropy = -distribution.log_prob(distribution.sample((DRAWS,))).mean(0)
            torch.testing.assert_close(entropy, expected_entropy, atol=0.05, rtol=0)
            entropy = expected_entropy
        else:
            expected_entropy = distribution.entropy()
    assert log_prob.shape == entropy.shape == (3, 7)
    torch.testing.assert_close(log_prob, expected)
    torch.testing.assert_close(entropy, expected_entropy)


@pytest.mark.parametrize(("space", "gaussian"), HEADS, ids=NAMES)
def test_divergence_against_torch_distributions(
    space: spaces.Space, gaussian: GaussianConfig
) -> None:
    """Of two policies, as from one update to the next; it is 0 of a policy from itself."""
    head, y = make(space, gaussian)
    other = copy.deepcopy(head)
    for parameter in other.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    params, moved = head(y), other(y)
    if isinstance(space, spaces.MultiDiscrete):
        pairs = zip(parts(head, y, space), parts(other, y, space), strict=True)
        expected = sum(td.kl_divergence(p, q) for p, q in pairs)
    else:
        if isinstance(head, Squashed):
            assert isinstance(other, Squashed)
            head, other = head.inner, other.inner
        expected = td.kl_divergence(reference(head, y, space), reference(other, y, space))
    divergence = head.kl(params, moved)
    assert divergence.shape == (3, 7)
    torch.testing.assert_close(divergence, expected)
    torch.testing.assert_close(head.kl(params, params), torch.zeros(3, 7), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("space", "gaussian"), HEADS, ids=NAMES)
def test_actions_belong_to_the_space(space: spaces.Space, gaussian: GaussianConfig) -> None:
    head, y = make(space, gaussian)
    params = head(y)
    lowest, highest = torch.zeros(3, 7, head.noise_size), torch.full((3, 7, head.noise_size), 1.0)
    for uniform in (lowest, highest, torch.rand(3, 7, head.noise_size)):
        action = head.sample(params, head.noise(uniform))
        assert action.shape == (3, 7, *(space.shape or ())) and action.isfinite().all()
        assert head.log_prob(params, action).isfinite().all()
        if not isinstance(space, spaces.Box) or gaussian.squashed:  # others are clipped
            for one in action.detach().flatten(0, 1).numpy():
                assert space.contains(one), one
    assert head.mode(params).dtype == head.sample(params, head.noise(lowest)).dtype


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


@pytest.mark.parametrize(("space", "gaussian"), HEADS, ids=NAMES)
def test_sampling_is_a_pure_function_of_a_columns_noise(
    space: spaces.Space, gaussian: GaussianConfig
) -> None:
    head, y = make(space, gaussian)
    noise = head.noise(torch.rand(3, 7, head.noise_size))
    action = head.sample(head(y), noise)
    alone = head.sample(head(y[:, 2:3]), noise[:, 2:3])
    torch.testing.assert_close(action[:, 2:3], alone)


@pytest.mark.parametrize(("space", "gaussian"), HEADS, ids=NAMES)
def test_gradient_flows_to_every_parameter(space: spaces.Space, gaussian: GaussianConfig) -> None:
    head, y = make(space, gaussian)
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


def test_the_deviation_starts_where_it_is_set_and_stays_within_its_limits() -> None:
    space, y = SPACES[-1], torch.randn(50, 6)
    for state_dependent in (False, True):
        fields = {"log_std_init": -0.7, "state_dependent_std": state_dependent}
        log_std = action_head(space, 6, gaussian=GaussianConfig(**fields))(y)[1]
        assert log_std.shape == ((50, 2) if state_dependent else (2,))
        assert (log_std + 0.7).abs().max() < 0.1
        limits = {"log_std_min": -0.71, "log_std_max": -0.69}
        config = GaussianConfig.model_validate(fields | limits)
        log_std = action_head(space, 6, gain=5.0, gaussian=config)(y)[1]
        assert -0.711 < log_std.min() <= log_std.max() < -0.689
    with pytest.raises(ValueError, match=r"log_std_init=3\.0: expected at most log_std_max=2\.0"):
        GaussianConfig(log_std_init=3.0, log_std_max=2.0)


def test_what_passed_a_limit_comes_back() -> None:
    x = torch.tensor([-3.0, 0.0, 3.0], requires_grad=True)
    for direction, expected in ((1.0, [0.0, 1.0, 1.0]), (-1.0, [-1.0, -1.0, 0.0])):
        y = limited(x, -2.0, 2.0)
        (grad,) = torch.autograd.grad((direction * y).sum(), x)
        assert y.tolist() == [-2.0, 0.0, 2.0] and grad.tolist() == expected


@pytest.mark.parametrize("squashed", [False, True])
def test_gsde_is_that_of_stable_baselines3(squashed: bool) -> None:
    """The same action, log-probability and entropy from the same weights, features and matrix."""
    config = GaussianConfig(log_std_init=-1.0, use_sde=True, squashed=squashed)
    torch.manual_seed(0)
    head, y = action_head(SPACES[-1], 6, gain=1.0, gaussian=config), torch.randn(7, 6).tanh()
    inner = head.inner if isinstance(head, Squashed) else head
    assert isinstance(inner, StateNoise)
    inner.log_std.data += 0.3 * torch.randn_like(inner.log_std)  # [A, D]; theirs is [D, A]
    params, noise = head(y), head.noise(torch.rand(7, head.noise_size))
    theirs = StateDependentNoiseDistribution(2, squash_output=squashed)
    log_std = inner.log_std.detach().t()
    theirs.proba_distribution_net(6, 6)
    theirs.proba_distribution(inner.linear(y), log_std, y)
    theirs.exploration_matrices = (noise * inner.log_std.exp()).transpose(1, 2)
    action = head.sample(params, noise)
    torch.testing.assert_close(action, theirs.sample())
    assert head.log_prob(params, action).std() > 0.1
    torch.testing.assert_close(
        head.log_prob(params, action), theirs.log_prob(action), atol=1e-4, rtol=1e-4
    )
    if not squashed:  # theirs has none when squashed
        torch.testing.assert_close(head.entropy(params), theirs.entropy())


def test_the_noise_of_gsde_is_held_and_belongs_to_the_column() -> None:
    uniform = torch.rand(7, 3, 12)
    for steps, draws in ((-1, [0] * 7), (3, [0, 0, 0, 3, 3, 3, 6]), (1, [*range(7)]), (9, [0] * 7)):
        config = GaussianConfig(use_sde=True, sde_sample_freq=steps)
        head = action_head(SPACES[-1], 6, gaussian=config)
        noise = head.noise(uniform)
        assert noise.shape == (7, 3, 2, 6)
        for t, drawn in enumerate(draws):
            assert torch.equal(noise[t], head.noise(uniform[drawn]))
        assert torch.equal(head.noise(uniform[:, 1:2]), noise[:, 1:2])
        y = torch.randn(1, 3, 6).expand(7, 3, 6)  # the same state: the same action
        action = head.sample(head(y), noise)
        assert torch.equal(action[0], action[1]) == (steps != 1)


def test_what_squashing_rounds_to_1_stays_finite() -> None:
    """And its log-probability is that of float64 where tanh still has digits."""
    u = torch.tensor([-40.0, -9.0, -3.0, 0.0, 0.5, 5.0, 30.0], dtype=torch.float64)
    slope = log_slope(u.float())
    assert slope.isfinite().all()
    near = u.abs() < 10
    torch.testing.assert_close(
        slope[near].double(), (1 - u[near].tanh().square()).log(), atol=1e-5, rtol=1e-5
    )
    head = action_head(spaces.Box(-1, 1, (1,)), 4, gaussian=GaussianConfig(squashed=True))
    params = torch.zeros(7, 1), torch.zeros(1)
    action = u.float().tanh().unsqueeze(-1)
    assert (action.abs() == 1).sum() == 2
    log_prob = head.log_prob(params, action)
    assert log_prob.isfinite().all()
    before = u.clamp(-8.6643, 8.6643)
    expected = td.Normal(0.0, 1.0).log_prob(before) - (1 - before.tanh().square()).log()
    torch.testing.assert_close(log_prob.double(), expected, atol=0.03, rtol=0)
    assert np.float32(LARGEST) < 1


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.3), (1.0, 1.0), (-0.5, 3.0)])
def test_the_entropy_of_a_squashed_gaussian_is_the_integral(mean: float, std: float) -> None:
    head = action_head(spaces.Box(-1, 1, (1,)), 4, gaussian=GaussianConfig(squashed=True))
    params = torch.tensor([[mean]]), torch.tensor([std]).log()
    u = torch.linspace(mean - 12 * std, mean + 12 * std, 200_001, dtype=torch.float64)
    gaussian = td.Normal(torch.tensor(mean).double(), torch.tensor(std).double())
    density = gaussian.log_prob(u)
    log_prob = density - log_slope(u)
    expected = -(density.exp() * log_prob).sum() * (u[1] - u[0])
    torch.testing.assert_close(head.entropy(params)[0].double(), expected, atol=3e-3, rtol=0)


def test_squashing_needs_the_bounds_that_tanh_has() -> None:
    for box in (spaces.Box(-2, 2, (1,)), spaces.Box(-np.inf, np.inf, (1,))):
        with pytest.raises(ValueError, match=r"squashed=true: got the action space .*rescale"):
            action_head(box, 4, gaussian=GaussianConfig(squashed=True))
    with pytest.raises(ValueError, match="state_dependent_std=true: expected false with use_sde"):
        GaussianConfig(use_sde=True, state_dependent_std=True)
    with pytest.raises(ValueError, match="sde_sample_freq=0: expected 1 or more, or -1"):
        GaussianConfig(sde_sample_freq=0)
