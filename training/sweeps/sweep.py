"""Sweeps: many trials of one experiment, scheduled by Ray Tune.

    driver    Tune: which trial goes on, with which values            one process
      | train to the next rung                 ^ mean score of the seeds there
    trials    advance.advance: ordinary runs, seed after seed      one actor each

Trials do not wait for each other. A run pauses at a rung as by Ctrl-C, and goes on as by `neuraxis
resume`, bit for bit. So does a sweep that was killed. The state of Tune itself is not kept: at each
start its scheduler and its search get the scores that the folders hold.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from ...agents.choices import agent_class
from ...configs import Config, dump, load
from ...configs.groups import choices
from ...configs.text import brief
from ...configs.words import typed, unique
from ...core.errors import require
from ...core.files import expanded
from ..checks.preflight import check_installed
from ..distributed import ray_cluster
from ..distributed.build import build_agent
from ..storage import layout
from ..storage.atomic_files import write_text
from ..storage.intervals import LEAST
from .ranges import Parameters, SweepConfig, load_sweep, show
from .trials import Sweep, Trial, ranked

BEST = "best.yaml"
OWN = "seed run_dir total_steps experiment wandb tensorboard prometheus ray learner".split()
Say = Callable[[str], None]


def create(words: Sequence[str]) -> Sweep:
    """Makes the folder of a new sweep, after looking at all that can be refused.

    Args:
        words: sweep=NAME, sweep.KEY=VALUE, and what all trials share, as for `neuraxis train`;
            run_dir is the sweep's folder, otherwise runs/sweeps/NAME-TIME.

    Raises:
        ValueError: one line about a word, a range or a combination that cannot be.
        RunError: the disk refuses.
    """
    require("neuraxis sweep", "ray")
    given = unique(map(typed, words))
    name = next((word.text for word in given if word.key == "sweep"), None)
    if name is None:
        raise ValueError(f"sweep=NAME: missing (choices: {', '.join(choices('sweep'))})")
    config = load_sweep(name, [word for word in given if word.key.startswith("sweep.")])
    place = load([f"run_dir={word.text}" for word in given if word.key == "run_dir"]).run_dir
    own = [word for word in given if word.section != "sweep" and word.key != "run_dir"]
    shared = tuple(f"{word.key}={word.text}" for word in own)
    stem = Path("runs", "sweeps", f"{Path(name).stem}-{datetime.now():%Y%m%d-%H%M%S}")
    shared += _evaluations(load(shared), config)
    check(Sweep(stem.absolute(), shared, config), name)
    folder = layout.fresh(stem) if place is None else layout.take(expanded(place))
    sweep = Sweep(folder.absolute(), shared, config)
    sweep.write()
    return sweep


def check(sweep: Sweep, name: str) -> None:
    """Raises ValueError if the sweep cannot run, or a trial would be refused in the middle."""
    base, config = sweep.base(), sweep.config
    if agent_class(base.agent.name).outside:
        raise ValueError(f"agent={base.agent.name}: sweeps train agents of neuraxis alone")
    for key in config.parameters:
        if key.partition(".")[0] in OWN:
            raise ValueError(f"sweep={name}: {key}: every trial has the same, or its own")
    for key, found, expected in (
        ("ray.workers", base.ray.workers, 0),
        ("learner.count", base.learner.count, 1),
        ("learner.placement", base.learner.placement, "driver"),
        ("prometheus.port", base.prometheus.port, None),
    ):
        if found != expected:
            raise ValueError(
                f"{key}={found}: expected {brief(expected)} in a sweep, whose trials run side by "
                "side in one process each"
            )
    check_installed(base)
    _check_scheduler(base, config)
    planned = config.plan(base.seed)
    corners = config.corners(planned[0] if planned else _first(config))
    try:
        if config.search == "optuna":
            require("search=optuna", "optuna")
        if config.scheduler == "pbt":
            _check_pbt(sweep, corners)
        for parameters in [*corners, *planned]:
            build_agent(sweep.run_config(parameters, 0))
    except ValueError as error:
        raise ValueError(f"sweep={name}: {error}") from error


def _first(config: SweepConfig) -> Parameters:
    return {key: range_.ends[0] for key, range_ in config.parameters.items()}


def _evaluations(base: Config, config: SweepConfig) -> tuple[str, ...]:
    """The word that sets an evaluation interval for the scheduler, if the person set none."""
    if config.scheduler == "none" or base.eval.interval_steps != "auto":
        return ()
    return (f"eval.interval_steps={min(LEAST['eval'], config.grace_steps)}",)


def _check_scheduler(base: Config, config: SweepConfig) -> None:
    """Raises ValueError if no trial would have a score where the scheduler wants one."""
    if config.scheduler == "none":
        return
    every, grace = base.eval.interval_steps, config.grace_steps
    assert every != "auto", "see _evaluations"
    if config.metric.startswith("evaluate/") and not 0 < every <= grace:
        raise ValueError(
            f"sweep.grace_steps={grace}: expected at least eval.interval_steps={every} (and that "
            f"above 0), for scheduler={config.scheduler} looks at evaluations"
        )
    if grace >= base.total_steps:
        raise ValueError(
            f"sweep.grace_steps={grace}: expected less than total_steps={base.total_steps}, "
            f"or scheduler={config.scheduler} has nothing to decide"
        )


def _check_pbt(sweep: Sweep, corners: Sequence[Parameters]) -> None:
    """Raises ValueError for what a learning agent cannot change, its shapes above all."""
    for key in sweep.config.parameters:
        section, _, name = key.partition(".")
        values = [getattr(sweep.run_config(c, 0).agent, name, None) for c in corners]
        if section != "agent" or not all(isinstance(value, float) for value in values):
            raise ValueError(
                f"parameters.{key}: scheduler=pbt changes it in an agent that goes on learning; "
                "expected agent.KEY with a fractional value, like agent.learning_rate"
            )


def run(sweep: Sweep, say: Say) -> list[Trial]:
    """Runs what is left of a sweep.

    Args:
        sweep: a new one, or one that was interrupted.
        say: is given a line for each thing that happens.

    Returns:
        The trials, best first.

    Raises:
        ValueError: Ray cannot start, or has too few processors for a trial.
        RunError: the disk refuses.
    """
    require("neuraxis sweep", "ray")
    known = _known(sweep)
    config = sweep.config
    say(f"{config.size} trials x {config.seeds} seeds in {sweep.folder}")
    if len(known) < config.size or not all(trial.ended for trial in known):
        _run_trials(sweep, known, say)
    found = ranked(sweep.trials(), config.mode)
    write_best(sweep, found)
    return found


def _run_trials(sweep: Sweep, known: Sequence[Trial], say: Say) -> None:
    """Starts Ray and runs the trials that have not ended, see `ray_tune.run_trials`."""
    base, config = sweep.base(), sweep.config
    random.seed(base.seed)  # PBT draws from it
    ray_cluster.start(base.ray, config.cpus_per_trial)
    scratch = sweep.folder / ".tune"  # for what Tune writes, which nobody reads
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        import ray

        room = ray.cluster_resources()
        for name, wanted in (("CPU", config.cpus_per_trial), ("GPU", config.gpus_per_trial)):
            if wanted > room.get(name, 0):
                key = f"sweep.{name.lower()}s_per_trial={wanted:g}"
                raise ValueError(f"{key}: expected at most {room.get(name, 0):g}, as Ray has here")
        from .ray_tune import run_trials

        run_trials(sweep, known, scratch, say)
    finally:
        ray_cluster.stop()
        shutil.rmtree(scratch, ignore_errors=True)


def _known(sweep: Sweep) -> list[Trial]:
    """The trials that there are, with those that are planned; what failed is tried again."""
    base = sweep.base()
    known = sweep.trials()
    for number, parameters in enumerate(sweep.config.plan(base.seed)):
        if number >= len(known):
            known.append(Trial.create(sweep, number, parameters))
    for trial in known:
        if trial.steps == base.total_steps:  # killed before this was written
            trial.ended = "finished"
            trial.write()
        elif trial.ended == "failed":  # of the machine, perhaps
            trial.ended, trial.reason = "", ""
    return known


def write_best(sweep: Sweep, trials: Sequence[Trial]) -> Path | None:
    """Writes the best trial's configuration as an experiment; None if no trial has a score."""
    best = next((trial for trial in trials if trial.score is not None), None)
    if best is None:
        return None
    cfg = sweep.run_config(best.parameters, 0)
    data = cfg.stored()
    del data["seed"], data["run_dir"], data["wandb"]["group"]
    values = ", ".join(f"{key}={show(value)}" for key, value in best.parameters.items())
    title = f"# {cfg.env.id}: {sweep.config.metric} {best.score:.4g} of {best.name} with {values}"
    write_text(sweep.folder / BEST, f"{title}\n{dump(data)}")
    return sweep.folder / BEST
