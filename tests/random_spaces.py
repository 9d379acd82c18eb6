"""Random spaces of observations and actions, an environment that has them, and training on it.

`tests/test_random_spaces.py` takes some of them, `benchmarks/random_spaces.py` takes many.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.random import Generator

from neuraxis.agents.policies.policy import Policy
from neuraxis.core.errors import EnvError, Guard, shorten
from neuraxis.core.tree import map_tree
from neuraxis.training.distributed.local_source import LocalSource

from .helpers import quick, training, weights

Space = spaces.Space[Any]

DTYPES = [np.dtype(kind) for kind in "?bhilBHILefdg"]  # all that a Box may have
KEYS = ["", " ", ".", "a.b", "a/b", "part_0", "training", "weight", "mission", "ü\n", "0", "x" * 99]
USUAL = np.float64(1e6)
"""Observations are smaller, although their space may allow more."""
ENV = "random/Spaces-v0"


@functools.cache
def both(number: int) -> tuple[Space, Space]:
    """The spaces of observations and of actions that a number chooses."""
    rng = np.random.default_rng(number)
    return of_observations(rng), of_actions(rng)


def of_observations(rng: Generator, depth: int = 0) -> Space:
    """A random space of observations; at most three Dicts or Tuples deep."""
    nested = rng.random()
    size = int(rng.integers(4)) if depth < 3 else 0
    if nested < 0.25 and size:
        keys = rng.choice(KEYS, size, replace=False)
        return spaces.Dict({str(key): of_observations(rng, depth + 1) for key in keys})
    if nested < 0.4 and size:
        return spaces.Tuple([of_observations(rng, depth + 1) for _ in range(size)])
    return _leaf(rng)


def of_actions(rng: Generator) -> Space:
    """A random space of actions, mostly with one axis."""
    nested = rng.random() < 0.05
    return of_observations(rng) if nested else _leaf(rng, (0, *[1] * 18, 2), far=True)


def _leaf(rng: Generator, ranks: tuple[int, ...] = (0, 1, 1, 2, 3, 4), far: bool = False) -> Space:
    shape = tuple(int(n) for n in rng.integers(1, 11, rng.choice(ranks)))
    if rng.random() < 0.01:
        shape = (*shape[:-1], 0)
    integers = [dtype for dtype in DTYPES if dtype.kind in "iu"]
    dtype = integers[rng.integers(len(integers))]
    kind = rng.random()
    if kind < 0.5:
        return _box(rng, shape, far)
    if kind < 0.7:
        size, start = _counted(rng, dtype)
        return spaces.Discrete(size, start=start, dtype=dtype.type)
    if kind < 0.85:
        pairs = np.array([_counted(rng, dtype) for _ in range(int(np.prod(shape)))], object)
        sizes, starts = pairs.reshape(*shape, 2)[..., 0], pairs.reshape(*shape, 2)[..., 1]
        return spaces.MultiDiscrete(sizes.astype(dtype), dtype.type, start=starts.astype(dtype))
    if kind < 0.99:
        return spaces.MultiBinary(shape if 0 not in shape and shape else 3)
    return spaces.Text(5) if rng.random() < 0.5 else spaces.Sequence(spaces.Discrete(2))


def _counted(rng: Generator, dtype: np.dtype[Any]) -> tuple[int, int]:
    """How many choices a part has, and the first: 0, the dtype's last ones, or between."""
    ends = np.iinfo(dtype)
    size = int(rng.choice([1, 2, 3, 5, 100, 127]))
    last = int(ends.max) - size
    starts = [0, 0, int(ends.min), last, min(last, 7), max(int(ends.min), -3)]
    return size, starts[rng.integers(len(starts))]


def _box(rng: Generator, shape: tuple[int, ...], far: bool) -> spaces.Box:
    """A Box; `far` lets its numbers be far from 0, for which networks are not made."""
    dtype = DTYPES[rng.integers(len(DTYPES))]
    if dtype.kind == "b":
        return spaces.Box(0, 1, shape, dtype.type)
    real = dtype.kind == "f"
    ends = np.finfo(dtype) if real else np.iinfo(dtype)
    least, most = ends.min, ends.max
    ways: list[Callable[[], tuple[Any, Any]]] = [
        lambda: (0, 1),
        lambda: (0, most if real else min(255, int(most))),
        lambda: (least, most),
        lambda: (7, 7),
        lambda: (least / 2, most / 2) if real else (int(least) // 2, int(most) // 2),
    ]
    if far:
        ways += [lambda: (most / 4, most / 2) if real else (int(most) // 4, int(most) // 2)]
    if dtype.kind != "u":
        ways += [lambda: (-1, 1), lambda: (-100, 100), lambda: (-3, 5)]
        ways += [lambda: (-np.inf, np.inf), lambda: (0, np.inf), lambda: (-np.inf, 0)]
    if rng.random() < 0.75 or not np.prod(shape):
        low, high = ways[rng.integers(len(ways))]()
        return spaces.Box(low, high, shape, dtype.type)
    low, high = np.empty(shape, dtype), np.empty(shape, dtype)
    for index in np.ndindex(shape):
        one = spaces.Box(*ways[rng.integers(len(ways))](), (1,), dtype.type)
        low[index], high[index] = one.low[0], one.high[0]
    return spaces.Box(low, high, dtype=dtype.type)


def value(space: Space, rng: Generator) -> Any:
    """A value of a space: often an end of it (Gymnasium's samples overflow in wide spaces)."""
    match space:
        case spaces.Dict():
            return {key: value(part, rng) for key, part in space.spaces.items()}
        case spaces.Tuple():
            return tuple(value(part, rng) for part in space.spaces)
        case spaces.Box():
            return _between(space.low, space.high, rng)
        case spaces.Discrete():
            return _between(space.start, space.start + (space.n - space.dtype.type(1)), rng)[()]
        case spaces.MultiDiscrete():
            return _between(space.start, space.start + (space.nvec - space.dtype.type(1)), rng)
    return rng.integers(0, 2, space.shape).astype(np.int8)


def _between(low: Any, high: Any, rng: Generator) -> np.ndarray:
    low, high = np.asarray(low), np.asarray(high)
    near = np.clip(rng.integers(0, 3, low.shape).astype(low.dtype), low, high)
    ends = [end for end in (low, high) if ((-USUAL < end) & (end < USUAL)).all()]
    return [*ends, near][rng.integers(len(ends) + 1)].copy()


class RandomSpaces(gymnasium.Env[Any, Any]):
    """An environment whose spaces a number chooses; it insists that actions are in its space."""

    def __init__(self, number: int = 0) -> None:
        self.observation_space, self.action_space = both(number)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return value(self.observation_space, self.np_random), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        inside = isinstance(action, np.ndarray | np.generic) and action in self.action_space
        assert inside, f"{action!r} is not in {self.action_space}"
        self.count += 1
        obs = value(self.observation_space, self.np_random)
        return obs, self.np_random.uniform(), self.count == 3, self.count == 5, {}


class RandomVector(VectorEnv[Any, Any, Any]):
    """The vector form of it."""

    def __init__(self, number: int = 0, num_envs: int = 1) -> None:
        self.envs = [RandomSpaces(number) for _ in range(num_envs)]
        self.num_envs = num_envs
        self.single_observation_space = self.envs[0].observation_space
        self.single_action_space = self.envs[0].action_space
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        self.over = [False] * self.num_envs
        first = [env.reset(seed=seed)[0] for seed, env in enumerate(self.envs)]
        return self._batch(first), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        steps = [
            (env.reset()[0], 0.0, False, False, {}) if over else env.step(actions[index, ...])
            for index, (env, over) in enumerate(zip(self.envs, self.over, strict=True))
        ]
        obs, reward, terminated, truncated, _ = zip(*steps, strict=True)
        self.over = [one or other for one, other in zip(terminated, truncated, strict=True)]
        return self._batch(obs), np.array(reward), np.array(terminated), np.array(truncated), {}

    def _batch(self, obs: Any) -> Any:
        return map_tree(lambda *leaves: np.stack(leaves), *obs)


creator: Any = RandomSpaces
many: Any = RandomVector
gymnasium.register(ENV, creator, vector_entry_point=many)

SMALL = "network.blocks.0.sizes=[8]"
MORE = {
    "env.vectorization=native": 0.25,
    "env.flatten=true": 0.1,
    "env.frame_stack=2": 0.1,
    "env.last_action=true": 0.1,
    "env.rescale_actions=false": 0.2,
    "agent.normalize_observations=true": 0.25,
}
"""Settings that change what the agent sees or does, and how often they are chosen."""


def agents_for(number: int) -> tuple[str, str]:
    """PPO, and an agent with a replay that may know these actions."""
    return "ppo", "sac" if isinstance(both(number)[1], spaces.Box) else "dqn"


def words(number: int, agent: str) -> list[str]:
    """A small training on these spaces, as the command line takes it."""
    rng = np.random.default_rng([number, 1])
    chosen = [word for word, share in MORE.items() if rng.random() < share]
    network = str(rng.choice(["network=cnn_small", "network=lstm", SMALL], p=[0.1, 0.1, 0.8]))
    small = [*quick(agent), *(() if agent == "ppo" else ("agent.buffer_size=128",))]
    env = [
        f"env=tests.random_spaces:{ENV}",
        f"env.kwargs.number={number}",
        "num_envs=2",
        "total_steps=999",
    ]
    return [*env, f"agent={agent}", network, *small, *chosen]


def attempt(number: int, agent: str) -> str | None:
    """Trains two updates, unless that is refused: then the line that says why.

    Raises:
        AssertionError: It ends in another way. A metric is not finite, no weight has moved, an
            observation is not in the agent's space, an action not in the environment's, or neuraxis
            fails. The message is a command line that repeats it, and the fault.
    """
    line = f"neuraxis train {shlex.join(words(number, agent))}"
    try:
        with Guard(lambda: line, AssertionError):
            return _refusal(number, agent)
    except EnvError as error:
        raise AssertionError(f"{line}: {error}") from error


def _refusal(number: int, agent: str) -> str | None:
    try:
        run = training(*words(number, agent))
    except ValueError as error:
        message = str(error)
        assert "\n" not in message and len(message) < 400, message
        return message
    before = weights(run.agent)
    metrics = run.step() | run.step()
    assert np.isfinite([*metrics.values()]).all(), metrics
    assert not torch.equal(before, weights(run.agent)), "no weight has moved"
    assert isinstance(run.source, LocalSource)
    envs = run.source.collectors[0].envs
    for index in range(envs.num_envs):
        obs = map_tree(lambda leaf, row=index: leaf[row, ...], envs.obs)
        assert obs in envs.observation_space, shorten(f"{obs} is not in {envs.observation_space}")
    run.source.close()
    _predict(run.agent.policy, number)
    return None


def _predict(policy: Policy, number: int) -> None:
    """Steps the environment oneself, which insists that actions are in its space."""
    env = RandomSpaces(number)
    (obs, _), state, reward = env.reset(seed=number), None, None
    for _ in range(3):
        action, state = policy.predict(obs, state, reward=reward)
        obs, reward, *_ = env.step(action)
