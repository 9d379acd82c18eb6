"""Environments in processes: the numbers, words and faults of `vectorization=sync`.

Each process costs 0.3 CPU seconds, so a test compares many things at once. The environments are
defined in functions: a module of tests, which imports PyTorch, stays out of the processes.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import psutil
import pytest
import torch

from neuraxis.configs import load, load_resumed
from neuraxis.envs import EnvConfig, EnvError, Envs, make
from neuraxis.envs.episodes import episode_seed
from neuraxis.envs.processes import async_envs, process
from neuraxis.training.session import prepare
from neuraxis.training.storage.run import Run

from .helpers import OnUpdate, processes_with
from .test_resume import Crash, lines, weights

Maker = Callable[..., gymnasium.Env[Any, Any]]


def name(way: str) -> str:
    return f"__main__:{way.title()}"


def build(maker: Maker, way: str = "async", num_envs: int = 3, **words: Any) -> Envs:
    """Environments of columns 4, 5, ...; in two processes if they have any."""
    words |= {"processes": 2 if way == "async" else None}
    config = EnvConfig.model_validate({"id": name(way), "vectorization": way, **words})
    return make(config.made_by(maker), num_envs, seed=7, first_column=4)


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = list(one.values()), list(other.values())
    if isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype and one.tobytes() == other.tobytes()
    else:
        assert one == other


def world() -> Maker:
    """Makes an environment with all kinds of observations and what is easily lost on the way."""
    from gymnasium import spaces

    class World(gymnasium.Env[Any, Any]):
        observation_space = spaces.Dict(
            picture=spaces.Box(0, 255, (8, 8, 3), np.uint8),
            pair=spaces.Tuple([spaces.Discrete(5, start=2), spaces.MultiBinary(3)]),
            numbers=spaces.Box(-np.inf, np.inf, (2,), np.float64),
        )
        action_space = spaces.Box(-2, 2, (2,), np.float32)

        def look(self) -> Any:
            random = self.np_random
            pair = random.integers(2, 7), random.integers(0, 2, 3, np.int8)
            picture = random.integers(0, 256, (8, 8, 3), np.uint8)
            return {"numbers": random.normal(size=2), "picture": picture, "pair": pair}

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            self.actions = [np.zeros(2, np.float32)]
            return self.look(), {}

        def step(self, action: Any) -> Any:
            self.actions.append(action)  # not a copy
            small = np.float64(3e-308) / (4 + len(self.actions))  # a denormal number
            reward = float(np.sum(self.actions)) + float(small > 0)
            ends, cut = self.np_random.random(2) < (0.2, 0.1)
            success = {"is_success": ends} if self.np_random.random() < 0.7 else {}
            return self.look(), reward, bool(ends), bool(cut), success

    return World


def masked() -> Maker:
    def make_masked() -> gymnasium.Env[Any, Any]:
        from neuraxis.envs.builtin.masked import Masked

        return Masked(strict=True, size=4)

    return make_masked


def test_steps_successes_and_snapshots_are_those_of_sync() -> None:
    torch.set_flush_denormal(True)  # as in a run
    try:
        with closing(build(world(), "sync")) as sync, closing(build(world())) as found:
            _assert_no_torch()
            _assert_equal(sync, found)
    finally:
        torch.set_flush_denormal(False)


def _assert_equal(sync: Envs, found: Envs) -> None:
    assert found.action_space == sync.action_space
    assert_same(found.action_space.sample(), sync.action_space.sample())
    assert_same(found.reset(), sync.reset())
    actions = np.random.default_rng(0).uniform(-1.2, 1.2, (80, 3, 2))
    for action in actions[:50]:
        assert_same(found.step(action), sync.step(action))
    assert_same(np.array(found.successes()), np.array(sync.successes()))
    snapshot, obs = sync.snapshot(), sync.obs
    assert_same(found.snapshot(), snapshot)
    expected = [sync.step(action) for action in actions[50:]]
    assert_same(found.restore(snapshot), np.ones(3, bool))
    assert_same(found.obs, obs)
    assert_same([found.step(action) for action in actions[50:]], expected)
    snapshot["openings"][2] += 1
    assert_same(found.restore(snapshot), np.array([True, True, False]))
    assert found.others == 1


def children() -> list[psutil.Process]:
    """The processes with environments; W&B's own outlive the tests that start them."""
    return processes_with("neuraxis.envs.processes")


def _assert_no_torch() -> None:
    """It would cost each process two seconds and 200 MB."""
    found = children()
    assert len(found) == 2
    for child in found:
        libraries = {Path(mapped.path).name for mapped in child.memory_maps()}
        assert any("multiarray" in name for name in libraries), "NumPy is there"
        assert not any("torch" in name for name in libraries)


def test_masks_stacks_and_last_actions_are_those_of_sync() -> None:
    words: dict[str, Any] = {"action_mask": "info", "frame_stack": 2, "last_action": True}
    with closing(build(masked(), "sync", **words)) as sync:
        with closing(build(masked(), **words)) as found:
            obs = sync.reset()
            assert_same(found.reset(), obs)
            for _ in range(20):
                action = obs["observation"]["action_mask"].argmax(1)
                step = sync.step(action)
                obs = step[0]
                assert_same(found.step(action), step)


def test_a_run_is_that_of_sync_and_resumes(tmp_path: Path) -> None:
    """Laws 4 and 5: the numbers of sync, also of a run that has crashed and goes on."""
    words = ("env=CartPole-v1", "num_envs=3", "agent=ppo", "network=lstm", "agent.n_steps=16")
    words += ("network.blocks.1.size=8", "agent.batch_size=16", "agent.sequence_length=8")
    words += ("total_steps=200", "checkpoint.interval_steps=40", "log_interval_steps=1")
    words += ("eval.final_episodes=1", "eval.interval_steps=0", "wandb.mode=disabled", "device=cpu")
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    expected = prepare(load([*words, "env.vectorization=sync", f"run_dir={whole}"])).run()

    def crash(run: Run) -> None:
        if run.steps > 110:
            raise Crash

    words += ("env.vectorization=async", "env.processes=2", f"run_dir={torn}")
    with pytest.raises(Crash):
        prepare(load(words)).run([OnUpdate(crash)])
    session = prepare(load_resumed(torn / "config.yaml", ()), torn)
    assert 0 < session.current_run.steps < 110
    found = session.run()
    assert lines(torn) == lines(whole)
    assert torch.equal(weights(found), weights(expected))
    assert not children()


def talking() -> Maker:
    """Makes an environment that warns, logs, leaves its bounds, and then raises, if column 5."""
    from gymnasium import spaces

    class World(gymnasium.Env[Any, Any]):
        observation_space = spaces.Box(-1, 1, (1,))
        action_space = spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            self.steps, self.fails = 0, seed == FIFTH
            return np.zeros(1, np.float32), {}

        def step(self, action: Any) -> Any:
            self.steps += 1
            warnings.warn("it creaks", UserWarning, stacklevel=1)
            logging.getLogger("world").warning("step %d", self.steps)
            if self.steps == 3 and self.fails:
                raise KeyError("door")
            return np.full(1, self.steps, np.float32), 0.0, False, False, {}

        def close(self) -> None:
            raise OSError("cannot close")

    return World


FIFTH = episode_seed(7, 5, 0)


def heard(way: str, caplog: pytest.LogCaptureFixture) -> tuple[EnvError, list[str]]:
    """The error of environments that talk, and what they logged; `ID` stands for their id."""
    caplog.clear()
    with pytest.raises(EnvError) as caught, closing(build(talking(), way, 2)) as envs:
        envs.reset()
        with pytest.warns(UserWarning, match="it creaks"):
            for _ in range(3):
                envs.step(np.zeros(2, int))
    return caught.value, [message.replace(name(way), "ID") for message in caplog.messages]


def test_what_goes_wrong_is_said_as_by_sync(caplog: pytest.LogCaptureFixture) -> None:
    here, expected = heard("sync", caplog)
    error, messages = heard("async", caplog)
    assert str(error).replace(name("async"), "ID") == str(here).replace(name("sync"), "ID")
    assert f"column 5, seed {FIFTH}, step 3: KeyError: 'door' (" in str(error)
    assert messages == expected
    assert [text.partition(",")[0] for text in messages] == [
        *("step 1", "step 1", "step 2", "ID", "step 2", "step 3", "step 3", "ID", "ID")
    ]
    assert 'KeyError("door")' in error.__notes__[0], "where it was raised"


@pytest.mark.parametrize("missing", ["no module", "no pickle"])
def test_what_cannot_be_made_is_said(missing: str) -> None:
    lock = threading.Lock()

    def maker() -> gymnasium.Env[Any, Any]:
        with lock if missing == "no pickle" else nullcontext():
            return gymnasium.make("FrozenLake-v1", map_name="9x9")

    said = {
        "no module": "env.id='__main__:Async': KeyError: '9x9'",
        "no pickle": "env.id='__main__:Async': vectorization=async cannot send it to another "
        "process: TypeError: cannot pickle '_thread.lock' object",
    }
    if missing == "no module":
        del lock
    with pytest.raises(ValueError) as caught:
        build(maker)
    assert str(caught.value).partition(" (tests")[0] == said[missing]
    assert not children()


def fatal(fault: str) -> Maker:
    """Makes an environment that takes its process with it, or does not return from a step."""
    from gymnasium.envs.classic_control import CartPoleEnv

    class World(CartPoleEnv):
        def step(self, action: Any) -> Any:
            if action == 1:
                if fault == "exit":
                    os._exit(3)
                if fault == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)
            return super().step(action)

    return World


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("exit", "columns 5 to 6, run seed 7, step 2: its process ended with exit code 3"),
        ("kill", "step 2: its process was ended by SIGKILL (the system does that where memory "),
        ("hang", "step 2: its process gave no answer in 3 seconds"),
    ],
)
def test_a_process_that_dies_or_hangs_is_one_line(
    fault: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "SILENT_SECONDS", 60 if fault != "hang" else 3)
    envs = build(fatal(fault))
    envs.reset()
    envs.step(np.zeros(3, int))
    assert open_memories() > 0
    monkeypatch.setattr(async_envs, "ENDING_SECONDS", 0.1)
    with pytest.raises(EnvError) as caught:
        envs.step(np.ones(3, int) * [0, 1, 0])
    assert says in str(caught.value) and "\n" not in str(caught.value)
    del caught  # whose traceback has the arrays
    envs.close()
    gc.collect()
    assert not children()
    assert open_memories() == 0


def open_memories() -> int:
    """How often this process has shared memory open; without a name it is nowhere else."""
    files = Path("/proc/self/fd").iterdir()
    return sum("memfd:neuraxis" in os.readlink(file) for file in files if file.is_symlink())


ORPHANS = """
import os, signal, sys, time
import gymnasium, numpy, psutil
from neuraxis.envs import EnvConfig, make

class World(gymnasium.envs.classic_control.CartPoleEnv):
    def step(self, action):
        time.sleep(60)

envs = make(EnvConfig(vectorization="async", processes=2).made_by(World), 2, 0)
envs.reset()
children = psutil.Process().children()
for child in children:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        child.send_signal(number)
envs.reset()
print(*(child.pid for child in children), flush=True)
envs.step(numpy.zeros(2, int))
"""


def test_processes_end_with_the_one_that_started_them() -> None:
    """Killed by -9, while environments hang; other signals are for it alone."""
    program = subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    with program.stdout as out:
        children = [psutil.Process(int(number)) for number in out.readline().split()]
    assert len(children) == 2
    program.kill()
    program.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
