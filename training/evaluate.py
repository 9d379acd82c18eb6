"""Evaluation: whole episodes of a policy in environments of its own.

evaluate(policy, cfg.env, episodes=100, seed=0)["evaluate/return"]
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from ..agents.policies import Policy
from ..envs.collector import Collector
from ..envs.make import EnvConfig, make
from .files import disk

_CHUNK_STEPS = 64  # a rollout's length; only memory and the overshoot at the end depend on it


class Stopped(Exception):
    """An evaluation was ended before it had its episodes."""


def evaluation_seed(seed: int, *key: int) -> int:
    """A seed whose episodes are not those that training with `seed` opens; one for each `key`."""
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1)[0])


def evaluate(
    policy: Policy,
    config: EnvConfig,
    episodes: int,
    seed: int,
    num_envs: int = 8,
    stochastic: bool = False,
    video: str | Path | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Returns the metrics of `play` with the same arguments."""
    return summarize(play(policy, config, episodes, seed, num_envs, stochastic, video, stop))


def play(
    policy: Policy,
    config: EnvConfig,
    episodes: int,
    seed: int,
    num_envs: int = 8,
    stochastic: bool = False,
    video: str | Path | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> np.ndarray:
    """Plays `episodes` episodes and returns their (return, length) as float64 [episodes, 2].

    Each environment has its own quota of episodes, for the first ones to end over all environments
    are the short ones (as Stable-Baselines3's `evaluate_policy`). The same seed gives the same
    episodes; the policy keeps its mode (train or eval) and its weights. Lost lives don't end
    episodes, whatever ends them in training.

    Args:
        policy: what acts; without dropout and without updates of its statistics.
        config: the environment.
        episodes: how many; fewer than `num_envs` open fewer environments.
        seed: of the environments and of the policy's noise; the seed of a run gives the episodes
            that it trained in, so see `evaluation_seed`.
        num_envs: environments that run side by side.
        stochastic: sample the actions instead of taking the most likely one.
        video: a file for the first episode of the first environment.
        stop: asked every few steps whether to give up.

    Raises:
        Stopped: `stop` said so.
    """
    if episodes < 1:
        raise ValueError(f"episodes: {episodes}, expected 1 or more")
    num_envs = min(num_envs, episodes)
    quota = [episodes // num_envs + (column < episodes % num_envs) for column in range(num_envs)]
    played: list[list[tuple[float, float]]] = [[] for _ in range(num_envs)]
    config = config.for_evaluation(filmed=video is not None)
    with _recording(video) as folder, _acting(policy) as actor:
        with closing(make(config, num_envs, seed, video=folder)) as envs:
            collector = Collector(envs, actor, _CHUNK_STEPS, seed, greedy=not stochastic)
            while any(len(rows) < wanted for rows, wanted in zip(played, quota, strict=True)):
                if stop():
                    raise Stopped
                for column, episode_return, length in collector.collect().episodes:
                    played[int(column)].append((episode_return, length))
    return np.array([row for rows, n in zip(played, quota, strict=True) for row in rows[:n]])


def summarize(episodes: np.ndarray) -> dict[str, float]:
    """Returns the metrics of (return, length) rows [E, 2]."""
    returns, lengths = episodes.T
    return {
        "evaluate/return": float(returns.mean()),
        "evaluate/return_std": float(returns.std()),
        "evaluate/length": float(lengths.mean()),
        "evaluate/episodes": len(episodes),
    }


@contextmanager
def _acting(policy: Policy) -> Iterator[Policy]:
    """Gives the policy in eval mode, a copy if it lives on a GPU: the collector acts on the CPU.

    Afterwards every module has its own mode back, for a frozen part may differ from the rest.
    """
    if any(parameter.device.type != "cpu" for parameter in policy.parameters()):
        policy = copy.deepcopy(policy).cpu()
    modes = {module: module.training for module in policy.modules()}
    policy.eval()
    try:
        yield policy
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _recording(video: str | Path | None) -> Iterator[str | None]:
    """Gives `envs.make` a folder for its videos, and moves the first episode's to `video`."""
    if video is None:
        yield None
        return
    target = Path(video)
    with disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=".video-", dir=target.parent)
    with folder:
        films = Path(folder.name, "films")  # gymnasium warns of a folder that exists
        yield str(films)
        with disk(target):
            shutil.move(next(films.glob("*episode-0.mp4")), target)
