"""Population based training: a trial goes on as a copy of a better one."""

from __future__ import annotations

import shutil
from pathlib import Path

from ...configs import dump
from ..storage import checkpoint_folder, provenance
from ..storage.atomic_files import read_json, write_json, write_text
from ..storage.layout import BEST, CHECKPOINTS, CONFIG, LAST, META, METRICS
from .ranges import Parameters
from .trials import TRIAL, Sweep, Trial

KEPT = "kept.json"


def export(trial: Trial, target: Path) -> None:
    """Writes into `target` what another trial needs to go on from here: see `continue_from`."""
    for run in sorted(trial.place.glob("s*")):
        kept = target / run.name / CHECKPOINTS
        for name in (LAST, BEST):
            step = checkpoint_folder.chosen(run / CHECKPOINTS, name)
            shutil.copytree(step, kept / step.name, dirs_exist_ok=True)
            checkpoint_folder.point(kept / name, step.name)
        shutil.copy(run / METRICS, target / run.name)
    write_json(target / KEPT, {"trial": trial.name, "scores": trial.scores})


def continue_from(trial: Trial, sweep: Sweep, parameters: Parameters, source: Path) -> None:
    """Lets a trial go on as another one; its runs of before stay. `Trial.open` gives the copy.

    Args:
        trial: the one that goes on.
        sweep: to which it belongs.
        parameters: its values from here on.
        source: what `export` of the other trial has written.
    """
    folder = trial.folder
    place = folder / f"copy_{len(list(folder.glob(f'copy_*/{TRIAL}'))) + 1}"
    temporary = folder / f".{place.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source, temporary)
    kept = read_json(source / KEPT)
    origin = f"{kept['trial']} at {kept['scores'][-1][0]:,}"
    for seed, run in enumerate(sorted(temporary.glob("s*"))):
        cfg = sweep.run_config(parameters, seed, place)
        write_text(run / CONFIG, dump(cfg.stored()))
        write_json(run / META, provenance.describe() | {"origin": origin})
    Trial(temporary, parameters, kept["scores"], origin=origin).write()
    (temporary / KEPT).unlink()
    temporary.rename(place)
