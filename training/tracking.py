"""Weights & Biases while a run trains: offline, late or absent, it never holds training up.

    training      writes metrics.jsonl and knows nothing of W&B
    this thread   reads every two seconds what has come and gives it to W&B

Only the end of the run waits for the thread, about a minute at most. What did not go up is in the
run's folder, from where `neuraxis export RUN --wandb` sends it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .client import failures, forget, import_wandb, obstacle, reason_of
from .files import RunError
from .metrics import lines
from .mirror import Mirror

if TYPE_CHECKING:
    from ..configs.config import Config

_log = logging.getLogger(__name__)

POLL_SECONDS = 2.0
"""Rows that go up together cost less than one by one: W&B's code stays in the cache."""


class Tracker:
    """Mirrors a run; in mode `disabled` does nothing and imports nothing.

    Args:
        folder: the run's.
        cfg: its configuration.
    """

    def __init__(self, folder: Path, cfg: Config) -> None:
        self._folder = folder
        self._cfg = cfg
        self._ended = threading.Event()
        self._summary: Mapping[str, Any] = {}
        self._failure: str | None = None
        self._thread: threading.Thread | None = None
        if cfg.wandb.mode != "disabled":
            self._before = lines(folder / "metrics.jsonl")
            import_wandb()  # here: what torch imports meanwhile does not bear a second thread
            self._thread = threading.Thread(target=self._follow, name="wandb", daemon=True)
            self._thread.start()

    def finish(self, summary: Mapping[str, Any], failure: str | None = None) -> None:
        """Ends the W&B run and waits until what can go up is there; a second call does nothing.

        Args:
            summary: of the run.
            failure: what has ended it too early; W&B tells those who follow it.
        """
        self._summary, self._failure = summary, failure
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _follow(self) -> None:
        mirror = self._begin()
        if mirror is None:
            return
        try:
            self._send(mirror)
            missing = mirror.missing()
            reason = f"{missing} rows did not arrive" if missing else None
        except (RunError, *failures()) as error:
            forget(error)
            reason = reason_of(error)
        if reason is not None:
            self._warn(reason)

    def _begin(self) -> Mirror | None:
        """Opens the W&B run, offline where online is asked for and cannot be had."""
        online = self._cfg.wandb.mode == "online"
        if online and (reason := obstacle()) is not None:
            self._warn(f"{reason}; going on offline")
            online = False
        earlier = any(self._folder.glob("wandb/*run-*"))  # they hold the rows until now
        first = self._before if earlier else 0
        try:
            return Mirror(self._folder, self._cfg, "online" if online else "offline", first)
        except (RunError, *failures()) as error:
            self._warn(reason_of(error))
            return None

    def _send(self, mirror: Mirror) -> None:
        """Sends what comes until the run has ended."""
        collapse = Collapse()
        ended = False
        while not ended:
            ended = self._ended.wait(POLL_SECONDS)
            for row, new in mirror.send():
                if collapse.begins(row) and new:
                    mirror.alert("evaluations collapsed", collapse.text)
            mirror.send_checkpoints()
        if self._failure is not None:
            mirror.alert("run failed", self._failure)
        mirror.finish(self._summary)

    def _warn(self, reason: str) -> None:
        _log.warning(
            "wandb: %s; metrics.jsonl is whole, `neuraxis export %s --wandb` uploads it",
            reason,
            self._folder,
        )


class Collapse:
    """Watches the evaluations for the loss of what was learnt.

    It begins with the second evaluation in a row whose mean and one standard deviation are below
    the middle between the first evaluation and the best one.

    Attributes:
        text: the newest evaluation in words.
    """

    def __init__(self) -> None:
        self.text = ""
        self._first: float | None = None
        self._best = 0.0
        self._below = 0  # evaluations in a row

    def begins(self, row: Mapping[str, float]) -> bool:
        """Whether it begins with this row of metrics."""
        score = row.get("evaluate/return")
        if score is None:
            return False
        if self._first is None:
            self._first = self._best = score
        self._best = max(self._best, score)
        low = score + row.get("evaluate/return_std", 0.0) < (self._first + self._best) / 2
        self._below = self._below + 1 if low else 0
        self.text = (
            f"evaluate/return {score:.4g} at {row['steps']:,.0f} steps, best {self._best:.4g}"
        )
        return self._below == 2
