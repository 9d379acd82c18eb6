"""What a result depends on: its configuration, versions, commit, machine, command line."""

from __future__ import annotations

import os
import platform
import secrets
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...configs.text import dump
from ...configs.trust import code_of, signed
from ...configs.words import flat, without_secrets
from .atomic_files import read_json, write_json, write_text
from .layout import CONFIG, META

if TYPE_CHECKING:
    from ...configs.config import Config

_PACKAGES = (
    "neuraxis",
    "torch",
    "numpy",
    "gymnasium",
    "ray",
    "wandb",
    "stable-baselines3",
    "safetensors",
)


def write_config(folder: Path, cfg: Config) -> None:
    """Writes a run's config.yaml, signed if it names code. Raises RunError."""
    file, settings = folder / CONFIG, cfg.stored()
    write_text(file, signed(file, dump(settings), code_of(flat(settings))))


def describe() -> dict[str, Any]:
    """Returns the content of meta.json; `git` is null where the code is not in a repository."""
    import torch  # not needed to look at runs, and slow

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "time": _now(),
        "command": _command(),
        "versions": {"python": platform.python_version()}
        | {name: _version(name) for name in _PACKAGES},
        "git": _git(Path(__file__).parent),
        "host": {
            "name": platform.node(),
            "system": platform.platform(),
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpus": gpus,
        },
    }


def note(folder: Path, key: str, facts: Mapping[str, Any]) -> None:
    """Adds to the content of a run's meta.json. Raises RunError."""
    write_json(folder / META, read_json(folder / META) | {key: facts})


def identified(folder: Path) -> dict[str, Any]:
    """Returns the content of a run's meta.json, with a `wandb_id`, which is made if it is missing.

    The agent of a W&B sweep sets $WANDB_RUN_ID, the id of the run that it starts.

    Raises:
        RunError: It cannot be read or written.
    """
    path = folder / META
    about = read_json(path)
    if not isinstance(about.get("wandb_id"), str):
        about["wandb_id"] = os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)
        write_json(path, about)
    return about


def _now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _command() -> str:
    """The command line as one would type it, without secrets."""
    return shlex.join([Path(sys.argv[0]).name, *without_secrets(sys.argv[1:])])


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(folder: Path) -> dict[str, Any] | None:
    """Returns {"commit", "dirty"} of the repository around `folder`; dirty: with changed files."""
    words = [
        "git",
        "-C",
        str(folder),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=10, env=environment, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    commit, dash, _ = done.stdout.strip().partition("-")
    return {"commit": commit, "dirty": bool(dash)}
