"""What a run evaluates: its newest weights, and at the end its best ones as well.

evaluator.newest(steps, interval, film, watch)    chooses checkpoint `best`
evaluator.final(run, watch)                       at the end, in more episodes, and in others

`evaluations` says when, and in which process.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ..agents.policies.policy import Policy
from ..configs import Config
from ..core.errors import EnvError
from ..envs import ids
from .evaluate import Budget, Watch, evaluate, evaluation_seed
from .film import UNSEEN, View
from .storage import checkpoint_folder, layout
from .storage.run import Run

_log = logging.getLogger(__name__)

EPISODES, FINAL_EPISODES, EPISODE_STEPS = 10, 100, 10_000
"""What `auto` is for `eval.episodes`, `eval.final_episodes` (at most) and, where nothing else ends
an episode, for `eval.max_episode_steps`: more than MiniGrid's longest has, 3,600."""


def episode_limit(cfg: Config) -> int | None:
    """Steps after which an evaluation cuts an episode; None if its environment ends it before."""
    wanted, own = cfg.eval.max_episode_steps, ids.time_limit(cfg.env)
    if wanted == "auto":
        return EPISODE_STEPS if own is None else None
    return wanted if wanted is not None and (own is None or wanted < own) else None


def opening_seed(cfg: Config, seed: int | None, *key: int) -> int:
    """The seed of an evaluation's environments, made of `seed` (None: 0) and a key.

    With `env.reseed=once` it is `seed` itself (None: the run's), because a seed is a task there.
    """
    if cfg.env.reseed == "once":
        return cfg.seed if seed is None else seed
    return evaluation_seed(seed or 0, *key)


def evaluate_stored(
    policy: Policy,
    cfg: Config,
    episodes: int,
    seed: int | None = None,
    stochastic: bool = False,
    view: View = UNSEEN,
    watch: Watch = lambda played, wanted: False,
) -> dict[str, float]:
    """Plays episodes with a policy of a run that has ended; see `evaluate`.

    Args:
        policy: Of a checkpoint.
        cfg: Of the run.
        episodes: How many.
        seed: Another seed plays other episodes; see `opening_seed`.
        stochastic: Sample the actions instead of taking the most likely ones.
        view: How they are seen.
        watch: See `Watch`.
    """
    opening = opening_seed(cfg, seed, 3)  # 1 and 2 are the keys of the run's own evaluations
    return evaluate(
        *(policy, cfg.env, episodes, opening, cfg.num_envs, stochastic),
        view=view,
        budget=Budget(episode_limit(cfg)),
        watch=watch,
    )


def cut_note(metrics: Mapping[str, float], limit: int | None) -> str | None:
    """What to say of an evaluation in which episodes were cut."""
    if not metrics.get("evaluate/cut"):
        return None
    return (
        f"{metrics['evaluate/cut']} of {metrics['evaluate/episodes']} episodes of an evaluation "
        f"were cut after {limit:,} steps (eval.max_episode_steps) and count with what they had; "
        "env.time_limit=N ends episodes in training, too"
    )


def few_note(metrics: Mapping[str, float], cfg: Config) -> str | None:
    """What to say of a final evaluation that ended before all its episodes were played."""
    played, wanted = metrics["evaluate/episodes"], cfg.eval.final_episodes
    if wanted != "auto" or played >= FINAL_EPISODES or "reason" in metrics:
        return None
    return (
        f"the final evaluation ended after {played} episodes, because evaluations at the end take "
        f"about half as many steps as the training; eval.final_episodes={FINAL_EPISODES} plays all"
    )


class Evaluator:
    """Plays greedy episodes of a run, in environments and with seeds that training never sees.

    With `env.reseed=once` the seeds are those of training's columns.

    Args:
        cfg: The run's configuration.
        policy: Plays.
    """

    def __init__(self, cfg: Config, policy: Policy) -> None:
        self._cfg, self._policy = cfg, policy
        self._limit = episode_limit(cfg)
        self._noted = False

    def newest(
        self, steps: int, interval: int, film: Path | None, watch: Watch
    ) -> dict[str, float]:
        """Metrics of the policy as it is now.

        Args:
            steps: Of its training.
            interval: Steps between two evaluations.
            film: A file for one more episode, which is played before; None: no film.
            watch: See `evaluate.Watch`.
        """
        key = (1, steps)
        if film is not None:
            self._play(1, Budget(self._limit), key, watch, film)
        return self._play(*self._share(self._cfg.eval.episodes, EPISODES, interval), key, watch)

    def final(self, run: Run, watch: Watch) -> dict[str, float]:
        """Metrics of the policy at the end of a run, and as `best/...` those of checkpoint `best`.

        Both play the same episodes, others than those by which the best was chosen. If the best has
        other weights, the policy takes them over.
        """
        chosen = checkpoint_folder.chosen(run.checkpoints, layout.BEST)
        same = chosen.name == layout.step_name(run.steps)
        steps = run.steps if same else run.steps // 2  # both take no more than one
        share = self._share(self._cfg.eval.final_episodes, FINAL_EPISODES, steps)
        newest = best = self._play(*share, (2,), watch)
        self.note(newest)
        if newest and not same:
            self._policy.load_state_dict(run.read(layout.BEST, "agent", "policy"))
            best = self._play(*share, (2,), watch)
            self.note(best)
        return newest | {key.replace("evaluate", "best"): best[key] for key in best}

    def note(self, metrics: Mapping[str, float]) -> None:
        """Says once if episodes of an evaluation were cut."""
        if (note := cut_note(metrics, self._limit)) and not self._noted:
            self._noted = True
            _log.warning("%s", note)

    def _share(self, episodes: int | Literal["auto"], most: int, steps: int) -> tuple[int, Budget]:
        """How many episodes; `auto` takes half as many steps as the training that it follows."""
        if episodes == "auto":
            return most, Budget(self._limit, steps // 2)
        return episodes, Budget(self._limit)

    def _play(
        self,
        episodes: int,
        budget: Budget,
        key: tuple[int, ...],
        watch: Watch,
        film: Path | None = None,
    ) -> dict[str, float]:
        cfg, seed = self._cfg, opening_seed(self._cfg, self._cfg.seed, *key)
        num_envs = 1 if film else cfg.num_envs
        try:
            return evaluate(
                *(self._policy, cfg.env, episodes, seed, num_envs),
                view=View(video=film),
                budget=budget,
                watch=watch,
            )
        except ValueError as error:  # training's could be made
            raise EnvError(f"evaluation: {error}") from error
