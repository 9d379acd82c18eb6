"""What an agent will see of an environment, and what would go wrong: plain sentences.

for finding in check_env(env="CartPole-v1"):
    print(finding.kind, finding.text)
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from gymnasium.utils import env_checker

from ...configs import Config
from ...core.action_mask import mask_at, mask_path, random_action
from ...core.errors import EnvError, Guard
from ...core.tree import Tree, leaves
from ...envs import ids, make
from ...envs.make import probe
from ...envs.observation_check import check_finite
from ...envs.single import building, make_single
from ...envs.vector import Envs
from ..evaluator import EPISODE_STEPS
from ..python_objects import load_config
from ..storage import random_state
from . import preflight
from .env_description import sentences

STEPS, SECONDS = 1_000, 10.0
"""Random steps that are played at most, and their most wall seconds."""
LARGE = 10.0
"""Numbers above it are far from what a fresh network gives, about 1."""
_MARK = re.compile(r"\x1b\[\d+m(WARN: )?")  # of Gymnasium's warnings


class Finding(NamedTuple):
    """A sentence: `sees` describes, `ok` was checked, `note` may matter, `fault` must be mended."""

    kind: Literal["sees", "ok", "note", "fault"]
    text: str


def check_env(*words: str, **overrides: Any) -> list[Finding]:
    """Makes an environment, plays it, and tells what an agent will see of it.

    Args:
        words: As for `train`; those of the environment matter.
        overrides: More words, as Python values; `env` may be an object, see `train`.

    Raises:
        ValueError: The words are wrong, or there is no such environment.
    """
    cfg = load_config(words, overrides)
    cfg = cfg.model_copy(update={"env": cfg.env.model_copy(update={"check": "always"})})
    ids.find(cfg.env)
    with random_state.kept():
        return list(_findings(cfg))


def _findings(cfg: Config) -> Iterator[Finding]:
    try:
        interface = probe(cfg.env, cfg.seed)
        for text in sentences(interface):
            yield Finding("sees", text)
        yield from _played(cfg)
        yield from _repeats(cfg)
        if found := preflight.unused_mask(cfg, interface.observation_space):
            yield Finding("note", found)
        yield from _films(cfg)
        yield from _gymnasium(cfg)
    except (ValueError, EnvError) as error:
        yield Finding("fault", str(error))


@dataclass
class _Play:
    """What random actions met."""

    rewards: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    truncated: int = 0
    largest: float = 0.0  # number of an observation with floats


def _played(cfg: Config) -> Iterator[Finding]:
    """Plays random actions, with every observation checked against its space."""
    with closing(make(cfg.env, 1, cfg.seed)) as envs:
        begin = time.monotonic()
        play = _play(envs, cfg.seed, begin + SECONDS)
        rate = len(play.rewards) / (time.monotonic() - begin)
    steps = f"{len(play.rewards):,} random steps at {rate:,.0f} a second"
    yield Finding("ok", f"{steps}: training takes every observation and reward")
    yield from _episodes(cfg, play)
    yield from _scales(cfg, play)


def _play(envs: Envs, seed: int, until: float) -> _Play:
    """What random actions meet until then, by `time.monotonic`. Raises EnvError."""
    play = _Play()
    path, first, episode = mask_path(envs.observation_space), False, [0.0, 0.0]
    envs.action_space.seed(seed)
    obs = envs.reset()
    while len(play.rewards) < STEPS and time.monotonic() < until:
        mask = mask_at(envs.obs, path)
        action = random_action(envs.action_space, None if mask is None else mask[0])
        obs, reward, terminated, truncated = envs.step(action[None])
        for what, numbers in [("reward", reward), *(("observation", leaf) for leaf in leaves(obs))]:
            check_finite(what, numbers[None], [0], len(play.rewards) + 1, seed)
        play.largest = max(play.largest, _largest(obs))
        if first:  # the step after an end is the reset
            first = False
            continue
        play.rewards.append(float(reward[0]))
        episode = [episode[0] + 1, episode[1] + float(reward[0])]
        if first := bool(terminated[0] or truncated[0]):
            play.lengths.append(int(episode[0]))
            play.returns.append(episode[1])
            play.truncated += bool(truncated[0])
            episode = [0.0, 0.0]
    return play


def _largest(obs: Tree) -> float:
    floats = [leaf for leaf in leaves(obs) if leaf.dtype.kind == "f" and leaf.size]
    return max((float(np.abs(leaf).max()) for leaf in floats), default=0.0)


def _episodes(cfg: Config, play: _Play) -> Iterator[Finding]:
    if play.lengths:
        yield Finding(
            "ok",
            f"{len(play.lengths)} episodes of {min(play.lengths)} to {max(play.lengths)} steps "
            f"ended, {play.truncated} of them truncated; returns from {min(play.returns):.4g} to "
            f"{max(play.returns):.4g}",
        )
        return
    yield Finding("note", f"no episode ended in {len(play.rewards):,} random steps")
    if ids.time_limit(cfg.env) is None:
        yield Finding(
            "note",
            f"evaluations cut an episode after {EPISODE_STEPS:,} steps, because nothing says that "
            "it ever ends; env.time_limit=N truncates it in training as well",
        )


def _scales(cfg: Config, play: _Play) -> Iterator[Finding]:
    low, high = min(play.rewards, default=0.0), max(play.rewards, default=0.0)
    if low == high:
        yield Finding("note", f"every reward was {low:g}: random actions do not find another one")
    else:
        yield Finding("ok", f"rewards from {low:.4g} to {high:.4g}")
    if max(-low, high) * abs(cfg.env.reward_scale) > LARGE and cfg.env.reward_clip is None:
        yield Finding(
            "note",
            "rewards are large: env.reward_scale=0.01 for instance, or with PPO, A2C and their "
            "like agent.normalize_rewards=true",
        )
    if play.largest > LARGE and not getattr(cfg.agent, "normalize_observations", False):
        yield Finding(
            "note",
            f"observations have numbers up to {play.largest:.4g}: "
            "agent.normalize_observations=true",
        )


def _repeats(cfg: Config) -> Iterator[Finding]:
    """Whether seeds repeat episodes."""
    found = preflight.randomness(cfg)
    yield Finding("note", found) if found else Finding("ok", "the same seed gives the same episode")


def _films(cfg: Config) -> Iterator[Finding]:
    """Whether it can be filmed."""
    try:
        preflight.film(cfg)
    except (ValueError, EnvError) as error:
        yield Finding("note", f"no videos: {error}")
    else:
        yield Finding("ok", "it can be filmed")


def _gymnasium(cfg: Config) -> Iterator[Finding]:
    """What Gymnasium's own check says of the environment without its wrappers."""
    spec = ids.find(cfg.env)
    if spec.entry_point is None:
        return
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            with building(cfg.env):
                env = make_single(cfg.env, spec, None).unwrapped
            with closing(env), Guard(lambda: "Gymnasium's check", ValueError):
                env_checker.check_env(env, skip_render_check=True)
        except ValueError as error:
            yield Finding("fault", str(error))
        else:
            yield Finding("ok", "Gymnasium's own check passes")
    for line in dict.fromkeys(" ".join(str(warning.message).split()) for warning in said):
        yield Finding("note", f"Gymnasium: {_MARK.sub('', line)}")
