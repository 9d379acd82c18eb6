"""Observations that are not in their space are refused, and when that is looked at."""

from __future__ import annotations

import logging
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

from neuraxis.envs import EnvConfig, EnvError, Envs, make
from neuraxis.envs.config import When
from neuraxis.envs.observation_check import EVERY, YOUNG

PICTURE = spaces.Box(0, 255, (2, 2), np.uint8)
GOOD = np.full((2, 2), 7, np.uint8)


def picture(value: Any, dtype: Any = np.int64) -> np.ndarray:
    """The good picture with another value at [0, 1]."""
    changed = GOOD.astype(dtype)
    changed[0, 1] = value
    return changed


BAD: dict[str, tuple[spaces.Space[Any], Any, Any, str]] = {
    "above": (
        PICTURE,
        GOOD,
        picture(300),
        "observation has 300 at [0, 1], its observation_space says 0 to 255",
    ),
    "below": (PICTURE, GOOD, picture(-1), "observation has -1 at [0, 1], its"),
    "above its own bound": (
        spaces.Box(0, 10, (2, 2), np.uint8),
        GOOD,
        picture(200, np.uint8),
        "observation has 200 at [0, 1], its observation_space says 0 to 10",
    ),
    "choice": (spaces.Discrete(5), 3, 9, "observation has 9, its observation_space says 0 to 4"),
    "choice before the start": (
        spaces.Discrete(5, start=2),
        3,
        1,
        "observation has 1, its observation_space says 2 to 6",
    ),
    "choices": (
        spaces.MultiDiscrete([2, 5]),
        np.array([1, 3]),
        np.array([3, 1]),
        "observation has 3 at [0], its observation_space says 0 to 1",
    ),
    "bit": (spaces.MultiBinary(2), np.array([0, 1]), np.array([1, 2]), "has 2 at [1], its"),
    "fraction": (
        spaces.Discrete(5),
        3,
        0.5,
        "0.5 of shape () and dtype float64, its observation_space says () and int64",
    ),
    "shape": (
        PICTURE,
        GOOD,
        GOOD[0],
        "of shape (2,) and dtype uint8, its observation_space says (2, 2)",
    ),
    "text": (spaces.Box(0, 1, ()), 0.5, "fast", "observation is 'fast' of shape ()"),
    "nothing": (spaces.Box(0, 1, ()), 0.5, None, "observation is None of shape ()"),
    "key": (
        spaces.Dict({"eye": spaces.Tuple([PICTURE])}),
        {"eye": (GOOD,)},
        {"eye": (picture(300),)},
        "observation['eye'][0] has 300 at [0, 1], its",
    ),
    "no key": (
        spaces.Dict({"eye": spaces.Tuple([PICTURE])}),
        {"eye": (GOOD,)},
        {"eyes": (GOOD,)},
        "observation['eye'][0] is missing",
    ),
    "too short": (
        spaces.Tuple([PICTURE, PICTURE]),
        (GOOD, GOOD),
        (GOOD,),
        "observation[1] is missing",
    ),
}


class Late(gymnasium.Env[Any, Any]):
    """Gives what is not in its space in step `at`, and in the `times` - 1 after it; ends never."""

    def __init__(self, bad: str = "above", at: int = 2, times: int = 10**9) -> None:
        self.observation_space, self.good, self.bad, _ = BAD[bad]
        self.action_space = spaces.Discrete(2)
        self.at, self.times = at, times
        self.steps = 0

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        return (self.good if self.at else self.bad), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        late = self.at <= self.steps < self.at + self.times
        return self.bad if late else self.good, 0.0, False, False, {}


class LateVector(CartPoleVectorEnv):
    """CartPole that shows zeros, and another value in step 3."""

    calls = 0

    def __init__(self, value: float = 0.0, num_envs: int = 1) -> None:
        super().__init__(num_envs)
        self.single_observation_space = spaces.Box(-99, 99, (4,), np.int16)
        self.value = value

    def reset(self, **options: Any) -> Any:
        obs, info = super().reset(**options)
        return (obs * 0).astype(int), info

    def step(self, action: np.ndarray) -> Any:
        self.calls += 1
        obs, *rest = super().step(action)
        obs = (obs * 0).astype(int)
        if self.calls == 3:
            obs = obs.astype(type(self.value))
            obs[1, 2] = self.value
        return obs, *rest


late: Any = Late
many: Any = LateVector
gymnasium.register("check/Late-v0", late)
gymnasium.register("check/Vector-v0", vector_entry_point=many)


def opened(check: When = "auto", env_id: str = "check/Late-v0", **kwargs: Any) -> Envs:
    envs = make(EnvConfig(id=env_id, kwargs=kwargs, check=check), 2, seed=0, first_column=4)
    envs.reset()
    return envs


def fails_at(envs: Envs, most: int) -> int | None:
    """The number of the step that is refused; None if the first `most` are not."""
    for step in range(1, most + 1):
        try:
            envs.step(np.zeros(2, int))
        except EnvError:
            return step
    return None


@pytest.mark.parametrize("bad", BAD)
def test_what_is_not_in_its_space_is_named(bad: str) -> None:
    envs = opened(bad=bad)
    envs.step(np.zeros(2, int))
    with pytest.raises(EnvError) as caught:
        envs.step(np.zeros(2, int))
    message = str(caught.value)
    assert message.startswith("check/Late-v0, column 4, seed ") and "\n" not in message
    assert ", step 2: " in message and BAD[bad][3] in message, message


def test_the_first_observation_is_looked_at() -> None:
    with pytest.raises(EnvError, match=r"column 4, seed \d+, reset: .*observation has 300"):
        opened(at=0)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (100, "has 100 at [1, 2], its observation_space says -99 to 99"),
        (0.5, "dtype float64, its observation_space says (2, 4) and int16"),
    ],
)
def test_a_vector_form_is_looked_at(value: float, says: str) -> None:
    envs = opened(env_id="check/Vector-v0", value=value)
    assert fails_at(envs, 2) is None
    with pytest.raises(EnvError) as caught:
        envs.step(np.zeros(2, int))
    assert "columns 4 to 5, run seed 0, step 3: " in str(caught.value)
    assert says in str(caught.value)


def test_later_an_observation_is_looked_at_every_so_often() -> None:
    assert fails_at(opened(at=YOUNG), YOUNG) == YOUNG
    late = YOUNG + EVERY // 2
    found = fails_at(opened(at=late), late + EVERY)
    assert found is not None and late < found < late + EVERY
    assert fails_at(opened(at=late, times=1), late + EVERY) is None, "was not looked at"


def test_always_and_never() -> None:
    late = YOUNG + EVERY // 2
    assert fails_at(opened("always", at=late, times=1), late) == late
    assert fails_at(opened("never", at=0), 10) is None


def test_a_float_outside_its_bounds_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Many environments are careless with the bounds of floats; what they give is learned from."""
    BAD["far"] = (
        spaces.Dict(x=spaces.Box(0, 1, (2,))),
        {"x": np.zeros(2)},
        {"x": np.array([0, 7])},
        "",
    )
    BAD["last bit"] = (
        spaces.Box(0, 0.1, (1,), np.float64),
        np.zeros(1),
        np.array([np.float32(0.1)]),
        "",
    )
    BAD["free"] = (spaces.Box(-np.inf, np.inf, (1,)), np.zeros(1), np.array([1e30]), "")
    with caplog.at_level(logging.WARNING):
        for bad in ("far", "far", "last bit", "free"):
            assert fails_at(opened(bad=bad), 5) is None
    (message,) = caplog.messages
    assert message.startswith("check/Late-v0, column 4, seed ")
    assert (
        ", step 2: observation['x'] has 7.0 at [1], its observation_space says 0.0 to 1.0"
        in message
    )
