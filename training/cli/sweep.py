"""The command that searches: sweep."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from . import completion, options
from .exit_codes import runtime_errors, usage_errors
from .output import say


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
    a sweep goes on with --resume: no trial is repeated, none begins anew. A terminal shows the
    trials as they go, the best one marked; elsewhere each change is a line.
    """
    with usage_errors():
        from ..sweeps import sweep as sweeping
        from ..sweeps.trials import Sweep
        from .sweep_display import SweepDisplay, show_end

        if folder is not None:
            if words:
                raise ValueError(f"{words[0]}: --resume takes no words, the sweep has its own")
            made = Sweep.open(folder, trust)
        else:
            made = sweeping.create(words)
    place = shlex.quote(str(folder or made.folder))
    try:
        with usage_errors():
            if quiet:
                trials = sweeping.run(made, lambda line: None)
            else:
                with SweepDisplay(made) as display:
                    trials = sweeping.run(made, display)
    except KeyboardInterrupt:
        say(f"interrupted; go on with: neuraxis sweep --resume {place}", err=True)
        return 130
    if not quiet:
        with runtime_errors():
            show_end(made, trials, place)
    return 0 if any(trial.score is not None for trial in trials) else 1
