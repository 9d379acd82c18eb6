"""Checkpoints: a tree on disk, whole or not at all, and nothing in it that runs code when read.

    step_000500000/
      state.safetensors   each tensor and array under the path where it stands in the tree
      state.json          structure and scalars, with the format's version and SHA-256 sums

`tree_encoding` says what a tree may hold. A folder is written beside its place, fsynced and
renamed, so that a reader finds the old checkpoint or the new one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from ...core.errors import RunError, shorten
from .atomic_files import disk, fsync, strange
from .layout import STEPS_PATTERN
from .tree_encoding import Tree, decode, encode

FORMAT = 1
ARRAYS = "state.safetensors"
STRUCTURE = "state.json"  # the file that makes a folder a checkpoint


def write(folder: Path, tree: Tree) -> None:
    """Writes `tree` as checkpoint `folder`, which replaces an existing one.

    Raises:
        RunError: the disk is full or cannot be written; nothing half-written stays.
        TypeError: a leaf that a checkpoint cannot hold; names its path in the tree.
    """
    arrays: dict[str, np.ndarray] = {}
    body = json.dumps(encode(tree, "", arrays), separators=(",", ":"))
    temporary = folder.with_name(f".{folder.name}.tmp")
    try:
        with disk(folder):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            save_file(arrays, temporary / ARRAYS)
            digests = {"safetensors": _sha256(temporary / ARRAYS), "body": _digest(body)}
            head = f'"format":{FORMAT},"sha256":{json.dumps(digests)}'
            (temporary / STRUCTURE).write_text(f'{{{head},"body":{body}}}\n', encoding="utf-8")
            for path in (temporary / ARRAYS, temporary / STRUCTURE, temporary):
                fsync(path)
            _replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read(folder: Path, *keys: str) -> Tree:
    """Returns the tree of checkpoint `folder`: tensors on the CPU, arrays writable.

    Args:
        folder: the checkpoint's.
        keys: they lead to the branch that is wanted; the rest is not loaded into memory.

    Raises:
        RunError: missing, truncated, altered, or written by a newer neuraxis; names the file.
    """
    return read_branches(folder, keys)[0]


def read_branches(folder: Path, *paths: Sequence[str], without: Collection[str] = ()) -> list[Tree]:
    """Returns several branches, see `read`; None for one that is not there. Raises RunError.

    What `without` names directly below them is not loaded into memory.
    """
    structure, storage = folder / STRUCTURE, folder / ARRAYS
    for path in (structure, storage):
        if not path.is_file():
            raise _unusable(path, "missing")
    with disk(structure):
        text = structure.read_bytes()
    damaged = str(_unusable(structure, "damaged, not the JSON that was written"))
    with strange(damaged):
        document = json.loads(text)
        version, digests, body = document["format"], dict(document["sha256"]), document["body"]
        written = json.dumps(body, separators=(",", ":"))
    if version != FORMAT:
        found = f"format {shorten(version)}, this neuraxis reads {FORMAT}"
        raise RunError(f"{structure}: {found}: update neuraxis")
    if digests.get("body") != _digest(written):
        raise _unusable(structure, "damaged, its SHA-256 differs")
    with disk(storage):
        if digests.get("safetensors") != _sha256(storage):
            raise _unusable(storage, "damaged, its SHA-256 differs")
        with safe_open(storage, framework="np") as arrays, strange(damaged):
            return [decode(_branch(body, keys, without), arrays.get_tensor) for keys in paths]


def digest(folder: Path) -> str:
    """SHA-256 of the sums in a checkpoint that was read; it changes with anything in there."""
    structure = folder / STRUCTURE
    with disk(structure), strange(f"{structure}: damaged"):
        return _digest(json.dumps(json.loads(structure.read_bytes())["sha256"]))


def _replace(new: Path, place: Path) -> None:
    """Renames `new` to `place`, the old one first: no rename replaces a folder with files in it."""
    old = place.with_name(f".{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    fsync(place.parent)
    shutil.rmtree(old, ignore_errors=True)


def _branch(form: Any, keys: Sequence[str], without: Collection[str]) -> Any:
    """The JSON form of the branch of a dict of dicts; None if there is none."""
    for key in keys:
        form = form and dict(form["dict"]).get(key)
    if form and without:
        return {"dict": [pair for pair in form["dict"] if pair[0] not in without]}
    return form


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _unusable(path: Path, why: str) -> RunError:
    """An error that says from which other checkpoint of the run to go on."""
    here = path.parent.resolve()
    others = sorted(
        p.parent for p in here.parent.glob(f"{STEPS_PATTERN}/{STRUCTURE}") if p.parent != here
    )
    advice = (
        f"take another one, {others[-1].name} (resume --from, evaluate --checkpoint)"
        if others
        else "there is no other one"
    )
    return RunError(f"{path}: {why}; {advice}")
