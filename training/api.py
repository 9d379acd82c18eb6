"""From Python: trains a run.

run = train("env=CartPole-v1", "agent=ppo", "network=lstm", total_steps=50_000)
run.summary["evaluate/return"]
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable
from typing import Any

from .. import configs
from .callbacks import Callback, checked
from .loop import Session
from .preflight import notes
from .session import prepare
from .storage.run import Run

_log = logging.getLogger(__name__)


def train(
    *words: str, callbacks: Iterable[Callback] = (), trust: bool = False, **overrides: Any
) -> Run:
    """Trains from Python as `neuraxis train` does.

    Args:
        words: As on the command line, `"agent=ppo"`, `"agent.learning_rate=1e-3"`.
        callbacks: Are told of the run while it trains, and may stop it.
        trust: Whether a run that teaches (`agent.teacher.from`) may import the modules that it
            names, if it was not made here by you.
        overrides: More words, as Python values: `total_steps=50_000`, `**{"agent.gamma": 0.9}`.

    Returns:
        The finished run; `run.summary` holds its results.

    Raises:
        ValueError: The configuration cannot be run, or `callbacks` has something that is no
            Callback; nothing has started.
        EnvError, RunError: See `Session.run`.
        KeyboardInterrupt: After Ctrl-C, SIGTERM or SIGHUP; the run is saved and can be resumed.
    """
    callbacks = checked(callbacks)
    cfg = configs.load(words, **overrides)
    session = prepare(cfg, trust=trust)
    for note in notes(cfg, session.agent):
        _log.warning("%s", note)
    return finished(session, callbacks)


def finished(session: Session, callbacks: Iterable[Callback] = ()) -> Run:
    """Runs a session to its end; KeyboardInterrupt if it was interrupted."""
    run = session.run(callbacks)
    if run.summary["status"] == "interrupted":
        folder = shlex.quote(str(run.dir))
        way = "no baseline is resumed" if session.agent.outside else f"neuraxis resume {folder}"
        raise KeyboardInterrupt(f"stopped at {run.steps} steps: {way}")
    return run
