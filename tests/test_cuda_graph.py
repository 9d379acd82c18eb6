"""A CUDA graph gives what its function gives; a stand-in for CUDA's repeats operations on a CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from neuraxis.agents.learning.execution.cuda_graph import WARM_UP, CudaGraph
from neuraxis.agents.learning.execution.recorder import Recorder
from neuraxis.core.tree import leaves

META = torch.device("meta")


class Graph(TorchDispatchMode):
    """Notes operations, and repeats them into the memory in which their results were."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[tuple[Any, Any, Any, Tensor]] = []
        self.replays = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.notes.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, result in self.notes:
            result.copy_(func(*args, **kwargs))


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """The graphs that are made, in place of CUDA's."""
    made: list[Graph] = []

    def graph() -> Graph:
        made.append(Graph())
        return made[-1]

    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, **_: graph)
    return made


def function(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    return {"sum": x + y, "product": (x * 2) * y}


def test_a_graph_gives_what_its_function_gives(graphs: list[Graph]) -> None:
    """From the call on that is captured; and what was given out is not overwritten later."""
    played = CudaGraph(function)
    given = [(torch.randn(3), torch.randn(3)) for _ in range(WARM_UP + 3)]
    found = [played(*pair) for pair in given]
    assert len(graphs) == 1 and graphs[0].replays == 3
    for pair, own in zip(given, found, strict=True):
        expected = function(*pair)
        assert own.keys() == expected.keys()
        assert all(torch.equal(own[name], expected[name]) for name in own)


def test_a_function_that_cannot_be_captured_is_called(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", refuse)
    played, one = CudaGraph(function), torch.ones(2)
    for _ in range(WARM_UP + 3):
        assert all(torch.equal(leaf, 2 * one) for leaf in leaves(played(one, one)))
    (record,) = caplog.records
    assert record.getMessage().endswith("operation not permitted when stream is capturing")


def test_a_number_of_another_device_is_found() -> None:
    """A graph would keep its value for ever; a constant of the code is the same for ever."""
    x, clip = torch.ones(3, device=META), torch.tensor(2.0)
    for read, alone in (((), True), ((clip,), False)):
        with Recorder([x], [clip]) as recorder:
            result = torch.where(x > 0, x, 0.0)
            for number in read:
                result = result * number
        assert recorder.is_on(META) == alone
