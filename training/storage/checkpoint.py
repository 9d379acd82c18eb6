"""Checkpoints: a tree on disk, whole or not at all, and nothing in it that runs code when read.

    step_000500000/
      state.safetensors   each tensor and array under the path where it stands in the tree
      state.json          structure and scalars, with the format's version and SHA-256 sums

A tree is a nested dict (keys text or int), list or tuple of torch tensors, NumPy arrays and
scalars, and JSON scalars (None, bool, int of any size, float, str). A folder is written beside its
place, fsynced and renamed, so that a reader finds the old checkpoint or the new one.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from ...core.errors import RunError, shorten
from .atomic_files import disk, fsync, strange
from .layout import STEPS_PATTERN

Tree = Any  # dict[str | int, Tree] | list[Tree] | tuple[Tree, ...] | leaf

FORMAT = 1
ARRAYS = "state.safetensors"
STRUCTURE = "state.json"  # the file that makes a folder a checkpoint
# What NumPy and safetensors both know; the rest (bfloat16, complex128, text) is stored as bytes.
_PLAIN = {"bool", "complex64", "float16", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


def write(folder: Path, tree: Tree) -> None:
    """Writes `tree` as checkpoint `folder`, which replaces an existing one.

    Raises:
        RunError: the disk is full or cannot be written; nothing half-written stays.
        TypeError: a leaf that a checkpoint cannot hold; names its path in the tree.
    """
    arrays: dict[str, np.ndarray] = {}
    body = json.dumps(_encode(tree, "", arrays), separators=(",", ":"))
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
            return [_decode(_branch(body, keys, without), arrays.get_tensor) for keys in paths]


def digest(folder: Path) -> str:
    """SHA-256 of the sums in a checkpoint that was read: another one, if anything in it is."""
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


def _encode(tree: Tree, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """Returns the JSON form of `tree` and puts its tensors and arrays into `arrays`."""
    if isinstance(tree, torch.Tensor | np.ndarray | np.generic):
        return _encode_array(tree, path, arrays)
    if isinstance(tree, dict):
        pairs = [[key, _encode(value, f"{path}/{key}", arrays)] for key, value in tree.items()]
        if all(isinstance(key, str | int) for key in tree):
            return {"dict": pairs}
    elif isinstance(tree, list | tuple):
        items = [_encode(value, f"{path}/{i}", arrays) for i, value in enumerate(tree)]
        return items if isinstance(tree, list) else {"tuple": items}
    elif isinstance(tree, float):
        return tree if math.isfinite(tree) else {"float": str(tree)}
    elif tree is None or isinstance(tree, bool | int | str):
        return tree
    raise TypeError(f"{path}: a checkpoint cannot hold {type(tree).__qualname__} {tree!r:.60}")


def _encode_array(
    leaf: torch.Tensor | np.ndarray | np.generic, path: str, arrays: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Puts one leaf into `arrays`, without a copy if it is contiguous."""
    key = path.removeprefix("/")
    while key in arrays:  # {"a/b": x, "a": {"b": y}}
        key += "~"
    if isinstance(leaf, torch.Tensor):
        tensor = leaf.detach().cpu().contiguous()
        form: dict[str, Any] = {"tensor": key}
        dtype = str(tensor.dtype).removeprefix("torch.")
        plain = dtype in _PLAIN
        arrays[key] = (tensor if plain else tensor.reshape(-1).view(torch.uint8)).numpy()
    else:
        array = np.asarray(leaf, order="C")
        form = {"array" if isinstance(leaf, np.ndarray) else "scalar": key}
        dtype = array.dtype.str
        plain = array.dtype.isnative and array.dtype.name in _PLAIN
        if array.dtype.kind in "OV":
            raise TypeError(f"{path}: a checkpoint cannot hold an array of {array.dtype}")
        arrays[key] = array if plain else array.reshape(-1).view(np.uint8)
    return form if plain else form | {"dtype": dtype, "shape": list(leaf.shape)}


def _branch(form: Any, keys: Sequence[str], without: Collection[str]) -> Any:
    """The JSON form of the branch of a dict of dicts; None if there is none."""
    for key in keys:
        form = form and dict(form["dict"]).get(key)
    if form and without:
        return {"dict": [pair for pair in form["dict"] if pair[0] not in without]}
    return form


def _decode(form: Any, load: Callable[[str], np.ndarray]) -> Tree:
    """The inverse of `_encode`; `load` gives an array by its name."""
    if isinstance(form, list):
        return [_decode(item, load) for item in form]
    if not isinstance(form, dict):
        return form
    kind, content = next(iter(form.items()))
    if kind == "dict":
        return {key: _decode(value, load) for key, value in content}
    if kind == "tuple":
        return tuple(_decode(item, load) for item in content)
    if kind == "float":
        return float(content)
    leaf = load(content)
    if kind == "tensor":
        tensor = torch.from_numpy(leaf)
        if "dtype" not in form:
            return tensor
        shape, dtype = form["shape"], getattr(torch, form["dtype"])
        if math.prod(shape) * dtype.itemsize != tensor.numel():
            raise ValueError(f"{tensor.numel()} bytes cannot be a tensor of shape {shape}")
        typed = torch.empty(shape, dtype=dtype)
        typed.view(-1).view(torch.uint8).copy_(tensor)
        return typed
    array = leaf.view(form["dtype"]).reshape(form["shape"]) if "dtype" in form else leaf
    return array[()] if kind == "scalar" else array


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
