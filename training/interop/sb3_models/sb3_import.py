"""A model of Stable-Baselines3 becomes a run of ours; nothing in its files is executed.

run = import_model("model.zip", "env=CartPole-v1", run_dir="runs/imported")
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ....agents.dqn import DQN
from ....agents.td3 import TD3
from ....core.files import expanded
from ...api import finished
from ...callbacks import Callbacks
from ...distributed.build import build_agent
from ...distributed.learner import Learner
from ...distributed.process import configure_process
from ...loop import Session
from ...python_objects import load_config
from ...session import callbacks_of, open_source
from ...storage import provenance
from ...storage.run import Run
from ...trained_run import TrainedRun
from . import sb3_zip
from .sb3_settings import configuration, unread_settings
from .sb3_statistics import read
from .sb3_weights import fill, take_statistics

_log = logging.getLogger(__name__)


def import_model(
    file: str | Path,
    *words: str,
    vecnormalize: str | Path | None = None,
    quiet: bool = False,
    **overrides: Any,
) -> TrainedRun:
    """Makes a run of a model that Stable-Baselines3 or sb3-contrib saved, and evaluates it.

    Neither library is needed, and no pickle is executed.

    Args:
        file: The model's .zip.
        words: `env=ID` and settings that the file does not say.
        vecnormalize: What VecNormalize.save wrote, if observations or rewards were normalised.
        quiet: Show no progress of its evaluation.
        overrides: More words, as Python values.

    Returns:
        The run, as if it had been trained here: `load`, `evaluate` and `init.from` take it.

    Raises:
        ValueError: It is no such file, or has no form here; names what of it.
        EnvError, RunError: See `train`.
    """
    session = prepare(file, words, vecnormalize, overrides)
    for note in session.agent.notes:
        _log.warning("%s", note)
    return finished(session, (), quiet)


def prepare(
    file: str | Path,
    words: tuple[str, ...],
    vecnormalize: str | Path | None = None,
    overrides: dict[str, Any] | None = None,
) -> Imported:
    """Reads the files and builds the agent; writes nothing before everything fits together.

    Arguments and errors are those of `import_model`.
    """
    model = sb3_zip.read(expanded(file))
    statistics = None if vecnormalize is None else read(expanded(vecnormalize))
    overrides = overrides or {}
    said = {*overrides, *(word.partition("=")[0] for word in words)}
    settings = configuration(model, said, statistics)
    cfg = load_config(words, settings | overrides)
    configure_process(cfg.threads)
    agent = build_agent(cfg)
    fill(agent, model, cfg.env.id)
    notes = [] if statistics is None else take_statistics(agent, statistics, vecnormalize)
    agent.steps = model.steps
    if isinstance(agent, DQN | TD3):
        agent.explore()
    if unread := unread_settings(model):
        notes.append(f"pickled, so not read: {', '.join(unread)}; look at agent.* before training")
    agent.notes = (*agent.notes, *notes)
    with ExitStack() as undo:
        source = open_source(cfg, agent.policy, agent.rollout_length)
        undo.callback(source.close)
        run = Run.create(cfg)
        provenance.note(run.dir, "imported", _facts(model, vecnormalize))
        undo.pop_all()
    return Imported(run, Learner(cfg, agent), source, callbacks_of(cfg))


def _facts(model: sb3_zip.Model, vecnormalize: str | Path | None) -> dict[str, Any]:
    """What meta.json keeps of where the run is from."""
    files = [model.place] if vecnormalize is None else [model.place, expanded(vecnormalize)]
    return {
        "algorithm": model.algorithm,
        "steps": model.steps,
        "files": {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in files},
        "unread": list(model.unread),
    }


class Steps(NamedTuple):
    """What the model has learned from before it came here."""

    steps: int
    rows: int
    episodes: np.ndarray = np.zeros((0, 4))


class Imported(Session):
    """A session that trains nothing: it counts the model's steps, saves it and evaluates it."""

    def _loop(self, tell: Callbacks) -> None:
        steps = self.agent.steps
        self.current_run.add(Steps(steps, steps), {})
        self._save(tell)
