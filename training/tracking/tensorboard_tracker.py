"""TensorBoard's event file of a run while it trains, in the run's folder."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ...core.errors import Guard, RunError, require
from ..callbacks import Callback
from ..storage import layout
from ..storage.run import Run
from .tensorboard_mirror import TensorBoardMirror

_log = logging.getLogger(__name__)


class TensorBoardTracker(Callback):
    """Writes each row when it was logged. After a failure it stops, and the run goes on.

    Raises:
        ValueError: TensorBoard is not installed.
    """

    def __init__(self) -> None:
        require("tensorboard.enabled=true", "tensorboard")
        self._mirror: TensorBoardMirror | None = None

    def on_start(self, run: Run) -> None:
        """Writes the rows that are there, after a resume for instance."""
        with self._failing(run):
            self._mirror = TensorBoardMirror(run.dir, run.dir / layout.TENSORBOARD)
            self._mirror.send()

    def on_log(self, run: Run, row: Mapping[str, float]) -> None:
        """Writes the row."""
        if self._mirror is not None:
            with self._failing(run):
                self._mirror.send()

    @contextmanager
    def _failing(self, run: Run) -> Iterator[None]:
        """Stops and says so if anything is raised."""
        try:
            with Guard(lambda: f"{run.dir / layout.TENSORBOARD}", RunError):
                yield
        except RunError as error:
            self._mirror = None
            _log.warning(
                "tensorboard: %s; metrics.jsonl is whole, `neuraxis export %s --tensorboard DIR` "
                "writes it all",
                error,
                shlex.quote(str(run.dir)),
            )
