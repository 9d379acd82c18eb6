"""Weights & Biases while a run trains: offline, late or absent, it never delays training.

    training      writes metrics.jsonl and knows nothing of W&B
    this thread   reads every two seconds what has come and gives it to W&B

Only the end of the run waits for the thread, about a minute at most. What was not uploaded is in
the run's folder; `neuraxis export RUN --wandb` sends it.
"""

from __future__ import annotations

import logging
import shlex
import threading
from collections.abc import Mapping
from typing import Any

from ...core.errors import RunError
from ..callbacks import Callback
from ..storage import layout
from ..storage.metrics import lines
from ..storage.run import Run
from ..storage.run_folder import Status
from .wandb_client import (
    begun,
    drop_dead_service,
    failures,
    import_wandb,
    reason_of,
    why_unavailable,
)
from .wandb_mirror import WandbMirror

_log = logging.getLogger(__name__)

POLL_SECONDS = 2.0
"""Rows that are sent together cost less than one by one: W&B's code stays in the cache."""


class WandbTracker(Callback):
    """Sends to W&B what the run writes, from a thread of its own."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._summary: Mapping[str, Any] = {}
        self._thread: threading.Thread | None = None

    def on_start(self, run: Run) -> None:
        """Begins to follow the run."""
        self._folder, self._cfg = run.dir, run.cfg
        self._lines_before = lines(run.dir / layout.METRICS)
        import_wandb()  # not in the thread: PyTorch imports modules at the same time, which fails
        self._thread = threading.Thread(target=self._follow, name="wandb", daemon=True)
        self._thread.start()

    def on_end(self, run: Run, status: Status) -> None:
        """Ends the W&B run and waits for the last upload."""
        self._summary = run.summary
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
            drop_dead_service(error)
            reason = reason_of(error)
        if reason is not None:
            self._warn(reason)

    def _begin(self) -> WandbMirror | None:
        """Opens the W&B run, offline where online is asked for and cannot be had."""
        online = self._cfg.wandb.mode == "online"
        if online and (reason := why_unavailable()) is not None:
            self._warn(f"{reason}; going on offline")
            online = False
        try:
            first = self._lines_before if begun(self._folder) else 0
            return WandbMirror(self._folder, self._cfg, "online" if online else "offline", first)
        except (RunError, *failures()) as error:
            self._warn(reason_of(error))
            return None

    def _send(self, mirror: WandbMirror) -> None:
        """Sends what comes until the run has ended."""
        collapse = CollapseDetector()
        ended = False
        while not ended:
            ended = self._ended.wait(POLL_SECONDS)
            for row, new in mirror.send():
                if collapse.begins(row) and new:
                    mirror.alert("evaluations collapsed", collapse.text)
            mirror.send_checkpoints()
        if self._summary.get("status") == "failed" and "reason" in self._summary:
            mirror.alert("run failed", self._summary["reason"])
        mirror.finish(self._summary)

    def _warn(self, reason: str) -> None:
        _log.warning(
            "wandb: %s; metrics.jsonl is whole, `neuraxis export %s --wandb` uploads it",
            reason,
            shlex.quote(str(self._folder)),
        )


class CollapseDetector:
    """Finds out from the evaluations that the policy has lost what it had learned.

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
