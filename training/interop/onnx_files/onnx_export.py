"""A policy as an ONNX file, which ONNX Runtime runs without neuraxis and PyTorch.

    write_onnx(load("runs/first"), "policy.onnx")

`onnx_graph` says what goes in and out. The file's metadata repeats it as JSON, under `neuraxis`.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.export import Dim

from ....agents.policies.policy import Policy
from ....core.errors import Guard, RunError, require, shorten
from ....core.files import expanded
from ....networks import twice
from ...storage.atomic_files import write_bytes
from .onnx_graph import ABOUT, BATCH, OBSERVATION, STATE, PolicyGraph

SUFFIX, FORMAT = ".onnx", 1
PACKAGES = "onnx", "onnxruntime", "onnxscript"


class Written(NamedTuple):
    """What was written."""

    size: int
    """Of the file, in bytes."""
    difference: float
    """The largest one between two actions, of the file and of `predict`, in the check."""


def write_onnx(policy: Policy, file: str | Path) -> Written:
    """Writes the greedy policy as a graph, after a check that it acts as `predict` does.

    Args:
        policy: From `load`.
        file: Ends in .onnx; an existing one is replaced.

    Raises:
        ValueError: A package is missing, the file has another suffix, or the policy is one of
            Stable-Baselines3 or knows no environment.
        RunError: The policy has something that no graph can have, or the graph acts otherwise; or
            the disk refuses. No file is written then.
    """
    file = expanded(file)
    if file.suffix != SUFFIX:
        raise ValueError(f"{file}: expected a file that ends in {SUFFIX}")
    require(str(file), *PACKAGES)
    if not policy.teaches:  # it is no module of ours
        raise ValueError(
            f"{file}: the policy acts by Stable-Baselines3's own code; expected a run of `train`"
        )
    from .onnx_check import OnnxPolicy, largest_difference

    graph = PolicyGraph(policy).eval()
    try:
        with Guard(lambda: "the policy does not fit into a graph", RunError):
            content = as_onnx(graph)
        with Guard(lambda: "ONNX Runtime", RunError):
            difference = largest_difference(policy, lambda: OnnxPolicy(content))
    except RunError as error:
        raise RunError(shorten(f"{file}: not written: {error}", 400)) from error
    write_bytes(file, content)
    return Written(len(content), difference)


def as_onnx(graph: PolicyGraph) -> bytes:
    """The content of the file, unchecked."""
    inputs = graph.example(batch=2)  # 1 would be a constant of the graph
    names = {"inputs": {name: {graph.batch_axis(name): BATCH} for name in inputs}}
    free = {"inputs": {name: {graph.batch_axis(name): Dim.DYNAMIC} for name in inputs}}
    # Its kernels of attention are operations of ONNX; the fused one has other strides in a trace.
    with _quiet(), twice.kernels(graph), torch.no_grad():
        program = torch.export.export(
            graph, (), kwargs={"inputs": inputs}, dynamic_shapes=free, strict=False
        )
        exported = torch.onnx.export(
            program,
            input_names=list(inputs),
            output_names=graph.outputs,
            dynamic_shapes=names,
            dynamo=True,
            verbose=False,
        )
    assert exported is not None
    model = exported.model_proto
    about = model.metadata_props.add()
    about.key, about.value = ABOUT, json.dumps(_about(graph, inputs))
    return model.SerializeToString()


def _about(graph: PolicyGraph, inputs: dict[str, Tensor]) -> dict[str, Any]:
    """What the file says of itself."""
    parts = {name: _part(graph, name, leaf) for name, leaf in inputs.items()}
    states = {name: part for name, part in parts.items() if name.startswith(f"{STATE}.")}
    observation_space, action_space = graph.interface.spaces
    return {
        "format": FORMAT,
        "versions": {name: importlib.metadata.version(name) for name in ("neuraxis", "torch")},
        "environment": graph.interface.env_id,
        "observation_space": str(observation_space),
        "action_space": str(action_space),
        "observation": [name for name in parts if name.partition(".")[0] == OBSERVATION],
        "inputs": {name: part for name, part in parts.items() if name not in states},
        "state": states,
        "outputs": graph.outputs,
        "reset": "Begin with zeros as state. A row whose `first` is true forgets its state.",
    }


def _part(graph: PolicyGraph, name: str, leaf: Tensor) -> dict[str, Any]:
    shape: list[int | str] = list(leaf.shape)
    shape[graph.batch_axis(name)] = BATCH
    return {"shape": shape, "dtype": str(leaf.dtype).removeprefix("torch.")}


@contextmanager
def _quiet() -> Iterator[None]:
    """Context without PyTorch's warnings of itself: of packages that it lacks, for example."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
