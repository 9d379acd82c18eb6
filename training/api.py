"""From Python: trains a run.

run = train("env=CartPole-v1", "agent=ppo", "network=lstm", total_steps=50_000)
run.summary["evaluate/return"]
run.evaluate(), run.metrics(), run.plot(), run.video("play.mp4")
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable
from typing import Any

from rich.console import Console

from .callbacks import Callback, checked
from .checks.preflight import notes
from .loop import Session
from .progress_display import ProgressDisplay
from .python_objects import load_config
from .session import prepare
from .trained_run import TrainedRun

_log = logging.getLogger(__name__)


def train(
    *words: str,
    callbacks: Iterable[Callback] = (),
    trust: bool = False,
    quiet: bool = False,
    **overrides: Any,
) -> TrainedRun:
    """Trains from Python as `neuraxis train` does.

    Args:
        words: As on the command line, `"agent=ppo"`, `"agent.learning_rate=1e-3"`.
        callbacks: Are told of the run while it trains, and may stop it.
        trust: Whether a run that teaches (`agent.teacher.from`) may import the modules that it
            names, if it was not made here by you.
        quiet: Show no progress; it is shown in a terminal and in a notebook.
        overrides: More words, as Python values: `total_steps=50_000`, `**{"agent.gamma": 0.9}`.
            `env`, `agent` and `network` may also be objects, see `python_objects.load_config`.

    Returns:
        The run that has ended; `run.summary` holds its results.

    Raises:
        ValueError: The configuration cannot be run, or `callbacks` has something that is no
            Callback; nothing has started.
        EnvError, RunError: See `Session.run`.
        KeyboardInterrupt: After Ctrl-C, SIGTERM or SIGHUP; the run is saved and can be resumed.
    """
    callbacks = checked(callbacks)
    cfg = load_config(words, overrides)
    session = prepare(cfg, trust=trust)
    for note in notes(cfg, session.agent):
        _log.warning("%s", note)
    return finished(session, callbacks, quiet)


def finished(session: Session, callbacks: Iterable[Callback], quiet: bool) -> TrainedRun:
    """Runs a session to its end, with progress; KeyboardInterrupt if it was interrupted."""
    console = Console(stderr=True)
    shown = not quiet and (console.is_terminal or console.is_jupyter)
    display = [ProgressDisplay(session.cfg.total_steps, console)] if shown else []
    run = session.run([*callbacks, *display])
    if run.summary["status"] == "interrupted":
        folder = shlex.quote(str(run.dir))
        way = "no baseline is resumed" if session.agent.outside else f"neuraxis resume {folder}"
        if run.cfg.env.maker is not None:
            way += " env.id=MODULE:NAME, where a module of yours has the environment"
        raise KeyboardInterrupt(f"stopped at {run.steps} steps: {way}")
    trained = TrainedRun(run.cfg, run.dir)
    trained.summary = run.summary
    return trained
