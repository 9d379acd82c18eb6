"""Baselines: an algorithm of Stable-Baselines3 or sb3-contrib, trained by its own `learn`.

run = baseline("agent=sb3/ppo", "env=CartPole-v1", total_steps=100_000)

Environments, seeds, evaluations, checkpoints, files and callbacks are those of our own runs; only
what collects and learns is the library's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import set_random_seed

from ... import configs
from ...agents.policies.policy import Policy
from ...configs.config import Config
from ...core.errors import Guard, RunError
from ...core.rollout import Rollout
from ..api import finished
from ..callbacks import Callback, Callbacks, checked
from ..checks import preflight
from ..distributed.build import build_agent, choose_device
from ..distributed.learner import Learner
from ..distributed.process import configure_process
from ..distributed.source import Source
from ..loop import Session
from ..python_objects import load_config
from ..session import callbacks_of
from ..storage.atomic_files import disk
from ..storage.run import Run
from ..trained_run import TrainedRun
from .sb3_agent import ALGORITHMS, FRESH, Sb3
from .sb3_envs import Sb3Envs
from .sb3_reports import Between, Reports

SCALE = "env.rescale_actions"
"""False by default: these libraries see bounded actions as the environment has them."""
ENVS = "num_envs"
"""1 by default for algorithms with a replay: their defaults are one update for each step."""
UNUSED = ("groups", "compile", "init", "learner", "ray")
"""Keys that no baseline has."""
ZIP, STATISTICS = "sb3.zip", "vecnormalize.pkl"
"""What the library itself can load, beside each checkpoint."""


def load(words: Iterable[str] = (), base: Path | None = None, **overrides: Any) -> Config:
    """The configuration of a baseline.

    Args:
        words: As for `neuraxis train`.
        base: A stored config.yaml that takes the place of an experiment.
        overrides: More words, as Python values.

    Raises:
        ValueError: As `configs.load`, or for an agent that is no baseline.
    """
    given = list(words)
    said: dict[str, Any] = {key: text for key, _, text in (w.partition("=") for w in given)}
    said |= overrides
    if base is None and "experiment" not in said:  # these say all
        name = said.get("agent.name", said.get("agent"))
        if name is None:
            given.append("agent=sb3/ppo")
        if SCALE not in said:
            given.append(f"{SCALE}=false")
        if ENVS not in said and name in ALGORITHMS and not name.endswith(FRESH):
            given.append(f"{ENVS}=1")
    cfg = configs.load(given, base, **overrides)
    if cfg.agent.name not in ALGORITHMS:
        raise ValueError(
            f"agent={cfg.agent.name}: no algorithm of another library; expected "
            f"{', '.join(ALGORITHMS)}, or `neuraxis train`"
        )
    usual = Config()
    for key in UNUSED:
        if getattr(cfg, key) != getattr(usual, key):
            raise ValueError(f"{key}: a baseline has no such setting; expected no {key}=")
    if cfg.eval.mode != "inline":
        raise ValueError(f"eval.mode={cfg.eval.mode}: expected inline, a baseline has no other")
    return cfg


def baseline(
    *words: str, callbacks: Iterable[Callback] = (), quiet: bool = False, **overrides: Any
) -> TrainedRun:
    """Trains from Python as `neuraxis baseline` does; arguments and errors as those of `train`.

    Callbacks are told of everything but rollouts, which the library keeps to itself.
    """
    callbacks = checked(callbacks)
    return finished(prepare(load_config(words, overrides, load)), callbacks, quiet)


def prepare(cfg: Config) -> Baseline:
    """Builds all that the run needs; writes nothing before everything fits together.

    Raises:
        ValueError: It cannot be run; names the key, the value and what is possible.
    """
    preflight.check_installed(cfg)
    configure_process(cfg.threads)
    # As the models do when they are built.
    set_random_seed(cfg.seed, using_cuda=choose_device(cfg.device).type == "cuda")
    callbacks = callbacks_of(cfg)
    agent = build_agent(cfg)
    assert isinstance(agent, Sb3)
    agent.model.action_space.seed(cfg.seed)
    if cfg.eval.video_interval_steps:
        preflight.try_film(cfg)
    preflight.note_randomness(cfg)
    with ExitStack() as undo:
        envs = Sb3Envs(cfg.env, cfg.num_envs, cfg.seed)
        undo.callback(envs.close)
        agent.take(envs)
        preflight.try_evaluation(cfg)
        session = Baseline(Run.create(cfg), agent, envs, callbacks)
        undo.pop_all()
    return session


class Sb3Source(Source):
    """The environments of a baseline, for what a session asks of a source; it gives no rollouts."""

    def __init__(self, envs: Sb3Envs) -> None:
        self.envs = envs

    @property
    def env_seconds(self) -> float:
        """Wall seconds that the environments' own code has taken."""
        return self.envs.env_seconds

    def next(self) -> Rollout[np.ndarray]:
        """Refused: the model steps the environments."""
        raise NotImplementedError

    def publish(self, policy: Policy) -> None:
        """Does nothing: the model acts by its newest weights."""

    def copy(self, policy: Policy) -> None:
        """Does nothing, as `publish`."""

    def metrics(self) -> dict[str, float]:
        """No metrics."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Nothing: a baseline cannot be resumed."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> Counter[str]:
        """Refused: a baseline cannot be resumed."""
        raise NotImplementedError

    def close(self) -> None:
        """Closes the environments."""
        self.envs.close()


class Baseline(Session):
    """A session whose loop is the `learn` of the library."""

    def __init__(self, run: Run, agent: Sb3, envs: Sb3Envs, callbacks: Iterable[Callback]) -> None:
        keeps = KeepsModel(agent)
        source = Sb3Source(envs)
        super().__init__(run, Learner(run.cfg, agent), source, [*callbacks, keeps])
        self.model = agent.model

    def _loop(self, tell: Callbacks) -> None:
        reports = Reports(lambda: self._ending, lambda counted: self._learned(tell, counted))
        self.model.set_logger(Logger(None, []))
        self._evaluate_and_save(tell)
        with Guard(lambda: f"agent={self.agent.name}", RunError):
            self.model.learn(self.cfg.total_steps, reports, log_interval=None)
        self._save(tell)

    def _end_at_last(self) -> None:
        """Ends the run on disk, without a checkpoint: the model may be in the middle of a step."""
        with self._changing:
            self.current_run.finish("interrupted")

    def _learned(self, tell: Callbacks, counted: Between) -> None:
        """What our own loop does after each update."""
        for part, seconds in counted.seconds.items():
            self.profile.seconds[part] += seconds
        with self._changing:
            if (envs := self.model.get_vec_normalize_env()) is not None:
                self.agent.policy.take_statistics(envs)
            row = self.current_run.add(counted, counted.metrics)
        tell("on_update", counted.metrics)
        if row is not None:
            tell("on_log", row)
        if not self._ending:
            self._evaluate_and_save(tell)


class KeepsModel(Callback):
    """Writes the model beside each checkpoint, as the library itself does."""

    def __init__(self, agent: Sb3) -> None:
        self._agent = agent

    def on_checkpoint(self, run: Run, path: Path) -> None:
        """Writes the model, and the statistics if it has some, each whole or not at all."""
        statistics = self._agent.model.get_vec_normalize_env()
        found = {ZIP: self._agent.model} | ({} if statistics is None else {STATISTICS: statistics})
        for name, thing in found.items():
            temporary = path / f".tmp.{name}"
            with disk(path / name):
                thing.save(str(temporary))
                temporary.replace(path / name)
