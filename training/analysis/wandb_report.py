"""A comparison as a run of its own at Weights & Biases."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import RunError
from ..tracking import wandb_client
from .compare import Comparison
from .page import PAGE
from .report import HEADINGS, cells, title

if TYPE_CHECKING:
    import wandb


def publish(comparison: Comparison, files: Mapping[str, bytes], project: str, folder: Path) -> str:
    """Logs a comparison as a run of its own: tables, a bar chart, the pictures and the page.

    Args:
        comparison: what is logged.
        files: the page and the pictures, see `page.render`.
        project: `PROJECT` or `ENTITY/PROJECT`.
        folder: W&B writes into `wandb/` there.

    Returns:
        Where it is to be seen; with WANDB_MODE=offline the folder for `wandb sync`.

    Raises:
        RunError: W&B does not answer, or refuses.
    """
    entity, _, name = project.rpartition("/")
    with wandb_client.answering(f"--wandb {project}"):
        online = os.environ.get("WANDB_MODE", "online") == "online"
        if online and (why := wandb_client.why_unavailable()):
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

    settings = wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        reinit="create_new",
        init_timeout=wandb_client.TIMEOUT_SECONDS,
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
