"""A run as it lies on disk: its configuration, its summary, its checkpoints. Nothing is written.

weights = RunFolder.open(path).read("best", "agent", "policy")
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from ... import configs
from ...configs.config import Config
from . import checkpoint, checkpoint_folder, layout
from .atomic_files import read_json

Status = Literal["finished", "stopped", "interrupted", "failed"]
"""How a run ended: at total_steps, by `Run.stop`, by Ctrl-C or another signal, by an error."""


class Outcome(NamedTuple):
    """How a run ended; the arguments of `Run.finish`."""

    status: Status
    final: dict[str, float] | None = None
    reason: str | None = None


class RunFolder:
    """A run's folder.

    Attributes:
        cfg: its configuration.
        dir: where it is.
        summary: the content of summary.json; empty while there is none.
    """

    def __init__(self, cfg: Config, folder: Path) -> None:
        self.cfg = cfg
        self.dir = folder
        self.summary: dict[str, Any] = {}

    @classmethod
    def open(cls, path: str | Path, cfg: Config | None = None) -> Self:
        """Opens a run's folder, with `cfg` in place of its own configuration where it is given.

        Raises:
            ValueError: no run there (names those nearby), or its config.yaml is not valid.
            RunError: the summary cannot be read.
        """
        folder = layout.find(path)
        run = cls(cfg or configs.load_file(folder / layout.CONFIG), folder)
        run.summary = read_json(folder / layout.SUMMARY)
        return run

    def __repr__(self) -> str:
        """Where it is, and how it has ended."""
        steps, score = (self.summary.get(key) for key in ("steps", "evaluate/return"))
        said = [self.summary.get("status", "has not ended")]
        said += [] if steps is None else [f"{steps:,} steps"]
        said += [] if score is None else [f"evaluate/return {score:.4g}"]
        return f"Run({str(self.dir)!r}: {', '.join(said)})"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.dir / layout.CHECKPOINTS

    def read(self, which: str = layout.LAST, *keys: str) -> dict[str, Any]:
        """Returns the tree of checkpoint `last`, `best` (without a best: `last`) or `step_...`.

        Its keys are agent, source, progress, metrics_bytes and rng. Further `keys` lead to a
        branch; then nothing else is read, not a replay of gigabytes for example.

        Raises:
            ValueError: no checkpoint of this name.
            RunError: none at all, or a damaged one.
        """
        return checkpoint.read(checkpoint_folder.chosen(self.checkpoints, which), *keys)
