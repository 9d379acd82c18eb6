"""W&B's own environment variables: they count where neither a word nor a file says anything."""

import os
from typing import Any

from .words import Word

VARIABLES = {
    "WANDB_MODE": "wandb.mode",
    "WANDB_PROJECT": "wandb.project",
    "WANDB_ENTITY": "wandb.entity",
    "WANDB_NAME": "wandb.name",
    "WANDB_RUN_GROUP": "wandb.group",
    "WANDB_JOB_TYPE": "wandb.job_type",
    "WANDB_TAGS": "wandb.tags",
    "WANDB_NOTES": "wandb.notes",
}
"""The keys that W&B's variables set."""
DISABLED = "WANDB_DISABLED"
_MODES = {"run": "online", "dryrun": "offline"}  # W&B's older names
_NO = ("", "0", "false", "no", "off")


def words() -> list[Word]:
    """What the environment says, as words; a variable that is empty says nothing."""
    said = {name: text for name in VARIABLES if (text := os.environ.get(name, "").strip())}
    if os.environ.get(DISABLED, "").strip().lower() not in _NO:
        said["WANDB_MODE"] = "disabled"
    return [
        Word(VARIABLES[name], _value(name, said[name]), f"{said[name]} (of ${name})")
        for name in said
    ]


def _value(name: str, text: str) -> Any:
    if name == "WANDB_TAGS":
        return [tag.strip() for tag in text.split(",") if tag.strip()]
    return _MODES.get(text, text) if name == "WANDB_MODE" else text
