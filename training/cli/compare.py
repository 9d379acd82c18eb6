"""The commands that look at runs: compare and watch."""

from __future__ import annotations

from pathlib import Path

import click

from ...core.errors import require
from .exit_codes import runtime_errors, usage_errors
from .output import say


@click.command(
    epilog="""\b
Examples:
  neuraxis compare runs/CartPole-v1
  neuraxis compare runs/ppo runs/dqn --out report
  neuraxis compare runs --by agent.learning_rate --metric episode/return
  neuraxis compare runs --by agent.name --mixed
  neuraxis compare wandb:my-team/my-project/my-group runs/mine

\b
Runs that differ in nothing but the seed are one group. Give 5 seeds or more for
each: with fewer, nothing can be decided.
"""
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN|DIR|wandb:ENTITY/PROJECT[/GROUP]...")
@click.option("--metric", default="evaluate/return", show_default=True, help="What is compared.")
@click.option(
    "--policy",
    type=click.Choice(["newest", "best"]),
    default="newest",
    show_default=True,
    help="Whose final evaluation: of the newest weights, or of checkpoint best.",
)
@click.option("--by", multiple=True, metavar="KEY", help="Group by this setting; may be repeated.")
@click.option("--mixed", is_flag=True, help="Allow several environments, skip runs without METRIC.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for report.html, table.csv and pictures.",
)
@click.option(
    "--wandb", "project", metavar="[ENTITY/]PROJECT", help="Log table, charts and page to W&B."
)
def compare(
    runs: tuple[str, ...],
    metric: str,
    policy: str,
    by: tuple[str, ...],
    mixed: bool,
    out: Path | None,
    project: str | None,
) -> int:
    """Compare runs: table, learning curves, and whether the seeds suffice to decide.

    RUN is a run's folder, DIR one with runs at any depth.
    """
    with usage_errors():
        from ..analysis import compare as comparing
        from ..analysis import report

        if project is not None and not project.rpartition("/")[2]:
            raise ValueError(f"--wandb {project}: expected PROJECT or ENTITY/PROJECT")
        if project is not None:
            require(f"--wandb {project}", "wandb")
        if policy == "best":
            metric = comparing.of_best(metric)
        comparison = comparing.compare(runs, metric, by, mixed)
    report.show(comparison)
    if out is None and project is None:
        return 0
    with runtime_errors():
        files = report.render(comparison)
        if out is not None:
            report.write(files, out)
            say(f"report: {out / report.PAGE}")
        if project is not None:
            from ..analysis import wandb_report

            say(f"W&B: {wandb_report.publish(comparison, files, project, out or Path())}")
    return 0


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
    """Watch runs: steps, speed, returns and curves, updated every second.

    Ends with Ctrl-C, or when all runs have ended. RUN is a run's folder, DIR one with runs at any
    depth; runs that start there later appear.
    """
    with usage_errors():
        from ..analysis import watch as watching

        try:
            watching.watch(runs, metric, once)
        except KeyboardInterrupt:  # the way to stop looking, nothing was interrupted
            pass
    return 0
