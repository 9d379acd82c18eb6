"""A CUDA graph gives what its function gives; a stand-in for CUDA's repeats operations on a CPU."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from neuraxis.agents.learning.execution.cuda_graph import WARM_UP, CudaGraph
from neuraxis.agents.learning.execution.recorder import Recorder

META = torch.device("meta")


class Graph(TorchDispatchMode):
    """Notes operations, and repeats them into the memory in which their results were.

    It runs them in the capture as well, and undoes what they did to `state`.
    """

    def __init__(self, state: Tensor, fails: bool) -> None:
        super().__init__()
        self.notes: list[tuple[Any, Any, Any, Tensor]] = []
        self.replays = 0
        self._state, self._before, self._fails = state, state.clone(), fails

    def __enter__(self) -> Any:
        self._before = self._state.clone()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._state.copy_(self._before)
        if self._fails:
            raise RuntimeError("the capture was invalidated")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._fails:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        result = func(*args, **(kwargs or {}))
        self.notes.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, result in self.notes:
            again = func(*args, **kwargs)
            if again is not result:
                result.copy_(again)


COUNT = torch.zeros(())


def stand_in(monkeypatch: pytest.MonkeyPatch, fails: bool = False) -> list[Graph]:
    """Puts graphs of the CPU in the place of CUDA's; returns those that are made."""
    made: list[Graph] = []

    def graph() -> Graph:
        made.append(Graph(COUNT, fails))
        return made[-1]

    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, **_: graph)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(CudaGraph, "refused", None)
    COUNT.zero_()
    return made


def function(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Changes a tensor in place, as an update its weights."""
    COUNT.add_(1)
    return {"sum": x + y, "product": (x * 2) * y}


def test_a_graph_does_what_its_function_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a call, from the capture on, too; and what was given out is not overwritten later."""
    graphs = stand_in(monkeypatch)
    played = CudaGraph(function)
    given = [(torch.randn(3), torch.randn(3)) for _ in range(WARM_UP + 3)]
    found = [played(*pair) for pair in given]
    assert len(graphs) == 1 and graphs[0].replays == 3
    assert len(given) == COUNT
    for (x, y), own in zip(given, found, strict=True):
        assert torch.equal(own["sum"], x + y) and torch.equal(own["product"], (x * 2) * y)


def test_a_function_that_cannot_be_captured_is_called(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first cause is said, once; no other capture is tried in this process."""
    graphs = stand_in(monkeypatch, fails=True)
    one = torch.ones(2)
    for played in (CudaGraph(function), CudaGraph(function)):
        for _ in range(WARM_UP + 3):
            assert torch.equal(played(one, one)["sum"], 2 * one)
    assert COUNT == 2 * (WARM_UP + 3) and len(graphs) == 1
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
