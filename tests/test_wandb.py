"""W&B's own client against `wandb_server`: what arrives, and what happens when the server fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb

from .wandb_server import Server


@pytest.fixture(scope="module")
def server_of_the_module() -> Iterator[Server]:
    """One server for all tests: W&B remembers the address for as long as its process lives."""
    with Server() as server, pytest.MonkeyPatch.context() as patch:
        server.use(patch)
        wandb.teardown()
        yield server
        wandb.teardown()


@pytest.fixture
def server(server_of_the_module: Server) -> Server:
    """The server, with nothing in it."""
    server_of_the_module.clear()
    return server_of_the_module


def test_the_public_api_reads_what_a_client_has_written(server: Server, tmp_path: Path) -> None:
    quiet = wandb.Settings(silent=True, console="off", reinit="create_new")
    for name in ("one", "two"):
        config = {"agent": {"gamma": 0.9}}
        run = wandb.init(project="api", id=name, dir=tmp_path, config=config, settings=quiet)
        with run:
            for step in range(3):
                run.log({"steps": 10 * step, "evaluate/return": float(step)})
    api = wandb.Api()
    assert [run.id for run in api.runs("tester/api", per_page=1)] == ["one", "two"]
    run = api.run("tester/api/one")
    assert (run.state, run.config, run.lastHistoryStep) == (
        "finished",
        {"agent": {"gamma": 0.9}},
        2,
    )
    assert [row["steps"] for row in run.scan_history()] == [0, 10, 20]
    rows = run.scan_history(keys=["evaluate/return"])
    assert [row["evaluate/return"] for row in rows] == [0, 1, 2]
    rows = run.history(keys=["steps"], pandas=False)
    assert [row["steps"] for row in rows] == [0, 10, 20]
    assert run.summary["evaluate/return"] == 2
    with pytest.raises(ValueError, match="Could not find project"):
        list(api.runs("tester/nowhere"))
