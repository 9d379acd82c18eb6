"""A policy in one file: weights, and in the metadata as JSON what builds the policy again.

    write(Path("policy.safetensors"), tree)        tree = read(Path("policy.safetensors"))

`tree_encoding` says what the tree may hold. Nothing in the file runs code when it is read.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from ...core.errors import RunError
from .atomic_files import disk, strange, write_bytes
from .tree_encoding import Tree, decode, encode
from .weights import SUFFIX

ABOUT, DIGEST = "neuraxis.policy", "sha256"
"""The keys of the metadata: the tree without its arrays, and a sum over both."""


def write(file: Path, tree: Tree) -> None:
    """Writes a tree, which replaces an existing file.

    Raises:
        ValueError: The file has another suffix than `SUFFIX`.
        RunError: The disk refuses.
    """
    if file.suffix != SUFFIX:
        raise ValueError(f"{file}: expected a file that ends in {SUFFIX}")
    arrays: dict[str, np.ndarray] = {}
    body = json.dumps(encode(tree, "", arrays), separators=(",", ":"))
    write_bytes(file, save(arrays, {ABOUT: body, DIGEST: _digest(body, arrays)}))


def read(file: Path) -> Tree:
    """Returns the tree.

    Raises:
        ValueError: The file has another suffix than `SUFFIX`.
        RunError: It is not the file of a policy, or is damaged.
    """
    if file.suffix != SUFFIX:
        raise ValueError(f"{file}: is no run; expected a run's folder, or a policy's {SUFFIX} file")
    with disk(file), safe_open(file, framework="np") as content:
        metadata = content.metadata() or {}
        if ABOUT not in metadata:
            raise RunError(
                f"{file}: not the file of a policy; expected one of `neuraxis export RUN --policy`"
            )
        arrays = {name: content.get_tensor(name) for name in content.keys()}
    body = metadata[ABOUT]
    if metadata.get(DIGEST) != _digest(body, arrays):
        raise RunError(f"{file}: damaged, its SHA-256 differs")
    with strange(f"{file}: damaged"):
        return decode(json.loads(body), arrays.__getitem__)


def _digest(body: str, arrays: dict[str, np.ndarray]) -> str:
    sum_ = hashlib.sha256(body.encode())
    for name in sorted(arrays):
        sum_.update(np.ascontiguousarray(arrays[name]).tobytes())
    return sum_.hexdigest()
