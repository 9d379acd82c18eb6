"""A tree as JSON and arrays by name: what a checkpoint holds, and nothing that runs code when read.

A tree is a nested dict (keys text or int), list or tuple of torch tensors, NumPy arrays and
scalars, and JSON scalars (None, bool, int of any size, float, str).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Tree = Any  # dict[str | int, Tree] | list[Tree] | tuple[Tree, ...] | leaf

# What NumPy and safetensors both know; the rest (bfloat16, complex128, text) is stored as bytes.
_PLAIN = {"bool", "complex64", "float16", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


def encode(tree: Tree, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """Returns the JSON form of a tree.

    Args:
        tree: What is encoded.
        path: Where it stands in the whole; empty for the root.
        arrays: Its tensors and arrays are put here, by their paths.

    Raises:
        TypeError: A leaf that a checkpoint cannot hold; names its path.
    """
    if isinstance(tree, torch.Tensor | np.ndarray | np.generic):
        return _encode_array(tree, path, arrays)
    if isinstance(tree, dict):
        pairs = [[key, encode(value, f"{path}/{key}", arrays)] for key, value in tree.items()]
        if all(isinstance(key, str | int) for key in tree):
            return {"dict": pairs}
    elif isinstance(tree, list | tuple):
        items = [encode(value, f"{path}/{i}", arrays) for i, value in enumerate(tree)]
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


def decode(form: Any, load: Callable[[str], np.ndarray]) -> Tree:
    """The inverse of `encode`; `load` gives an array by its name."""
    if isinstance(form, list):
        return [decode(item, load) for item in form]
    if not isinstance(form, dict):
        return form
    kind, content = next(iter(form.items()))
    if kind == "dict":
        return {key: decode(value, load) for key, value in content}
    if kind == "tuple":
        return tuple(decode(item, load) for item in content)
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
