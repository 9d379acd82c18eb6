"""Weights & Biases for comparisons: its runs, read as if they lay here, and the report as a run."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import client
from .files import RunError
from .records import REMOTE, Record, flatten

if TYPE_CHECKING:
    import wandb

    from .compare import Comparison

_TIMEOUT_SECONDS = 30


def read_project(selection: str, metric: str) -> list[Record]:
    """Reads the runs of a project, or of one of its groups, oldest first.

    Args:
        selection: `wandb:ENTITY/PROJECT` or `wandb:ENTITY/PROJECT/GROUP`.
        metric: what the rows are read for.

    Raises:
        ValueError: another form, no such project or no run in it.
        RunError: W&B does not answer, or refuses.
    """
    entity, project, group = (*selection.removeprefix(REMOTE).split("/", 2), "", "")[:3]
    if not entity or not project:
        raise ValueError(f"{selection}: expected wandb:ENTITY/PROJECT[/GROUP]")
    with _answering(selection):
        import wandb

        api = wandb.Api(timeout=_TIMEOUT_SECONDS)
        filters = {"group": group} if group else {}
        runs = api.runs(f"{entity}/{project}", filters, order="+created_at")
        found = [
            _read(run, f"{REMOTE}{entity}/{project}/{run.id}", metric)
            for run in runs
            if "env" in run.config  # else it is a comparison, or none of neuraxis
        ]
    if not found:
        raise ValueError(f"{selection}: no run there")
    return found


def _read(run: Any, name: str, metric: str) -> Record:
    summary = {key: value for key, value in dict(run.summary).items() if not key.startswith("_")}
    # A run that was killed and resumed has sent some steps twice; the later ones count.
    rows = {row["steps"]: row for row in run.scan_history(["steps", "time/seconds", metric])}
    return Record(name, flatten(run.config), summary, [rows[steps] for steps in sorted(rows)])


def publish(comparison: Comparison, files: Mapping[str, bytes], project: str, folder: Path) -> str:
    """Logs a comparison as a run of its own: tables, a bar chart, the pictures and the page.

    Args:
        comparison: what is logged.
        files: the page and the pictures, see `report.render`.
        project: `PROJECT` or `ENTITY/PROJECT`.
        folder: W&B writes into `wandb/` there.

    Returns:
        Where it is to be seen; with WANDB_MODE=offline the folder for `wandb sync`.

    Raises:
        RunError: W&B does not answer, or refuses.
    """
    entity, _, name = project.rpartition("/")
    with _answering(f"--wandb {project}"):
        if os.environ.get("WANDB_MODE", "online") == "online" and (why := client.obstacle()):
            raise RunError(f"--wandb {project}: W&B: {why}")
        content = _content(comparison, files)
        run = _begin(comparison, entity or None, name, folder)
        run.log(content)
        run.finish()
        return str(Path(run.dir).parent) if run.offline or run.url is None else run.url


def _content(comparison: Comparison, files: Mapping[str, bytes]) -> dict[str, Any]:
    """What is logged: the table and its bars, the runs, the page and the pictures."""
    import wandb
    from PIL import Image

    from .report import HEADINGS, PAGE, cells, title

    columns: list[Any] = ["group", "environment", "seed", comparison.metric, "run"]
    lines: list[Any] = [
        [*cell, run.config.get("seed"), run.score(comparison.metric), run.name]
        for cell, runs in comparison.cells.items()
        for run in runs
    ]
    bars: list[Any] = [[f"{row.group} {row.environment}", row.iqm.value] for row in comparison.rows]
    iqm = wandb.Table(["group", "IQM"], bars)
    pictures = {
        file.removesuffix(".png"): wandb.Image(Image.open(io.BytesIO(data)))
        for file, data in files.items()
        if file.endswith(".png")
    }
    return {
        "table": wandb.Table(list(HEADINGS), list(map(cells, comparison.rows))),
        "runs": wandb.Table(columns, lines),
        "IQM": wandb.plot.bar(iqm, "group", "IQM", title=title(comparison)),
        "report": wandb.Html(files[PAGE].decode(), inject=False),
        **pictures,
    }


def _begin(comparison: Comparison, entity: str | None, project: str, folder: Path) -> wandb.Run:
    """Begins the W&B run that a comparison becomes."""
    import wandb

    from .report import title

    settings = wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        reinit="create_new",
        init_timeout=_TIMEOUT_SECONDS,
    )
    return wandb.init(
        entity=entity,
        project=project,
        job_type="compare",
        name=title(comparison),
        notes="\n".join([*comparison.verdicts, *comparison.notes]),
        dir=str(folder.resolve()),  # the client's service may run elsewhere
        settings=settings,
    )


@contextmanager
def _answering(selection: str) -> Iterator[None]:
    """Turns what W&B's client raises into one line that names the selection."""
    client.import_wandb()
    try:
        yield
    except ValueError as error:  # no such project
        raise ValueError(f"{selection}: {error}") from error
    except client.failures() as error:
        client.forget(error)
        raise RunError(f"{selection}: W&B: {client.reason_of(error)}") from error
