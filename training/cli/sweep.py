"""The command that searches: sweep."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import completion, options
from .exit_codes import usage_errors
from .output import next_steps, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..sweeps.trials import Sweep, Trial


@click.command(
    epilog="""\b
Examples:
  neuraxis sweep experiment=cartpole_ppo sweep=ppo
  neuraxis sweep experiment=cartpole_ppo sweep=ppo total_steps=20_000 sweep.trials=8 sweep.seeds=2
  neuraxis sweep env=Acrobot-v1 agent=dqn sweep=my_sweep.yaml run_dir=runs/acrobot
  neuraxis sweep --resume runs/sweeps/ppo-20260101-120000
  neuraxis watch runs/sweeps/ppo-20260101-120000

\b
sweep=NAME is one of `neuraxis list sweeps` or a file of one's own; sweep.KEY=VALUE changes it.
"""
)
@click.argument("words", nargs=-1, metavar="[WORDS]...", shell_complete=completion.words)
@click.option(
    "--resume", "folder", type=click.Path(path_type=Path), help="Go on with the sweep in a folder."
)
@options.trust
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def sweep(words: tuple[str, ...], folder: Path | None, trust: bool, quiet: bool) -> int:
    """Search for settings: many trials, several seeds each, on all processors.

    WORDS are those of `neuraxis train`, shared by all trials, and sweep=NAME. Killed at any moment,
    a sweep goes on with --resume: no trial is repeated, none begins anew.
    """
    with usage_errors():
        from ..sweeps import sweep as sweeping
        from ..sweeps.trials import Sweep

        if folder is not None:
            if words:
                raise ValueError(f"{words[0]}: --resume takes no words, the sweep has its own")
            made = Sweep.open(folder, trust)
        else:
            made = sweeping.create(words)
    place = shlex.quote(str(folder or made.folder))
    try:
        with usage_errors():
            trials = sweeping.run(made, (lambda line: None) if quiet else _tell)
    except KeyboardInterrupt:
        say(f"interrupted; go on with: neuraxis sweep --resume {place}", err=True)
        return 130
    if not quiet:
        show_trials(made, trials, place)
    return 0 if any(trial.score is not None for trial in trials) else 1


def _tell(line: str) -> None:
    say(line, err=True)


def show_trials(sweep: Sweep, trials: Sequence[Trial], place: str) -> None:
    """Prints the trials, the best first, and which commands come next."""
    from rich import box
    from rich.table import Table

    from ..analysis.terminal import cell, wide_console
    from ..sweeps.ranges import show
    from ..sweeps.sweep import BEST

    config = sweep.config
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("trial")
    for name in (config.metric, "seeds", "steps"):
        table.add_column(cell(name), justify="right")
    for name in ("ended", *config.parameters):
        table.add_column(cell(name))
    for trial in trials:
        seeds = (_number(score) for score in trial.seed_scores(config.metric))
        table.add_row(
            cell(trial.name),
            _number(trial.score),
            " ".join(seeds),
            f"{trial.steps:,}",
            cell(trial.ended + (f" (from {trial.origin})" if trial.origin else "")),
            *(cell(show(trial.parameters[key])) for key in config.parameters),
        )
    wide_console().print(table)
    say(f"sweep: {place}")
    steps = [(f"neuraxis compare {place}", "groups of seeds, with intervals")]
    if (sweep.folder / BEST).exists():
        best = shlex.quote(f"{place}/{BEST}")
        fresh = sweep.base().seed + config.seeds
        command = f"neuraxis train experiment={best} seed={fresh}"
        steps.insert(0, (command, f"the best values with fresh seeds: {fresh}, {fresh + 1}, ..."))
    next_steps(steps)


def _number(score: float | None) -> str:
    return "" if score is None else f"{score:.4g}"
