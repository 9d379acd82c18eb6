"""From a configuration to a session that is ready to run; what can be refused is refused here.

session = prepare(cfg)
run = session.run()
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, closing
from pathlib import Path

from ..agents.agent import Agent
from ..agents.policies.policy import Policy
from ..agents.setup import DatasetConfig
from ..agents.teacher_config import TaughtConfig
from ..configs import Config
from ..core.errors import RunError
from .callbacks import Callback
from .checks import preflight
from .datasets.dataset_source import DatasetSource
from .distributed import ray_cluster
from .distributed.learner import Learner
from .distributed.learner_placement import driver_agent, open_learner
from .distributed.local_source import LocalSource
from .distributed.overlap_source import OverlapSource
from .distributed.process import configure_process
from .distributed.source import Source
from .distributed.worker_logs import WorkerLogs
from .early_stopping import EarlyStopping
from .evaluation_worker import EvaluationWorker
from .initialization import Start, initialise
from .loop import Session
from .saved_policy import load
from .storage import layout, provenance
from .storage.checkpoint_folder import begun
from .storage.run import Run
from .tracking.trackers import trackers

_log = logging.getLogger(__name__)


def prepare(
    cfg: Config,
    resume_from: str | Path | None = None,
    checkpoint: str = layout.LAST,
    trust: bool = False,
) -> Session:
    """Builds all that a run needs; writes nothing before everything fits together.

    Args:
        cfg: The configuration.
        resume_from: Folder of the run to go on with.
        checkpoint: From which of its checkpoints: `last`, `best` or `step_...`.
        trust: Whether a run that teaches may import the modules that it names, see `load`.

    Raises:
        ValueError: The configuration cannot be run; names the key, the value and what is possible.
        RunError: The run's folder is damaged.
    """
    preflight.check_installed(cfg)
    configure_process(cfg.threads)
    callbacks = callbacks_of(cfg)
    agent = driver_agent(cfg, teacher_of(cfg, trust))
    _check_learns(cfg, agent, resume_from is not None)
    start = _start(cfg, agent, resume_from)
    _try_environment(cfg, agent, resume_from)
    with ExitStack() as undo:
        logs = WorkerLogs()
        source = open_source(cfg, agent.policy, agent.rollout_length, logs)
        undo.callback(source.close)
        learner = undo.enter_context(closing(open_learner(cfg, agent)))
        inline = cfg.eval.mode == "inline"
        worker = None if inline else _worker(cfg, agent.policy, undo)
        if inline:
            preflight.try_evaluation(cfg)
        if resume_from is None:
            run = _create_run(cfg, agent, start)
        else:
            run = _resume_run(Run.open(resume_from, cfg), learner, source, checkpoint)
        logs.open(run.dir / layout.LOGS)
        if run.pending is not None and inline:  # of before `eval.mode` was changed
            worker = _worker(cfg, agent.policy, undo)
        session = Session(run, learner, source, callbacks, worker)
        undo.pop_all()
    return session


def _worker(cfg: Config, policy: Policy, undo: ExitStack) -> EvaluationWorker:
    """Starts the process that plays evaluations. Raises ValueError if it cannot play them."""
    worker = EvaluationWorker(cfg, policy)
    undo.callback(worker.close)
    return worker


def _check_learns(cfg: Config, agent: Agent, resumed: bool) -> None:
    """Raises ValueError if nothing here trains it, or gives it what it learns from."""
    if agent.outside:
        way = "and cannot be resumed; train it anew with" if resumed else "expected"
        raise ValueError(
            f"agent={agent.name}: another library trains it, {way} `neuraxis baseline`"
        )
    if not agent.rewarded and dataset_of(cfg) is None and agent.teacher is None:
        teacher = ", or agent.teacher.from=RUN" if isinstance(cfg.agent, TaughtConfig) else ""
        raise ValueError(
            f"agent={agent.name}: learns from others; expected agent.dataset=DIR, which `neuraxis "
            f"record RUN --out DIR` writes{teacher}"
        )


def _start(cfg: Config, agent: Agent, resume_from: str | Path | None) -> Start | None:
    """Gives the agent of a run without a checkpoint what `init` says, and its notes.

    Raises ValueError if that cannot be done, or leaves statistics frozen that are of nothing.
    """
    if resume_from is not None and begun(resume_from):
        return None
    agent.check_settings()
    start = initialise(cfg, agent)
    if agent.freezing is not None:
        agent.freezing.check_statistics()
    if start is not None:
        agent.notes = (*agent.notes, *start.notes())
    return start


def _try_environment(cfg: Config, agent: Agent, resume_from: str | Path | None) -> None:
    """Tries the environment before the run begins, and says what it finds."""
    if cfg.eval.video_interval_steps:
        preflight.try_film(cfg)
    if resume_from is None and not cfg.ray.workers:  # a worker that crashes is replaced
        preflight.note_randomness(cfg)
        preflight.note_mask(cfg, agent.setup.observation_space)


def _create_run(cfg: Config, agent: Agent, start: Start | None) -> Run:
    """The folder of a new run, with what the agent starts from and who teaches it."""
    run = Run.create(cfg)
    if start is not None:
        provenance.note(run.dir, "init", start.facts())
    if agent.teacher is not None:
        provenance.note(run.dir, "teacher", agent.teacher.facts())
    return run


def _resume_run(run: Run, learner: Learner, source: Source, checkpoint: str) -> Run:
    """The run as it was at a checkpoint; all that learn and act are, too."""
    for said in run.load(learner, source, checkpoint):
        _log.warning("%s: %s", run.dir, said)
    source.copy(learner.agent.policy)
    return run


def callbacks_of(cfg: Config) -> list[Callback]:
    """The callbacks that the configuration asks for. Raises ValueError if one cannot be had."""
    callbacks = trackers(cfg)
    if cfg.eval.patience:
        callbacks.append(EarlyStopping(cfg.eval.patience))
    return callbacks


def dataset_of(cfg: Config) -> str | None:
    """The folder of the episodes that the agent learns from, if it does."""
    return cfg.agent.dataset if isinstance(cfg.agent, DatasetConfig) else None


def teacher_of(cfg: Config, trust: bool) -> Policy | None:
    """The policy that teaches the agent, if one does. Raises ValueError, which names the key."""
    chosen = cfg.agent.teacher if isinstance(cfg.agent, TaughtConfig) else None
    if chosen is None or chosen.source is None:
        return None
    try:
        policy = load(chosen.source, chosen.checkpoint, trust)
        for name, tensor in policy.state_dict().items():
            if not tensor.isfinite().all():
                raise ValueError(f"{name} has numbers that are not finite (NaN or infinite)")
    except (ValueError, RunError) as error:
        raise ValueError(f"agent.teacher.from={chosen.source}: {error}") from error
    return policy


def open_source(cfg: Config, policy: Policy, length: int, logs: WorkerLogs | None = None) -> Source:
    """The source that `agent.dataset`, `ray.workers` or `overlap` asks for, or one in this process.

    Without workers Ray is not even imported.

    Args:
        cfg: The run's configuration.
        policy: Of the learner.
        length: T of the rollouts.
        logs: Get what Ray workers print.
    """
    dataset = dataset_of(cfg)
    if dataset is not None:
        workers = cfg.ray.workers
        if workers or cfg.overlap:
            found = (
                f"ray.workers={workers}: expected 0" if workers else "overlap=true: expected false"
            )
            raise ValueError(
                f"{found}, because agent.dataset={dataset} takes the place of what is collected"
            )
        return DatasetSource(cfg, policy, length, dataset)
    if not cfg.ray.workers:
        return (OverlapSource if cfg.overlap else LocalSource)(cfg, policy, length)
    ray_cluster.set_environment()
    from .distributed.ray_source import RaySource

    return RaySource(cfg, policy, length, logs or WorkerLogs())
