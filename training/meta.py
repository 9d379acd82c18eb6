"""What a result depends on besides its configuration: versions, commit, machine, command line."""

from __future__ import annotations

import os
import platform
import secrets
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from .files import read_json, write_json

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


def describe() -> dict[str, Any]:
    """Returns the content of meta.json; `git` is null where the code is not in a repository."""
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


def identified(folder: Path) -> dict[str, Any]:
    """Returns a run's meta.json, with the id that W&B knows the run by; gives it one if need be.

    A sweep's agent has chosen the id of the run that it starts.

    Raises:
        RunError: It cannot be read or written.
    """
    path = folder / "meta.json"
    about = read_json(path)
    if "wandb_id" not in about:
        about["wandb_id"] = os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)
        write_json(path, about)
    return about


def note_resumption(folder: Path, steps: int) -> None:
    """Adds to a run's meta.json that it goes on from `steps`, and by which command.

    Raises:
        RunError: It cannot be read or written.
    """
    path = folder / "meta.json"
    about = read_json(path)
    now = {"time": _now(), "command": _command(), "steps": steps}
    write_json(path, about | {"resumed": [*about.get("resumed", []), now]})


def _now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _command() -> str:
    """The command line as one would type it."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


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
