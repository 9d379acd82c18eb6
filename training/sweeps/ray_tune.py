"""Ray Tune as the scheduler of a sweep."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray import tune as ray_tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining
from ray.tune.schedulers import TrialScheduler as Scheduler
from ray.tune.search import Searcher

from .ranges import DIGITS, Parameters, SweepConfig
from .trainable import TIME, SweepReporter, TrialTrainable
from .trials import Sweep, Trial


class OptunaSearcher(Searcher):
    """Optuna's TPE; it learns from stored trials that have ended, and goes on with the others."""

    def __init__(self, sweep: Sweep, known: Sequence[Trial]) -> None:
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        config = sweep.config
        super().__init__(metric=config.metric, mode=config.mode)
        self.sweep = sweep
        self.count = len(known)
        self.waiting = [trial for trial in known if not trial.ended]
        self.resumed: dict[str, Parameters] = {}
        domains = {key: range_.domain() for key, range_ in config.parameters.items()}
        self.search = OptunaSearch(
            OptunaSearch.convert_search_space(domains),
            metric=config.metric,
            mode=config.mode,
            seed=sweep.base().seed + self.count,  # else a resumed sweep repeats its first draws
        )
        for trial in known:
            if trial.ended and trial.score is not None:
                self.search.add_evaluated_point(trial.parameters, trial.score)

    def suggest(self, trial_id: str) -> Any:
        """The next trial's `_config`, or that there is none."""
        if self.waiting:
            trial = self.waiting.pop(0)
            self.resumed[trial_id] = trial.parameters
            return _config(self.sweep, trial)
        if self.count == self.sweep.config.size:
            return Searcher.FINISHED
        parameters = self.search.suggest(trial_id)
        assert parameters is not None
        trial = Trial.create(self.sweep, self.count, parameters)
        self.count += 1
        return _config(self.sweep, trial)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tells Optuna how a trial has ended."""
        if trial_id not in self.resumed:
            self.search.on_trial_complete(trial_id, result, error)
        elif result is not None and not error:
            score = result[self.sweep.config.metric]
            self.search.add_evaluated_point(self.resumed[trial_id], score)


def run_trials(
    sweep: Sweep, known: Sequence[Trial], scratch: Path, say: Callable[[str], None]
) -> None:
    """Runs the trials that have not ended; Ray has been started.

    Args:
        sweep: what is searched.
        known: the trials that there are.
        scratch: folder for what Tune writes.
        say: is given a line for each thing that happens.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    config = sweep.config
    scheduler = restored_scheduler(sweep, known)
    left = [_config(sweep, trial) for trial in known if not trial.ended]
    optuna = config.search == "optuna"
    if not left and not optuna:  # ASHA has just stopped the last ones
        return
    every = {"trial": ray_tune.grid_search([own["trial"] for own in left])}
    resources = {"cpu": config.cpus_per_trial, "gpu": config.gpus_per_trial}
    ray_tune.Tuner(
        ray_tune.with_resources(TrialTrainable, resources),
        param_space={} if optuna else every,
        tune_config=ray_tune.TuneConfig(
            scheduler=scheduler,
            search_alg=OptunaSearcher(sweep, known) if optuna else None,
            num_samples=config.size if optuna else 1,
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.config["trial"]["name"],
        ),
        run_config=ray_tune.RunConfig(
            name="tune",
            storage_path=str(scratch),
            callbacks=[SweepReporter(sweep, say)],
            verbose=0,
        ),
    ).fit()


def _config(sweep: Sweep, trial: Trial) -> dict[str, Any]:
    own = {"sweep": str(sweep.folder), "name": trial.name, "parameters": trial.parameters}
    return {"trial": own}


def _scheduler(config: SweepConfig, total_steps: int) -> Scheduler:
    aim: dict[str, Any] = {"metric": config.metric, "mode": config.mode, "time_attr": TIME}
    if config.scheduler == "asha":
        return ASHAScheduler(
            **aim,
            max_t=total_steps,
            grace_period=config.grace_steps,
            reduction_factor=config.reduction_factor,
        )
    if config.scheduler == "pbt":
        values = {
            key: list(range_.choice) if range_.choice else range_.domain()
            for key, range_ in config.parameters.items()
        }
        return PopulationBasedTraining(
            **aim,
            perturbation_interval=config.grace_steps,
            hyperparam_mutations={"trial": {"parameters": values}},
            custom_explore_fn=lambda new: clip_to_ranges(new, config),
            log_config=False,
        )
    return FIFOScheduler()


def clip_to_ranges(new: dict[str, Any], config: SweepConfig) -> dict[str, Any]:
    """Clips the values that PBT has changed (by 0.8 or 1.2) to their ranges."""
    values = new["trial"]["parameters"]
    for key, range_ in config.parameters.items():
        if range_.choice is None:
            low, high = range_.ends
            values[key] = min(max(float(f"{values[key]:.{DIGITS}g}"), low), high)
    return new


def restored_scheduler(sweep: Sweep, known: Sequence[Trial]) -> Scheduler:
    """The scheduler, in the state that it had before the sweep was killed.

    ASHA is given the scores on disk again, and the trials that it would have stopped are stopped.
    Trials that go on come last: perhaps the sweep was killed between a score and the decision.
    """
    scheduler = _scheduler(sweep.config, sweep.base().total_steps)
    if not isinstance(scheduler, ASHAScheduler):
        return scheduler
    controller: Any = None  # ASHA has no use for it
    for trial in sorted(known, key=lambda trial: trial.ended == ""):
        stub = TuneTrial("stub", trial_id=trial.name, stub=True)
        scheduler.on_trial_add(controller, stub)
        decision = Scheduler.CONTINUE
        for steps, score in trial.scores:
            result = {TIME: steps, sweep.config.metric: score}
            decision = scheduler.on_trial_result(controller, stub, result)
        if decision == Scheduler.STOP and not trial.ended:
            trial.ended = "stopped"
            trial.write()
    return scheduler
