"""A stored policy with which a command plays episodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ...agents.policies.policy import Policy
from ...configs import Config, load_resumed
from ..distributed.process import configure_process
from ..evaluate import Budget
from ..evaluator import cut_note, episode_limit
from ..saved_policy import load_checkpoint
from ..storage import checkpoint_folder, layout
from . import options
from .output import results, say


class StoredPolicy(NamedTuple):
    """The policy of a checkpoint, and how it was trained."""

    policy: Policy
    config: Config
    folder: Path
    checkpoint: str  # its name, `step_...`
    budget: Budget

    def facts(self) -> dict[str, str]:
        """Which policy it is, for a file."""
        agent = self.config.agent.name
        return {"run": str(self.folder), "checkpoint": self.checkpoint, "agent": agent}

    def print_results(self, metrics: Mapping[str, float]) -> None:
        """Prints the results of episodes, and whether some of them were cut."""
        results(metrics, self.checkpoint)
        if note := cut_note(metrics, self.budget.episode_steps):
            say(f"note: {note}", err=True)


def open_policy(run: Path, words: Iterable[str], checkpoint: str, trust: bool) -> StoredPolicy:
    """Reads a policy of a run, and sets this process up as the run's was.

    Args:
        run: The run's folder.
        words: `env.id=MODULE:ID`, or none.
        checkpoint: `best`, `last` or `step_...`.
        trust: See `load`.

    Raises:
        ValueError: Other words, no such run or checkpoint, or the run is not trusted.
        RunError: The run is damaged.
    """
    options.only_another_module(words)
    folder = layout.find(run)
    config = load_resumed(folder / layout.CONFIG, words, trust, ray={})
    configure_process(config.threads)
    chosen = checkpoint_folder.chosen(folder / layout.CHECKPOINTS, checkpoint)
    policy = load_checkpoint(folder, chosen, trust)
    return StoredPolicy(policy, config, folder, chosen.name, Budget(episode_limit(config)))
