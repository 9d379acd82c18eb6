"""The commands that look at runs: watch."""

from __future__ import annotations

import click

from .exits import preparing


@click.command(
    epilog="""\b
Examples:
  neuraxis watch runs
  neuraxis watch runs/CartPole-v1/ppo-mlp --once
  neuraxis watch runs/a runs/b --metric episode/return
"""
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN|DIR...")
@click.option("--metric", default="evaluate/return", show_default=True, help="What is drawn.")
@click.option("--once", is_flag=True, help="Show where the runs stand, and end.")
def watch(runs: tuple[str, ...], metric: str, once: bool) -> int:
    """Watch runs: steps, speed, returns and curves, each second anew.

    Ends with Ctrl-C, or when all runs have ended. RUN is a run's folder, DIR one with runs at any
    depth; runs that start there later appear.
    """
    with preparing():
        from . import watch as watching

        try:
            watching.watch(runs, metric, once)
        except KeyboardInterrupt:  # the way to stop looking, nothing was interrupted
            pass
    return 0
