"""Ray workers: the same numbers as without Ray, and what happens when one fails.

One Ray for the whole module; each run has workers of its own.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import psutil
import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv

from neuraxis import train
from neuraxis.agents.policies.policy import Policy
from neuraxis.configs import Config, RayConfig, load, load_resumed
from neuraxis.core.errors import RunError
from neuraxis.training.cli import exit_codes, main
from neuraxis.training.distributed import ray_cluster, ray_placement, ray_source
from neuraxis.training.distributed.groups import regrouped
from neuraxis.training.distributed.packed_weights import Unpacker, pack
from neuraxis.training.distributed.ray_pool import TRIES
from neuraxis.training.distributed.ray_source import RaySource
from neuraxis.training.distributed.ray_worker import Reply
from neuraxis.training.distributed.worker_logs import (
    FILE_BYTES,
    MOST_BYTES,
    Printed,
    WorkerLogs,
    printed_since,
)
from neuraxis.training.session import prepare
from neuraxis.training.storage.run import Run

from .helpers import STACKED, Counting, OnUpdate, collector, config, training
from .test_initialization import stored, tensors

SMALL = ("num_envs=4", "network.blocks.0.sizes=[16]")
PPO = (*SMALL, "agent=ppo", "agent.n_steps=32", "agent.batch_size=64")
DQN = (*SMALL, "agent=dqn", "agent.learning_starts=64", "agent.batch_size=16")
SDE = ("agent.gaussian.use_sde=true", "agent.gaussian.sde_sample_freq=5")
CASES = {
    "ppo-mlp": (*PPO, "agent.normalize_observations=true"),
    "ppo-lstm": (*PPO, "network=lstm", "env.last_action=true"),
    "ppo-transformer": (*PPO, "network=transformer", "network.blocks.1.memory=8"),
    "ppo-sde": (*PPO, "env=Pendulum-v1", *SDE),
    "ppo-thaw": (  # with weights too large for a call
        *(*PPO, "network.blocks.0.sizes=[256,256]", "agent.layer_decay=0.5"),
        "agent.freeze={backbone.*: 300, head.*: null}",
    ),
    "trpo": (*SMALL, "agent=trpo", "agent.n_steps=32"),
    "reinforce-lstm": (*SMALL, "agent=reinforce", "agent.n_steps=16", "network=lstm"),
    "dqn-prioritized": (*DQN, "agent.prioritized=true", "agent.n_step=3"),
    "dqn-hindsight": (*DQN, "env=neuraxis/BitFlip-v0", "agent.hindsight=future"),
    "dqn-masked": (
        *DQN,
        "env=neuraxis/Masked-v0",
        "env.kwargs.strict=true",
        "env.action_mask=info",
    ),
    "sac": (
        *(*SMALL, "agent=sac", "env=Pendulum-v1"),
        *("agent.learning_starts=16", "agent.batch_size=16"),
    ),
    "pqn-frames": (
        *("agent=pqn", "num_envs=4", "agent.n_steps=32", "network.blocks.0.norm=layer"),
        *STACKED,
        "ray.compression=zlib",
    ),
    "sarsa": ("num_envs=4", "agent=sarsa", "env=CliffWalking-v1", "agent.n_steps=16"),
    "dqn-lstm": (*DQN, "network=lstm", "agent.sequence_length=8", "agent.burn_in=4"),
}


@pytest.fixture(scope="module", autouse=True)
def token(ray_token: Path) -> Iterator[Path]:
    """Ray, and the file of its token."""
    ray_cluster.start(RayConfig(), cpus=8)
    yield ray_token
    ray_cluster.stop()


def trained(words: tuple[str, ...], updates: int = 5) -> tuple[list[dict[str, float]], Any]:
    """Metrics of the first updates of a run, and the agent's state after them."""
    run = training(*words)
    try:
        return [run.step() for _ in range(updates)], run.agent.state_dict()
    finally:
        run.source.close()


def assert_equal(one: Any, other: Any) -> None:
    """The same tree, bit for bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        for pair in zip(one, other, strict=True):
            assert_equal(*pair)
    else:
        np.testing.assert_array_equal(one, other)


WORKERS = {"ppo-mlp": 1, "dqn-prioritized": 4}
"""How many, where it is not 2."""


# Each worker imports PyTorch, 2 to 3 CPU seconds: benchmarks/drills has all cases with 1, 2 and 4.
@pytest.mark.parametrize(
    ("name", "workers"),
    [(name, WORKERS.get(name, 2)) for name in CASES],
)
def test_workers_are_groups(name: str, workers: int) -> None:
    """Law 4: metrics, weights, moments and replay are those of as many groups without Ray."""
    groups, expected = trained((*CASES[name], f"groups={workers}"))
    found, state = trained((*CASES[name], f"ray.workers={workers}"))
    assert {"loss/value", "loss/td", "q/td_error"} & groups[-1].keys()  # it has learned
    assert found == groups
    assert_equal(state, expected)


def test_an_environment_of_a_program_goes_to_the_workers(tmp_path: Path) -> None:
    def short() -> gymnasium.Env[Any, Any]:
        return gymnasium.wrappers.TimeLimit(CartPoleEnv(), 5)

    small = {"num_envs": 2, "agent.n_steps": 16, "eval.final_episodes": 2}
    words = {"total_steps": 64, "ray.workers": 1, "wandb.mode": "disabled", **small}
    run = train(env=short, run_dir=tmp_path / "run", **words)
    assert run.summary["evaluate/length"] == 5
    assert np.nanmax(run.metrics()["episode/length"]) == 5
    assert not (tmp_path / "run" / "logs").exists(), "nothing was printed"


class Talking(CartPoleEnv):
    """Prints at its start and in each step, and ends its process once, as C code does it."""

    def __init__(self, died: Path) -> None:
        super().__init__()
        self.died, self.steps = died, 0
        print("it starts", file=sys.stderr)

    def step(self, action: Any) -> Any:
        self.steps += 1
        ctypes.CDLL(None).puts(b"step %d, said in C" % self.steps)
        if self.steps == 40 and not self.died.exists():
            self.died.touch()
            ctypes.string_at(0)
        print(f"step {self.steps}, done")
        return super().step(action)


def test_what_workers_print_is_in_the_runs_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    died = tmp_path / "died"
    small = {"num_envs": 2, "agent.n_steps": 32, "eval.final_episodes": 1, "total_steps": 128}
    words = {"ray.workers": 2, "wandb.mode": "disabled", **small}
    train(env=lambda: Talking(died), run_dir=tmp_path / "run", **words)
    logs = {file.name: file.read_text() for file in (tmp_path / "run" / "logs").iterdir()}
    assert {*logs} == {"worker_0.log", "worker_1.log"}
    (dead,) = (name for name, text in logs.items() if "Segmentation fault" in text)
    for name, text in logs.items():
        for said in ("step 39, said in C\n", "step 40, said in C\n", "step 39, done\n"):
            assert said in text
        assert text.count("it starts\n") == 1 + (name == dead) and "job_id" not in text
    assert f"; it has printed {tmp_path}/run/logs/{dead}; it goes on" in caplog.text


def test_what_was_printed_before_there_is_a_folder_is_not_lost(tmp_path: Path) -> None:
    driver = os.getpid()

    class Dying(CartPoleEnv):
        def __init__(self) -> None:
            super().__init__()
            if os.getpid() != driver:
                print("it dies", flush=True)
                os._exit(1)

    words = ("ray.workers=1", "num_envs=1", "wandb.mode=disabled", f"run_dir={tmp_path}/run")
    with pytest.raises(RunError, match="its process died") as caught:
        train(*words, env=Dying)
    assert caught.value.__notes__ == ["it dies\n"]


def test_logs_have_an_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The newest of what a call prints, and the newest megabytes of a worker."""
    printed, gone = tmp_path / "out", str(tmp_path / "gone")
    printed.write_bytes(b"x" * 10 + b"y" * 1_000 + b"z" * MOST_BYTES)
    new = printed_since({str(printed): 10, gone: 5})
    assert new.text == b"[neuraxis: 1000 bytes are left out here]\n" + b"z" * MOST_BYTES
    assert new.read == {str(printed): printed.stat().st_size, gone: 5}
    assert printed_since(new.read) == Printed(b"", new.read)
    logs = WorkerLogs()
    logs.add(0, Printed(b"early\n"))
    logs.open(tmp_path / "logs")
    for number in range(100):
        logs.add(0, Printed(b"%d" % number + b"." * MOST_BYTES))
    new, old = tmp_path / "logs" / "worker_0.log", tmp_path / "logs" / "worker_0.old.log"
    assert {*(tmp_path / "logs").iterdir()} == {new, old}
    assert max(new.stat().st_size, old.stat().st_size) <= FILE_BYTES < 1.1 * old.stat().st_size
    assert new.read_bytes().endswith(b"." * MOST_BYTES) and b"99." in new.read_bytes()
    full = WorkerLogs()
    full.open(tmp_path / "out" / "logs")
    for _ in range(2):
        full.add(0, Printed(b"lost"))
    said = f"{printed}/logs/worker_0.log: Not a directory; what workers print is not kept"
    assert [record.getMessage() for record in caplog.records] == [said]


def test_workers_of_a_ray_that_was_imported_before_are_as_nice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With Ray's own niceness they do not start beside busy processes."""
    assert "ray" in sys.modules
    monkeypatch.delenv("RAY_worker_niceness")
    ray_cluster.set_environment()
    assert os.environ["RAY_worker_niceness"] == "0"


def lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what is about the clock and about Ray."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "ray/"))} for row in rows]


def weights(run: Run) -> torch.Tensor:
    return torch.cat([t.double().flatten() for t in run.read()["agent"]["policy"].values()])


class Crash(BaseException):
    """What ends a run in the middle."""


def test_a_resumed_run_is_one_without_ray_that_never_stopped(tmp_path: Path) -> None:
    """Laws 4 and 5 at once; between the two parts the number of restarts allowed is changed."""
    words = (*CASES["ppo-lstm"], "total_steps=600", "checkpoint.interval_steps=150")
    words = (*words, "wandb.mode=disabled", "device=cpu", "log_interval_steps=40")
    words = (*words, "eval.interval_steps=200", "eval.episodes=2", "eval.final_episodes=2")
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    expected = prepare(load([*words, "groups=2", f"run_dir={whole}"])).run()

    def crash(run: Run) -> None:
        if run.steps > 250:
            raise Crash

    with pytest.raises(Crash):
        prepare(load([*words, "ray.workers=2", f"run_dir={torn}"])).run([OnUpdate(crash)])
    cfg = load_resumed(torn / "config.yaml", ["ray.max_restarts=7"])
    found = prepare(cfg, torn).run()
    assert found.cfg.ray.max_restarts == 7
    assert lines(torn) == lines(whole)
    assert torch.equal(weights(found), weights(expected))


def test_what_is_told_to_end_at_once_is_saved_without_its_workers(tmp_path: Path) -> None:
    """As a container or a shutdown does it: Ray and the workers are gone before the driver."""
    words = (*CASES["ppo-lstm"], "total_steps=4_000", "wandb.mode=disabled", "device=cpu")
    words = (*words, "eval.interval_steps=1_500", "eval.episodes=2", "eval.final_episodes=2")
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    prepare(load([*words, "groups=2", f"run_dir={whole}"])).run()
    driver = running(tmp_path / "torn", *words, "ray.workers=2")
    family = [*psutil.Process(driver.pid).children(recursive=True), driver]
    begin = time.monotonic()
    for process in family:
        with suppress(psutil.NoSuchProcess):  # it has followed another one
            process.terminate()
    assert driver.wait(30) == 130 and time.monotonic() - begin < 15
    summary = json.loads((torn / "summary.json").read_text())
    assert summary["status"] == "interrupted" and summary["steps"] < 4_000
    assert (torn / "checkpoints" / f"step_{summary['steps']:09d}").is_dir()
    prepare(load_resumed(torn / "config.yaml", ()), torn).run()
    assert lines(torn) == lines(whole)


@pytest.mark.parametrize(("mode", "network"), [("sync", "mlp"), ("async", "gru")])
def test_workers_act_with_the_weights_that_a_run_starts_from(
    mode: str, network: str, tmp_path: Path
) -> None:
    """By their hash, statistics and exploration included; and they collect what groups do."""
    import ray

    words = (*SMALL, "agent=impala", "agent.n_steps=8", "wandb.mode=disabled", "device=cpu")
    words = (*words, "agent.normalize_observations=true", "eval.interval_steps=0")
    words = (*words, f"network={network}")
    kept = stored(tmp_path / "source", *words, rollouts=2)
    words = (*words, f"init.from={kept}", "agent.normalize_rewards=true")
    session = prepare(
        load([*words, "ray.workers=2", f"ray.mode={mode}", f"run_dir={tmp_path}/ray"])
    )
    local = prepare(load([*words, "groups=2", f"run_dir={tmp_path}/local"]))
    source, policy = session.source, session.agent.policy
    assert isinstance(source, RaySource)
    rollout, other = source.next(), local.source.next()

    def digest(worker: Any) -> str:
        return hashlib.sha256(pack(worker.policy).tobytes()).hexdigest()

    asked = [actor.__ray_call__.remote(digest) for actor in source.pool.placement.actors]
    expected = hashlib.sha256(pack(policy).tobytes()).hexdigest()
    assert ray.get(asked) == [expected] * 2
    own, started = tensors(kept), policy.state_dict()
    assert {*own} == {*started} and all(torch.equal(own[name], started[name]) for name in own)
    for column, place in enumerate(rollout.columns):
        assert np.array_equal(rollout.action[:, column], other.action[:, place])
        assert np.array_equal(
            rollout.extras["log_prob"][:, column], other.extras["log_prob"][:, place]
        )
    for one in (session, local):
        one.source.close()
        one.current_run.finish("stopped")


def test_a_run_goes_on_with_any_number_of_workers(tmp_path: Path) -> None:
    """Laws 4 and 5 at once; a table has no matrix products, whose rounding is of the group."""
    words = ("agent=sarsa", "env=CliffWalking-v1", "env.time_limit=7", "agent.n_steps=16")
    words = (*words, "num_envs=4", "total_steps=600", "wandb.mode=disabled", "device=cpu")
    words = (*words, "log_interval_steps=40", "checkpoint.interval_steps=150")
    words = (*words, "eval.interval_steps=0", "eval.final_episodes=2")
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    expected = prepare(load([*words, f"run_dir={whole}"])).run()
    session = prepare(load([*words, "groups=4", f"run_dir={torn}"]))
    alone = "ray.workers=0", "groups=4"
    for stop, now in ((250, ("ray.workers=2",)), (400, ("ray.workers=1",)), (550, alone)):

        def crash(run: Run, at: int = stop) -> None:
            if run.steps > at:
                raise Crash

        with pytest.raises(Crash):
            session.run([OnUpdate(crash)])
        session = prepare(load_resumed(torn / "config.yaml", now), torn)
    found = session.run()
    assert lines(torn) == lines(whole)
    assert torch.equal(weights(found), weights(expected))
    resumed = json.loads((torn / "meta.json").read_text())["resumed"]
    assert [(one["reopened"], one["regrouped"]) for one in resumed] == [(0, 4), (0, 4), (0, 4)]


@pytest.mark.parametrize(
    ("generations", "groups", "expected"),
    [
        ([0, 2], 2, [0, 2]),
        ([0, 2], 4, [0, 0, 2, 2]),
        ([1, 1, 1, 1], 2, [1, 1]),
        ([0, 2, 1, 1], 2, [3, 1]),  # columns of several generations open new episodes
    ],
)
def test_generations_follow_their_columns(
    generations: list[int], groups: int, expected: list[int]
) -> None:
    state = {"num_envs": 4, "generations": generations, "collectors": [None] * len(generations)}
    found, stood, _ = regrouped(state, 4, groups)
    assert (found, stood) == (expected, [None] * groups)
    with pytest.raises(RunError, match="checkpoint has num_envs=4, the configuration num_envs=8; "):
        regrouped(state, 8, groups)


def test_a_worker_that_is_killed_changes_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its machine: another shares processors, until one with room of its own has started."""
    import ray

    expected, _ = trained((*CASES["ppo-lstm"], "groups=2"), updates=60)
    run = training(*CASES["ppo-lstm"], "ray.workers=2")
    assert isinstance(run.source, RaySource)
    placement = run.source.pool.placement
    found = [run.step()]
    pid: Any = ray.get(placement.actors[1].__ray_call__.remote(lambda _: os.getpid()))
    os.kill(pid, signal.SIGKILL)
    monkeypatch.setattr(ray_placement, "shortage", lambda _: " (there are fewer)")
    found.append(run.step())
    assert [placement.shares(group) for group in (0, 1)] == [False, True]
    assert run.source.metrics()["ray/restarts"] == 1 and run.source.pool.generations == [0, 0]
    sharing = placement.actors[1]
    while placement.shares(1) and len(found) < 59:
        found.append(run.step())
        time.sleep(0.5)
    found.append(run.step())
    assert placement.actors[1] != sharing and found == expected[: len(found)]
    said = [record.getMessage() for record in caplog.records]
    assert re.match(r"worker 1 .*died.*\); it goes on, ray/restarts counts", said[0])
    assert said[1:] == [
        "there are too few processors for ray.workers=2: worker 1, or more of them, share those of "
        "the others until machines join",
        "all ray.workers=2 have processors of their own",
    ]
    run.source.close()


FAULTY = ("env=neuraxis/Faulty-v0", "num_envs=2", "agent=ppo", "agent.n_steps=32")
FAULTY = (*FAULTY, "agent.batch_size=64", "ray.workers=2")


@pytest.mark.parametrize("fault", ["raise", "exit"])
def test_a_fault_reopens_the_columns(
    fault: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Both environments fail in their 40th step, which is in the second rollout, and again."""
    run = training(*FAULTY, f"env.kwargs.{fault}_at_step=40", "env.kwargs.length=100")
    first = run.source.next()
    run.source.publish(run.agent.policy)
    before = run.source.state_dict()
    assert run.source.metrics()["ray/restarts"] == 0 and before["generations"] == [0, 0]
    second = run.source.next()
    assert second.first[0].all() and not np.array_equal(first.action, second.action)
    assert (second.columns == [0, 1]).all() and second.first.shape == (33, 2)
    deaths = TRIES + 1 if fault == "exit" else 1  # where it stood it dies again
    assert run.source.metrics()["ray/restarts"] == 2 * deaths
    assert len(caplog.records) == 1, "the first cause, once"
    said = caplog.records[0].getMessage()
    assert re.match(r"worker [01] \(columns [01] to [01], neuraxis/Faulty-v0, seed 0", said)
    assert ("step 40 is faulty" in said) == (fault == "raise")
    assert run.source.state_dict() is before, "nothing was learned from the second rollout yet"
    run.source.publish(run.agent.policy)
    assert run.source.state_dict()["generations"] == [1, 1]
    run.source.close()


def test_a_hang_ends_and_so_does_the_budget() -> None:
    run = training(*FAULTY, "env.kwargs.hang_at_step=40", "ray.max_restarts=1")
    source = run.source
    assert isinstance(source, RaySource)
    source.next()
    patient = run.cfg.ray
    hurried = patient.model_copy(update={"timeout_seconds": 0.5})  # what it had to start is over
    source.pool.cfg = run.cfg.model_copy(update={"ray": hurried})
    with pytest.raises(RunError, match=r"no answer in ray.timeout_seconds=0.5 .*max_restarts=1"):
        source.next()
    source.close()


@pytest.mark.parametrize("fault", ["raise", "exit"])
def test_what_fails_again_at_the_same_place_ends_the_run(fault: str) -> None:
    """A step that can never be taken is not tried a hundred times."""
    source = training(*FAULTY, f"env.kwargs.{fault}_at_step=20").source
    again = r"(step 20 is faulty|died).* \(again at the same place, before anything was learned\)"
    with pytest.raises(RunError, match=again) as caught:
        source.next()
    assert fault == "exit" or "in step\n" in caught.value.__notes__[0], "where it was raised"
    assert source.metrics()["ray/restarts"] <= 2
    source.close()


def test_a_worker_may_start_slower_than_a_rollout_is_collected() -> None:
    words = ("ray.workers=2", "ray.timeout_seconds=1.5", "ray.max_restarts=0")
    source = training(*PPO, *words).source  # PyTorch's import alone takes longer
    assert source.next().reward.shape == (32, 4)
    source.close()
    late = r"no answer in ray.start_timeout_seconds=2 \(ray.workers=2 reserve 16 processors, there"
    with pytest.raises(RunError, match=late):
        training(*PPO, *words, "ray.start_timeout_seconds=2", "ray.cpus_per_worker=8")


def test_what_fails_at_once_ends_the_run(tmp_path: Path) -> None:
    """An environment that cannot even be reset fails again: no restart, and nothing written."""
    words = (*FAULTY, "env.kwargs.raise_at_reset=1", f"run_dir={tmp_path / 'run'}")
    with pytest.raises(RunError, match=r"worker [01] .*reset 1 is faulty"):
        prepare(load(words))
    assert not (tmp_path / "run").exists()


class Workers:
    """A pool without Ray, whose workers answer in an order of their own: the oldest late."""

    def __init__(self, cfg: Config, policy: Policy, length: int, logs: WorkerLogs) -> None:
        self.rng = np.random.default_rng(cfg.seed)
        self.rollouts = [collector(num_envs=1, first_column=c).collect() for c in range(length)]
        self.generations = [0] * cfg.ray.workers
        self.stood = [None] * cfg.ray.workers
        self.asked: list[int] = []
        self.restarts = 0

    def ask(self, group: int, method: str, version: int, weights: np.ndarray) -> None:
        assert group not in self.asked, "one request at a time"
        self.asked.append(group)

    def ask_all(self, method: str, *saved: list[None]) -> list[Reply]:
        assert method == "open"
        return [Reply(Counter(reopened=1))] * len(self.generations)

    def wait(self) -> dict[int, Reply]:
        assert self.asked, "nobody is asked: this would wait for ever"
        late = len(self.asked) > 1 and self.rng.random() < 0.9
        group = int(self.rng.choice(self.asked[late:]))
        self.asked.remove(group)
        return {group: Reply(self.rollouts[group])}

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("workers", "taken", "lag"), [(4, 1, 3), (4, 1, 5), (5, 2, 2), (5, 2, 4), (8, 3, 2), (3, 3, 0)]
)
def test_async_mode_keeps_to_the_lag(
    workers: int, taken: int, lag: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update has `rollouts_per_update`, none older than `max_policy_lag`, and forgets nobody."""
    monkeypatch.setattr(ray_source, "WorkerPool", Workers)
    words = (f"num_envs={workers}", f"ray.workers={workers}", "ray.mode=async")
    words = (*words, f"ray.rollouts_per_update={taken}", f"ray.max_policy_lag={lag}")
    cfg = config("agent=dqn", "env=neuraxis/Counter-v0", *words)
    policy = Counting()
    policy.register_buffer("weight", torch.zeros(1))
    source = RaySource(cfg, policy, workers, WorkerLogs())
    lags, columns = [], np.zeros(workers, int)
    for _ in range(100):
        rollout = source.next()
        assert len(rollout.columns) == taken and (np.diff(rollout.columns) > 0).all()
        columns[rollout.columns] += 1
        lags.append(source.metrics()["ray/policy_lag_max"])
        source.publish(policy)
    assert max(lags) == lag, "the limit holds, and is made use of"
    assert columns.min() >= 100 * taken // (lag + taken) // 2
    state = source.state_dict()
    assert state["generations"] == [1] * workers, "a resumed run opens other episodes"
    source.close()
    resumed = RaySource(cfg, policy, workers, WorkerLogs())
    assert resumed.load_state_dict(state) == Counter(reopened=workers)
    assert resumed.next().version == 0 and resumed.state_dict()["generations"] == [2] * workers
    resumed.close()


def test_async_workers_go_on_while_the_learner_learns() -> None:
    """With one of two taken at a time, both are at work."""
    words = ("agent=impala", "agent.n_steps=8", "num_envs=2", "ray.workers=2", "ray.mode=async")
    run = training(*words)
    rollouts = []
    for _ in range(6):
        rollouts.append(run.source.next())
        run.agent.learn(rollouts[-1].to("cpu"))
        run.source.publish(run.agent.policy)
    assert [rollout.first.shape for rollout in rollouts] == [(9, 1)] * 6
    assert rollouts[0].version == 0 and rollouts[5].version >= 3
    assert all(rollout.reward.flags.writeable for rollout in rollouts)
    run.source.close()


@pytest.mark.parametrize(
    "words", [("network=lstm",), ("network=mlp", "network.blocks.0.norm=batch")]
)
def test_weights_travel_whole(words: tuple[str, ...]) -> None:
    words = ("agent=ppo", "agent.normalize_observations=true", *words)
    one, other = (training(*words, f"seed={seed}").agent.policy for seed in (0, 1))
    packed = pack(one)
    packed.flags.writeable = False
    Unpacker(other)(packed)
    assert_equal(dict(other.state_dict()), dict(one.state_dict()))


REFUSED = {
    "ray.workers=3": "ray.workers=3: expected a divisor of num_envs=8",
    "ray.workers=2 groups=2": "groups=2: expected 1",
    "ray.mode=async": "ray.mode=async: expected sync, or ray.workers=2",
    "ray.mode=async ray.workers=2": "ray.mode=async: agent=ppo .*use ray.mode=sync, or agent=appo",
    "ray.workers=2 ray.mode=async ray.rollouts_per_update=3": "rollouts_per_update=3: .*workers=2",
    "ray.workers=8 ray.mode=async ray.max_policy_lag=6": "max_policy_lag=6: expected at least 7",
    "ray.address=ray://here:10001": "ray.address=ray://here:10001: expected auto or HOST:PORT",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_is_said(words: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[words]):
        load(words.split())


def test_workers_have_the_priority_of_the_driver() -> None:
    """At Ray's own niceness of 15 four busy processes beside leave them next to nothing."""
    import ray

    @ray.remote(num_cpus=0)
    def niceness() -> int:
        return os.nice(0)

    assert ray.get(niceness.remote()) == os.nice(0)


def test_nothing_is_left_of_a_ray_that_has_ended() -> None:
    with tempfile.TemporaryDirectory() as folder:  # a short path, as sockets need it
        code = f"""
from pathlib import Path
from neuraxis.configs import RayConfig
from neuraxis.training.distributed import ray_cluster
ray_cluster.start(RayConfig())
assert [*Path({folder!r}).glob("ray/session_*/logs")]
ray_cluster.stop()
"""
        env = os.environ | {"RAY_TMPDIR": folder}
        subprocess.run([sys.executable, "-c", code], env=env, check=True)
        assert not [path for path in Path(folder).glob("ray/session_*") if path.exists()]


def test_nobody_at_the_address() -> None:
    code = """
from neuraxis.configs import RayConfig
from neuraxis.training.distributed import ray_cluster
ray_cluster.start(RayConfig())
"""
    env = os.environ | {"RAY_ADDRESS": "localhost:9"}
    found = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert "ValueError: $RAY_ADDRESS=localhost:9: nobody answers there" in found.stderr


def test_a_dashboard_needs_its_packages_and_not_a_cluster(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, "ray.dashboard.optional_deps", None)
    monkeypatch.setattr(ray_cluster, "_users", 0)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    words = ("train", "ray.workers=2", "ray.dashboard=true", f"run_dir={tmp_path}/run")
    assert exit_codes.exit_code(main.neuraxis, [*words]) == 2
    says = "ray.dashboard=true: ray.dashboard.optional_deps is not installed; pip install"
    assert capsys.readouterr().err == f"error: {says} 'ray[default]'\n"
    assert exit_codes.exit_code(main.neuraxis, [*words, "ray.address=localhost:9"]) == 2
    says = (
        "ray.dashboard=true has no effect with ray.address=localhost:9, which has its own or none"
    )
    assert [record.getMessage() for record in caplog.records] == [says]
    assert "error: ray.address=localhost:9: nobody answers there" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_token_is_the_owners_and_others_are_refused(token: Path) -> None:
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    import ray

    address = ray.get_runtime_context().gcs_address
    join = f"import ray; ray.init({address!r}, logging_level='ERROR')"
    other = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    found = subprocess.run([sys.executable, "-c", join], env=other, capture_output=True, text=True)
    assert found.returncode and "InvalidAuthToken" in found.stderr


def test_without_workers_ray_is_not_imported(tmp_path: Path) -> None:
    words = ("total_steps=100", "eval.final_episodes=1", "wandb.mode=disabled")
    code = f"""
import sys
from neuraxis.training import train
train(*{(*words, f"run_dir={tmp_path / 'run'}")})
assert "ray" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def running(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """A driver with a Ray of its own, which has begun to learn."""
    program = str(Path(sys.executable).with_name("neuraxis"))
    driver = subprocess.Popen([program, "train", "-q", *words, f"run_dir={folder}"])
    while not (folder / "metrics.jsonl").exists() or not (folder / "metrics.jsonl").stat().st_size:
        assert driver.poll() is None, "it ended before it had begun"
        time.sleep(0.05)
    return driver


def test_no_process_outlives_the_driver(tmp_path: Path) -> None:
    """A Ray of its own, and a driver killed with SIGKILL.

    Two agents of Ray's own, in which nothing of ours runs, take another minute to give up.
    """
    words = ("ray.workers=1", "total_steps=10_000_000", "wandb.mode=disabled")
    driver = running(tmp_path / "run", *words)
    family = {p: p.name() for p in psutil.Process(driver.pid).children(recursive=True)}
    assert "ray::Worker" in " ".join(family.values())
    driver.kill()
    driver.wait()
    ours = [process for process, name in family.items() if not name.endswith("Agent")]
    assert not psutil.wait_procs(ours, timeout=30)[1]
