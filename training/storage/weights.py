"""Weights of stored agents by name: from a run, a checkpoint or a .safetensors file, and to one.

weights = read(Path("runs/first"))      weights.tensors["backbone.blocks.0.layers.0.weight"]

Nothing is built, nothing is imported, and no pickle is read.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ...configs.groups import read_file
from ...core.errors import nearest
from ...core.space_trees import from_tree
from . import checkpoint, checkpoint_folder, layout
from .atomic_files import disk, strange, write_bytes

SUFFIX = ".safetensors"
ABOUT = "neuraxis"
"""The key of what a file's metadata say of its weights."""
Moments = tuple[float, Tensor, Tensor]
"""Count, mean and variance of returns."""


@dataclass(frozen=True)
class Weights:
    """Weights by name, and what is known of where they are from.

    Names are those of the policy's `state_dict()`; those of other parts open with the part's name.
    Optimizers, target networks and a replay are left out.
    """

    place: str
    """The folder or file."""
    tensors: Mapping[str, Tensor]
    """By name."""
    reward_scales: Mapping[str, Moments] = field(default_factory=dict[str, Moments])
    """By the name of a part, the moments of returns by which rewards were divided."""
    spaces: Sequence[gymnasium.Space] | None = None
    """Of observations and actions."""
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """As far as it is known: `agent`, `env`, `blocks` of the network, `steps`."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The run's settings `agent` and `network`; {} if they are not known."""
    untrained: Sequence[str] = ()
    """Modules of the policy that never learned: their tensors are left out."""


def read(path: Path, which: str = layout.BEST) -> Weights:
    """Reads weights.

    Args:
        path: A run's folder, a checkpoint's, or a .safetensors file.
        which: Checkpoint of a run: `best`, `last` or `step_...`.

    Raises:
        ValueError: It is none of these; says what it is, as far as that can be seen.
        RunError: It is damaged.
    """
    if path.name == checkpoint.ARRAYS and (path.parent / checkpoint.STRUCTURE).is_file():
        path = path.parent
    run = layout.is_run(path)
    if not run and which != layout.BEST:
        raise ValueError(f"checkpoint {which}: {path} is no run, whose checkpoints have names")
    if run or (path / checkpoint.STRUCTURE).is_file():
        return _of_checkpoint(path, which if run else None)
    if path.is_file():
        return _of_file(path)
    if path.suffix and path.parent.is_dir() and not path.exists():
        names = [other.name for other in path.parent.iterdir()]
        raise ValueError(f"{path}: no such file{nearest(path.name, names)}")
    layout.find(path)
    raise AssertionError("it was no run")


def write_backbone(run: Path, which: str, file: Path) -> int:
    """Writes the backbone of a run's policy, and its statistics of observations, to a file.

    Tensors are named `backbone....` and `normalizer....`; of an actor-critic it is the actor's.

    Args:
        run: The run's folder.
        which: Checkpoint `best`, `last` or `step_...`.
        file: Ends in .safetensors; an existing one is replaced.

    Returns:
        How many numbers the backbone has.

    Raises:
        ValueError: No such run or checkpoint, its agent has no backbone, or another kind of file.
        RunError: It is damaged, or the disk refuses.
    """
    if file.suffix != SUFFIX:
        raise ValueError(f"{file}: expected a file that ends in {SUFFIX}")
    weights = read(layout.find(run), which)
    found = {name.partition(".")[0] for name in weights.tensors}
    root = next((root for root in ("backbone", "actor") if root in found), None)
    if root is None:
        raise ValueError(f"{run}: agent={weights.about.get('agent')} has no backbone")
    tensors = {
        name.replace(root, "backbone", 1): tensor.contiguous()
        for name, tensor in weights.tensors.items()
        if name.startswith((f"{root}.", "normalizer."))
    }
    write_bytes(file, save(tensors, {ABOUT: json.dumps({**weights.about, "part": "backbone"})}))
    return sum(x.numel() for name, x in tensors.items() if name.startswith("backbone."))


def _of_checkpoint(path: Path, which: str | None) -> Weights:
    """Of a run's checkpoint or, with None, of the one in this folder."""
    folder = path if which is None else checkpoint_folder.chosen(path / layout.CHECKPOINTS, which)
    (agent,) = checkpoint.read_branches(folder, ("agent",), without=("replay",))
    with strange(f"{folder}: not the checkpoint of an agent"):
        untrained = tuple(map(str, agent.get("untrained", ())))  # older checkpoints do not say it
        policy = {
            key: x
            for key, x in agent.pop("policy").items()
            if isinstance(x, Tensor) and key.partition(".")[0] not in untrained
        }
        spaces = [from_tree(space) for space in agent.get("spaces") or ()]
        named = policy | dict(_named(agent))
        scales = dict(_scales(agent))
        settings = _settings(folder.parent.parent)
        about: dict[str, Any] = {"steps": int(agent["steps"])}
        if settings:
            about |= {"agent": settings["agent"]["name"], "env": settings["env"]["id"]}
            about["blocks"] = settings["network"]["blocks"]
    settings = {key: settings[key] for key in ("agent", "network") if key in settings}
    return Weights(str(folder), named, scales, spaces or None, about, settings, untrained)


def _settings(run: Path) -> dict[str, Any]:
    """The settings in the config.yaml of a run, if it is there."""
    file = run / layout.CONFIG
    return read_file(file, str(file)) if layout.is_run(run) else {}


def _named(tree: Mapping[Any, Any], opening: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of a tree, without optimizers and target networks, by joined names."""
    for key, value in tree.items():
        if isinstance(value, Tensor):
            yield f"{opening}{key}", value
        elif isinstance(value, dict) and not {"mean", "square"} <= value.keys():
            follows = str(key).endswith("target") and any(n.startswith("network.") for n in value)
            if not follows and "moments" not in value:
                yield from _named(value, f"{opening}{key}.")


def _scales(tree: Mapping[Any, Any], opening: str = "") -> Iterator[tuple[str, Moments]]:
    """What rewards are divided by in a tree, by joined names."""
    for key, value in tree.items():
        if isinstance(value, dict) and "moments" in value:
            count, mean, variance = value["moments"]
            yield f"{opening}{key}", (count, mean, variance)
        elif isinstance(value, dict):
            yield from _scales(value, f"{opening}{key}.")


def _of_file(path: Path) -> Weights:
    if path.suffix != SUFFIX:
        raise ValueError(
            f"{path}: {_kind(path)}; expected a run, a checkpoint's folder or a {SUFFIX} file"
        )
    with disk(path), safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        metadata = file.metadata() or {}
    about: Any = None
    with suppress(ValueError):
        about = json.loads(metadata.get(ABOUT, "null"))
    kinds = {
        "agent": str,
        "env": str,
        "blocks": list,
        "steps": int,
    }  # somebody else may have made it
    fits = isinstance(about, dict) and all(isinstance(about.get(k), kinds[k]) for k in kinds)
    return Weights(str(path), tensors, about={key: about[key] for key in kinds} if fits else {})


def _kind(path: Path) -> str:
    """What a file is that has no weights to be read here."""
    with disk(path), path.open("rb") as file:
        start = file.read(4)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as content:
            names = content.namelist()
        if "policy.pth" in names:
            return "a model of Stable-Baselines3, whose weights are in a pickle"
        if any(name.endswith("data.pkl") for name in names):
            return "a file of torch.save, which is a pickle: to read one runs its code"
        return "a zip file"
    return "a pickle: to read one runs its code" if start[:1] == b"\x80" else "another kind of file"
