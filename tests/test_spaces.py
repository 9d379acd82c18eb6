"""Spaces as people declare them: what the agent's numbers become, and what it sees."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from neuraxis.core.tree import map_tree
from neuraxis.envs import EnvConfig, make
from neuraxis.networks.observation import Encoder

from .helpers import quick, sampled, training

VECTOR = spaces.Box(-1, 1, (1,))
ODD: Any = [((1, 2), VECTOR)]
FLOAT, DOUBLE = (float(np.finfo(kind).max) for kind in (np.float32, np.float64))


class Echo(gymnasium.Env[Any, Any]):
    """Shows `shown`, and keeps the actions that it gets."""

    taken: ClassVar[list[Any]] = []

    def __init__(self, action_space: Any = None, observation_space: Any = None, shown: Any = None):
        self.action_space = action_space or spaces.Discrete(2)
        self.observation_space = observation_space or VECTOR
        self.shown = np.zeros(1, np.float32) if shown is None else shown
        Echo.taken = []

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        return self.shown, {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        Echo.taken.append(action)
        return self.shown, 0.0, False, False, {}


creator: Any = Echo
gymnasium.register("spaces/Echo-v0", creator)


def echo(**kwargs: Any) -> EnvConfig:
    settings = {name: kwargs.pop(name) for name in [*kwargs] if name in EnvConfig.model_fields}
    return EnvConfig(id="spaces/Echo-v0", kwargs=kwargs, **settings)


def arrived(space: spaces.Space[Any], actions: Any, **settings: Any) -> np.ndarray:
    """What an environment with this action space gets for the agent's actions, one after another.

    All must lie in the space, and have its dtype.
    """
    envs = make(echo(action_space=space, **settings), 1, seed=0)
    envs.reset()
    for action in np.asarray(actions):
        envs.step(action[None])
    assert all(action in space and action.dtype == space.dtype for action in Echo.taken)
    return np.array(Echo.taken)


# --- actions


@pytest.mark.parametrize(
    ("low", "high", "dtype", "expected"),
    [
        (-100, 100, np.int8, [-100, -100, 0, 80, 100, 100]),
        (0, 255, np.uint8, [0, 0, 128, 230, 255, 255]),
        (0, 60_000, np.uint16, [0, 0, 30_000, 54_000, 60_000, 60_000]),
        (-30_000, 30_000, np.int16, [-30_000, -30_000, 0, 24_000, 30_000, 30_000]),
        (0, 4, np.int32, [0, 0, 2, 4, 4, 4]),
        (0, 1, np.bool_, [0, 0, 0, 1, 1, 1]),
        (-100, 100, np.float16, [-100, -100, 0, 80, 100, 100]),
        (0, 10, np.float64, [0, 0, 5, 9, 10, 10]),
        (-1e38, 3e38, np.float32, [-1e38, -1e38, 1e38, 2.6e38, 3e38, 3e38]),
    ],
)
def test_bounded_actions_are_scaled_as_floats_and_rounded(
    low: float, high: float, dtype: Any, expected: list[float]
) -> None:
    space = spaces.Box(low, high, (1,), dtype)
    actions = np.array([-2, -1, 0, 0.8, 1, 2], np.float32)[:, None]
    np.testing.assert_allclose(arrived(space, actions)[:, 0], expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("most", "dtype"),
    [(FLOAT, np.float32), (FLOAT, np.float64), (DOUBLE, np.float64), (np.inf, np.float32)],
)
@pytest.mark.parametrize("rescale", [True, False])
def test_bounds_beyond_all_numbers_are_none(most: float, dtype: Any, rescale: bool) -> None:
    space = spaces.Box(-most, most, (1,), dtype)
    actions = np.array([-3, 0.25, 7], np.float32)[:, None]
    assert arrived(space, actions, rescale_actions=rescale)[:, 0].tolist() == [-3, 0.25, 7]


def test_integers_without_bounds_are_rounded_and_stay_in_their_dtype() -> None:
    actions = np.array([-1e4, -0.6, 2.4, 99.7, 1e30], np.float32)[:, None]
    tiny = spaces.Box(-np.inf, np.inf, (1,), np.int8)
    assert arrived(tiny, actions)[:, 0].tolist() == [-128, -1, 2, 100, 127]
    wide = arrived(spaces.Box(-np.inf, np.inf, (1,), np.int64), actions)[:, 0]
    assert wide.tolist() == [-10_000, -1, 2, 100, 2**53], "what a float counts exactly"


@pytest.mark.parametrize(
    ("start", "dtype"), [(2**64 - 3, np.uint64), (-128, np.int8), (250, np.uint8), (-5, np.int64)]
)
def test_choices_count_from_their_start(start: int, dtype: Any) -> None:
    expected = [start, start + 2]
    assert arrived(spaces.Discrete(3, start=start, dtype=dtype), [0, 2]).tolist() == expected
    starts = np.array([start, 1], dtype)
    several = spaces.MultiDiscrete(np.array([3, 2], dtype), dtype, start=starts)
    assert arrived(several, [[0, 0], [2, 1]])[:, 0].tolist() == expected


# --- observations


def seen(space: spaces.Space[Any], shown: Any, **settings: Any) -> Any:
    """What the agent gets of an observation, as it is and as the network gets it: features."""
    config = echo(observation_space=space, shown=shown, **settings)
    envs = make(config, 1, seed=0)
    obs = envs.reset()
    assert map_tree(lambda leaf: leaf[0], obs) in envs.observation_space
    tensors = map_tree(lambda leaf: torch.from_numpy(leaf)[None], obs)
    features = Encoder(envs.observation_space)(tensors, torch.zeros(1, 1, dtype=torch.bool))
    return features[0, 0].tolist()


@pytest.mark.parametrize("dtype", "?bhilBHILefdg")
def test_a_box_of_any_dtype_is_seen(dtype: str) -> None:
    most = 1 if dtype == "?" else 100
    space = spaces.Box(0, most, (2,), np.dtype(dtype).type)
    expected = [0.0, 1.0] if dtype == "B" else [0.0, float(most)]  # bytes are divided
    assert seen(space, np.array([0, most], dtype)) == expected


@pytest.mark.parametrize(
    ("start", "dtype"), [(2**64 - 3, np.uint64), (-128, np.int8), (250, np.uint8), (7, np.uint16)]
)
def test_choices_of_any_dtype_are_one_hot(start: int, dtype: Any) -> None:
    last = dtype(start + 2)
    space = spaces.Discrete(3, start=start, dtype=dtype)
    assert seen(space, last) == [0, 0, 1]
    several = spaces.MultiDiscrete(
        np.array([3, 2], dtype), dtype, start=np.array([start, 0], dtype)
    )
    assert seen(several, np.array([last, 1], dtype)) == [0, 0, 1, 0, 1]
    assert seen(several, np.array([last, 1], dtype), flatten=True) == [0, 0, 1, 0, 1]


@pytest.mark.parametrize("most", [FLOAT, 2**31 - 1])
def test_a_picture_without_bounds_is_not_divided_by_the_limit_of_its_dtype(most: float) -> None:
    dtype = np.float32 if most == FLOAT else np.int32
    space = spaces.Box(-most, most, (2, 1, 1), dtype)
    assert seen(space, np.array([3, -5], dtype).reshape(2, 1, 1)) == [3, -5]


@pytest.mark.parametrize(
    ("space", "says"),
    [
        (
            spaces.Dict({"a": spaces.Tuple([spaces.Box(0, 1, (3, 0))])}),
            r"observation_space\['a'\]\[0\] has shape \(3, 0\); expected at least one number",
        ),
        (spaces.Box(1e300, 1e301, (2,), np.float64), "expected numbers that float32 holds"),
        (spaces.Dict(ODD), r"has the key \(1, 2\); expected text"),
    ],
)
def test_what_cannot_be_seen_is_refused(space: spaces.Space[Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        make(echo(observation_space=space), 1, seed=0)
    assert "\n" not in str(refused.value)


def test_a_last_action_is_in_its_space() -> None:
    """It is what the agent chose, which clipping does not change, and 0 at the start."""
    space = spaces.Box(5, 7, (1,))
    envs = make(echo(action_space=space, rescale_actions=False, last_action=True), 1, seed=0)
    obs = [envs.reset(), envs.step(np.array([[9]], np.float32))[0]]
    assert [float(one["last_action"][0, 0]) for one in obs] == [0, 9]
    assert all(map_tree(lambda leaf: leaf[0], one) in envs.observation_space for one in obs)


def counted(dtype: str) -> Echo:
    kind, most = np.dtype(dtype).type, 1 if dtype == "bool" else 100
    space = spaces.Box(0, most, (2,), kind)
    return Echo(observation_space=space, shown=np.array([3, 50], kind))


creator = counted
gymnasium.register("spaces/Counted-v0", creator)


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64", "float16", "longdouble", "bool"])
def test_a_box_of_any_dtype_is_replayed(dtype: str) -> None:
    words = ("env=spaces/Counted-v0", f"env.kwargs.dtype={dtype}", "agent=dqn", *quick("dqn"))
    run = training(*words, "num_envs=2", "agent.train_freq=8", "total_steps=100")
    metrics = run.step() | run.step()
    assert np.isfinite(metrics["loss/td"])
    obs = sampled(run.agent.replay, 4).obs
    expected = [True, True] if dtype == "bool" else [3, 50]
    assert obs.reshape(-1, 2).unique(dim=0).tolist() == [expected]
