"""`learner.placement=actor`: the numbers are those of a learner in the run's own process."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from neuraxis.configs import RayConfig, load, load_resumed
from neuraxis.core.errors import RunError
from neuraxis.training import Callback, prepare, train
from neuraxis.training.distributed import ray_cluster
from neuraxis.training.distributed.learner_group import on_cpu
from neuraxis.training.distributed.remote_learner import RemoteLearner, actor_options
from neuraxis.training.storage.run import Run

QUIET = ("wandb.mode=disabled", "device=cpu", "eval.interval_steps=200", "eval.episodes=1")
OFTEN = ("log_interval_steps=100", "wandb.histogram_interval_steps=300")
KEPT = ("checkpoint.interval_steps=200", "checkpoint.keep=9")
LSTM = ("network=lstm", "network.blocks.0.sizes=[16]", "network.blocks.1.size=16")
NOISY = ("agent=dqn", "agent.noisy=true", "agent.prioritized=true", "agent.learning_starts=64")
DQN = (*NOISY, *LSTM, "total_steps=600")
PPO = ("agent.n_steps=16", "agent.batch_size=32", "agent.normalize_rewards=true", "total_steps=250")


@pytest.fixture(scope="module")
def ray_runs() -> Iterator[None]:
    """Keeps Ray from one test to the next."""
    ray_cluster.start(RayConfig(), cpus=2)
    yield
    ray_cluster.stop()


def words(folder: Path, placement: str, *more: str) -> list[str]:
    sizes = ("num_envs=4", f"learner.placement={placement}")
    return [f"run_dir={folder}", *sizes, *QUIET, *OFTEN, *KEPT, *more]


def rows(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without times."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: row[name] for name in row if not name.startswith("time/")} for row in found]


def saved(folder: Path) -> list[str]:
    """Names of the checkpoints of steps, the first one first."""
    return sorted(path.name for path in (folder / "checkpoints").glob("step_*"))


@pytest.mark.usefixtures("ray_runs")
def test_a_run_is_the_same_wherever_its_learner_is(tmp_path: Path) -> None:
    """Bit for bit; also when the learner moves from a checkpoint on, in either direction."""
    folder = tmp_path / "actor"
    train(*words(tmp_path / "driver", "driver", *DQN))
    train(*words(folder, "actor", *DQN))
    expected = rows(tmp_path / "driver")
    assert rows(folder) == expected
    assert list((folder / "histograms").iterdir())
    for placement, checkpoint in zip(("driver", "actor"), saved(folder), strict=False):
        cfg = load_resumed(folder / "config.yaml", [f"learner.placement={placement}"])
        session = prepare(cfg, folder, checkpoint)
        assert isinstance(session.learner, RemoteLearner) == (placement == "actor")
        session.run()
        assert rows(folder) == expected
    for file in sorted((tmp_path / "driver" / "histograms").iterdir()):
        assert (folder / "histograms" / file.name).read_text() == file.read_text()


@pytest.mark.usefixtures("ray_runs")
def test_two_learners_may_both_be_actors(tmp_path: Path) -> None:
    for placement in ("driver", "actor"):
        train(*words(tmp_path / placement, placement, *PPO, "learner.count=2"))
    assert rows(tmp_path / "actor") == rows(tmp_path / "driver")


@pytest.mark.usefixtures("ray_runs")
def test_a_run_ends_with_one_line_when_its_actor_dies(tmp_path: Path) -> None:
    import ray

    session = prepare(load(words(tmp_path / "run", "actor", *PPO)))
    learner = session.learner
    assert isinstance(learner, RemoteLearner)

    class Kill(Callback):
        def on_checkpoint(self, run: Run, path: Path) -> None:
            ray.kill(learner.actor)

    line = r"^the learner's process died: .*; `neuraxis resume` goes on from the last checkpoint$"
    with pytest.raises(RunError, match=line):
        session.run([Kill()])


@pytest.mark.usefixtures("ray_runs")
def test_what_fails_in_the_actor_is_said_as_if_it_had_failed_here(tmp_path: Path) -> None:
    with pytest.raises(MemoryError, match=r"lower agent.buffer_size=1000000000000$"):
        train(*words(tmp_path / "run", "actor", "agent=dqn", "agent.buffer_size=1_000_000_000_000"))
    refused = words(tmp_path / "refused", "actor", *PPO, "learner.count=2", "compile=true")
    with pytest.raises(ValueError, match=r"^compile=true: the update cannot be compiled: several"):
        prepare(load(refused))
    assert not (tmp_path / "refused").exists()


def test_what_is_sent_is_no_larger_than_it_must_be() -> None:
    """A view would bring all the memory that it is a view of."""
    flat = torch.arange(1000.0)
    sent = on_cpu({"weights": flat[:10].view(2, 5), "steps": 3})
    assert len(pickle.dumps(sent["weights"])) < 1000 and sent["steps"] == 3
    assert torch.equal(sent["weights"], flat[:10].view(2, 5))


def test_the_actor_has_gpus_where_there_are_some() -> None:
    def machine(gpus: int, alive: bool = True) -> dict[str, Any]:
        return {"Alive": alive, "Resources": {"CPU": 8, **({"GPU": gpus} if gpus else {})}}

    cluster = [machine(0), machine(2), machine(8, alive=False)]
    for device, learners, found in (("auto", 1, 1), ("cuda", 4, 2), ("cpu", 1, 0)):
        assert actor_options(device, learners, cluster)["num_gpus"] == found
    assert actor_options("auto", 1, [machine(0)])["num_gpus"] == 0
    with pytest.raises(ValueError, match="device=cuda: no machine of Ray's has a GPU"):
        actor_options("cuda", 1, [machine(0), machine(8, alive=False)])
