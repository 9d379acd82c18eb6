"""Evaluation: whole episodes of a policy in environments of its own.

evaluate(policy, cfg.env, episodes=100, seed=0)["evaluate/return"]
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..agents.policies.policy import Policy
from ..core.errors import require
from ..core.rollout import Rollout
from ..envs import EnvConfig, make
from ..envs.collector import Collector
from ..envs.drawing import Drawing
from ..envs.observations import check_fit
from .film import UNSEEN, View, filming

if TYPE_CHECKING:
    from .panel import Panel

_CHUNK_STEPS = 64  # a rollout; it decides only the memory used and the surplus steps at the end

Watch = Callable[[int, int], bool]
"""Called every few steps with the episodes played and wanted; True ends the evaluation."""
Keep = Callable[[Rollout[np.ndarray]], object]
"""Called with each rollout, [T+1, B] rows of all environments."""


@dataclass(frozen=True)
class Budget:
    """The most that an evaluation takes."""

    episode_steps: int | None = None
    """Steps after which an episode is cut; None: when the environment ends it."""
    steps: int | None = None
    """Steps, of all environments together, after which no further episode opens. Those that are
    open are played to their end, because without them the short ones would count too much."""

    def columns(self, num_envs: int) -> int:
        """How many environments, of `num_envs` at most, may each have an episode of full length."""
        if self.episode_steps is None or self.steps is None:
            return num_envs
        return min(num_envs, max(1, self.steps // self.episode_steps))


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
    view: View = UNSEEN,
    budget: Budget = Budget(),
    watch: Watch = lambda played, wanted: False,
) -> dict[str, float]:
    """Returns the metrics of `play` with the same arguments; {} if it played no episode."""
    played = play(policy, config, episodes, seed, num_envs, stochastic, view, budget, watch)
    return summarize(played, budget.episode_steps) if len(played) else {}


def play(
    policy: Policy,
    config: EnvConfig,
    episodes: int,
    seed: int,
    num_envs: int = 8,
    stochastic: bool = False,
    view: View = UNSEEN,
    budget: Budget = Budget(),
    watch: Watch = lambda played, wanted: False,
    keep: Keep = lambda rollout: None,
) -> np.ndarray:
    """Plays episodes and returns their (return, length, success) as float64 [episodes, 3].

    Each environment plays a fixed share of them, because the first episodes to end would be the
    short ones (as in Stable-Baselines3's `evaluate_policy`). The same seed gives the same episodes.
    The policy keeps its mode (train or eval). A lost life does not end an episode.

    Args:
        policy: what acts; without dropout and without updates of its statistics.
        config: the environment.
        episodes: how many; fewer than `num_envs` open fewer environments.
        seed: of environments and noise; see `evaluation_seed` for one that training has not.
        num_envs: environments that run side by side.
        stochastic: sample the actions instead of taking the most likely one.
        view: how they are seen; a window takes one environment.
        budget: the most steps; fewer episodes may be played then.
        watch: see `Watch`; if it ends the evaluation, the episodes so far are returned.
        keep: see `Keep`; rewards are raw.

    Raises:
        ValueError: the policy was not made for such an environment, or it cannot be shown.
    """
    num_envs = 1 if view.window else budget.columns(min(num_envs, episodes))
    shares = _Shares(episodes, num_envs)
    config = config.for_evaluation(view.drawn, budget.episode_steps)
    with filming(view.video) as folder, _acting(policy) as actor:
        panel = _panel(actor) if view.values else None
        drawing = Drawing(folder, view.window, panel and panel.extend)
        steps = 1 if view.window else _CHUNK_STEPS  # it stays open no longer than needed
        with closing(make(config, num_envs, seed, drawing=drawing)) as envs:
            check_fit(policy, envs, f"env.id={config.id!r}")
            collector = Collector(envs, panel or actor, steps, seed, greedy=not stochastic)
            shares.fill(collector, budget.steps, watch, keep)
    return shares.rows()


def _panel(policy: Policy) -> Panel:
    """What draws the values. Raises ValueError if it cannot: it needs an extra."""
    require("values", "PIL")
    from .panel import Panel

    return Panel(policy)


def quota(episodes: int, num_envs: int) -> list[int]:
    """How many episodes each environment plays."""
    return [episodes // num_envs + (column < episodes % num_envs) for column in range(num_envs)]


class _Shares:
    """The episodes that each environment plays: its share, whoever ends first."""

    def __init__(self, episodes: int, num_envs: int) -> None:
        if episodes < 1:
            raise ValueError(f"episodes: {episodes}, expected 1 or more")
        self._quota = quota(episodes, num_envs)
        self._rows: list[list[list[float]]] = [[] for _ in self._quota]

    def fill(self, collector: Collector, most_steps: int | None, watch: Watch, keep: Keep) -> None:
        """Plays until all are complete, or `watch` ends the evaluation; see `Budget.steps`."""
        steps = 0
        while self._played < (wanted := sum(self._quota)) and not watch(self._played, wanted):
            rollout = collector.collect()
            keep(rollout)
            for column, *row in rollout.episodes:
                self._rows[int(column)].append(row)
            steps += rollout.steps
            if most_steps is not None and steps >= most_steps:
                self._open_no_more(collector.finished)

    @property
    def _played(self) -> int:
        """How many episodes were played."""
        return sum(min(len(rows), n) for rows, n in zip(self._rows, self._quota, strict=True))

    def _open_no_more(self, finished: np.ndarray) -> None:
        """Opens no more episodes: those that run go on, except where `finished` [B] is true."""
        open_ones = zip(self._rows, self._quota, finished, strict=True)
        self._quota = [min(n, len(rows) + (not over)) for rows, n, over in open_ones]

    def rows(self) -> np.ndarray:
        """The rows of the episodes, environment by environment, as `play` returns them."""
        shares = zip(self._rows, self._quota, strict=True)
        return np.array([row for rows, n in shares for row in rows[:n]], np.float64).reshape(-1, 3)


def summarize(episodes: np.ndarray, limit: int | None = None) -> dict[str, float]:
    """Returns the metrics of the rows of `play`; those of `limit` steps were cut."""
    returns, lengths, successes = episodes.T
    known = successes[~np.isnan(successes)]
    success = {"evaluate/success": float(known.mean())} if len(known) else {}
    cut = {} if limit is None else {"evaluate/cut": int((lengths >= limit).sum())}
    return {
        "evaluate/return": float(returns.mean()),
        "evaluate/return_std": float(returns.std()),
        "evaluate/length": float(lengths.mean()),
        "evaluate/episodes": len(episodes),
        **success,
        **cut,
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
