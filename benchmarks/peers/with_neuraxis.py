"""Trains with neuraxis: `with_neuraxis.py CASE SEED`, one turn of `time_to_score.py`."""

from __future__ import annotations

import sys
from typing import Any

from episodes import say

from neuraxis.training import Callback, train

WORDS = {
    "cartpole": ("experiment=cartpole_ppo",),
    "lunarlander": ("experiment=lunarlander_ppo", "overlap=true"),
    "pendulum": ("experiment=pendulum_sac", "total_steps=20_000"),
    "pong": ("experiment=pong_ppo", "overlap=true"),
}
"""Of `neuraxis train`."""
QUIET = ("wandb.mode=disabled", "eval.interval_steps=0", "eval.final_episodes=1", "run_dir=run")


class Say(Callback):
    """Says each finished episode."""

    def on_rollout(self, run: Any, rollout: Any) -> None:
        """Says those that ended in the rollout."""
        for returned in rollout.episodes[:, 1]:
            say(run.steps + rollout.steps, returned)


if __name__ == "__main__":
    case, seed, *more = sys.argv[1:]
    train(*WORDS[case], *QUIET, f"seed={seed}", *more, callbacks=[Say()], quiet=True)
