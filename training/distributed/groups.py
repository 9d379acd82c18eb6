"""The columns of a run in groups: one collector each, in this process or in a Ray worker."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from ...agents.policies.policy import Policy
from ...configs import Config
from ...core.errors import RunError
from ...envs import make
from ...envs.collector import Collector
from ...envs.regrouping import regroup


def open_group(
    cfg: Config,
    policy: Policy,
    length: int,
    group: int,
    generation: int = 0,
    saved: dict[str, Any] | None = None,
) -> tuple[Collector, Counter[str]]:
    """The collector of a group of columns, and how many of them open new episodes instead.

    Args:
        cfg: The run's configuration.
        policy: Acts; on the CPU, in eval mode.
        length: T.
        group: 0 to G-1.
        generation: How often the group was opened anew, after a fault for instance; each time its
            episodes and its actions' noise have seeds of their own. Not the episodes where a seed
            is a task (`env.reseed=once`), or a level that all share (`env.levels`).
        saved: Where the columns stood, of the same generation; None: all open new episodes.
    """
    size = cfg.num_envs // (cfg.ray.workers or cfg.groups)
    seed = cfg.seed
    if generation:
        words = np.random.SeedSequence(seed, spawn_key=(generation, 0, 0)).generate_state(2)
        seed = int(words[0]) << 32 | int(words[1])
    opening = cfg.seed if cfg.env.reseed == "once" or cfg.env.levels else seed
    collector = Collector(
        make(cfg.env, size, opening, first_column=group * size),
        policy,
        length,
        seed,
        first_column=group * size,
        reward_scale=cfg.env.reward_scale,
        reward_clip=cfg.env.reward_clip,
    )
    if saved is None:
        return collector, Counter(reopened=size)
    return collector, collector.load_state_dict(saved)


def regrouped(
    state: dict[str, Any], num_envs: int, groups: int
) -> tuple[list[int], list[dict[str, Any] | None], Counter[str]]:
    """A source's state for so many groups, if it was of another number of them.

    Returns:
        Of each group the generation, and where its columns stood: None where these were of several
        generations, after a fault. Then how many columns are `regrouped`.

    Raises:
        RunError: It is that of another number of columns.
    """
    generations, collectors = list(state["generations"]), list(state["collectors"])
    if state["num_envs"] != num_envs:
        raise RunError(
            f"the checkpoint has num_envs={state['num_envs']}, the configuration "
            f"num_envs={num_envs}; expected the same"
        )
    if len(generations) == groups:
        return generations, collectors, Counter()
    rows = np.repeat(generations, num_envs // len(generations)).reshape(groups, -1)
    several = (rows != rows[:, :1]).any(1)
    stood = [None] * groups if None in collectors else regroup(collectors, groups)
    return (
        np.where(several, rows.max() + 1, rows[:, 0]).tolist(),
        [None if new else one for new, one in zip(several, stood, strict=True)],
        Counter(regrouped=num_envs),
    )
