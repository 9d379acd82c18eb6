"""What a checkpoint holds of a run, and how the run takes it back."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ...configs.config import Config
from ...configs.groups import read_file
from ...core.stateful import Stateful
from . import checkpoint, checkpoint_folder, layout, random_state
from .atomic_files import strange
from .progress import Progress
from .run_folder import RunFolder


def capture(
    agent: Stateful, source: Stateful, progress: Progress, metrics_bytes: int
) -> dict[str, Any]:
    """Returns the tree of a checkpoint: all that the next update depends on."""
    return {
        "agent": agent.state_dict(),
        "source": source.state_dict(),
        "progress": progress.state_dict(),
        "metrics_bytes": metrics_bytes,
        "rng": random_state.state_dict(),
    }


def find(run: RunFolder, which: str) -> tuple[Path, dict[str, Any]] | None:
    """Returns the checkpoint from which a run goes on, and its tree; see `Run.load`.

    None: the run was killed before its first checkpoint.
    """
    checkpoint_folder.repair(run.checkpoints)
    saved = run.summary.get("status", "failed") != "failed"  # other ends leave a checkpoint
    if which == layout.LAST and not saved and not checkpoint_folder.steps(run.checkpoints):
        return None
    folder = checkpoint_folder.chosen(run.checkpoints, which)
    tree = checkpoint.read(folder)
    with explain_misfit(folder):
        steps, tree["metrics_bytes"] = int(tree["progress"]["steps"]), int(tree["metrics_bytes"])
    _check_total_steps(run.dir, run.cfg, run.summary, steps)
    return folder, tree


def _check_total_steps(folder: Path, cfg: Config, summary: dict[str, Any], steps: int) -> None:
    """Raises ValueError if a run that resumes at `steps` could not go on to cfg.total_steps."""
    total = cfg.total_steps
    if summary.get("status") == "finished" and steps >= total:
        expected = f"expected total_steps={total} to be greater than that"
        raise ValueError(f"{folder}: has finished at {steps} steps; {expected}")
    before = read_file(folder / layout.CONFIG, str(folder / layout.CONFIG)).get("total_steps")
    if steps > total != before:  # its own last rollout may lead beyond, before it has finished
        expected = f"expected total_steps={total} to be at least that"
        raise ValueError(f"{folder}: has {steps} steps already; {expected}")


def restore(
    tree: dict[str, Any], folder: Path, agent: Stateful, source: Stateful, progress: Progress
) -> Counter[str]:
    """Takes back what `capture` gave.

    Returns:
        How many columns are not as they were, see `Source.load_state_dict`.

    Raises:
        RunError: The checkpoint in `folder` does not fit the configuration.
    """
    with explain_misfit(folder):
        agent.load_state_dict(tree["agent"])
        columns = source.load_state_dict(tree["source"]) or Counter()
        progress.load_state_dict(tree["progress"])
        random_state.load_state_dict(tree["rng"])  # last: what is above may draw from them
    return columns


def explain_misfit(folder: Path) -> AbstractContextManager[None]:
    """Turns what loading a checkpoint of another network or environment raises into a RunError."""
    return strange(f"{folder}: does not fit what config.yaml describes")
