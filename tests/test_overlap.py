"""`overlap=true`: rollouts from another process, each by weights of one update before."""

from __future__ import annotations

import copy
import functools
import json
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv

from neuraxis.agents import agent_class, agent_names
from neuraxis.configs import load, load_resumed
from neuraxis.core.errors import EnvError, RunError
from neuraxis.core.rollout import BATCHED, Rollout
from neuraxis.core.tree import map_tree
from neuraxis.training import prepare, train
from neuraxis.training.distributed import overlap_source
from neuraxis.training.distributed.local_source import LocalSource
from neuraxis.training.distributed.overlap_process import Collecting
from neuraxis.training.distributed.overlap_source import OverlapSource
from neuraxis.training.storage.run import Run

from .helpers import STACKED, OnUpdate, Training, processes_with, training, weights
from .test_resume import lines, resume_after_crash

WORDS = ("overlap=true", "num_envs=4")
FRESH = ("agent.n_steps=16", "agent.learning_rate=0.01")
DQN = ("agent=dqn", "agent.train_freq=4", "agent.learning_starts=32", "agent.gradient_steps=2")
PPO_LSTM = ("agent=ppo", *FRESH, "network=lstm", "agent.normalize_observations=true")
CASES = {
    "ppo": ("agent=ppo", *FRESH, "agent.normalize_rewards=true", "groups=2"),
    "ppo-lstm": PPO_LSTM,
    "impala": ("agent=impala", *FRESH, "agent.normalize_observations=true"),
    "appo": ("agent=appo", *FRESH, "network.blocks.0.dropout=0.2"),
    "pqn": ("agent=pqn", *FRESH, *STACKED),
    "dqn": (*DQN, "agent.batch_size=16", "agent.exploration_per_column=true"),
    "sac": ("agent=sac", "env=Pendulum-v1", *DQN[1:], "agent.batch_size=16"),
    "tabular_q": ("agent=tabular_q", "env=CliffWalking-v1", "agent.n_steps=16"),
}
RUN = (
    *("wandb.mode=disabled", "device=cpu", "eval.episodes=2", "eval.final_episodes=1"),
    *("log_interval_steps=40", "checkpoint.interval_steps=150"),
)
EVALUATED = "eval.interval_steps=200"


class Here:
    """Stands in for the process, in this one; what goes to it and comes back is pickled."""

    late = False
    """Whether it works when the answer is asked for, and not when the request comes."""

    def __init__(self, module: str, setting: str, work: str, advice: str, *setup: Any) -> None:
        self._work = Collecting()
        self.ask("open", pickle.dumps(setup))
        self.opened = self.answer()

    def ask(self, method: str, *arguments: Any) -> None:
        request = functools.partial(getattr(self._work, method), *_sent(arguments))
        self._reply = request if self.late else functools.partial(_given, request())

    def answer(self) -> Any:
        return _sent(self._reply())

    def close(self) -> None:
        self._work.close()


def _sent(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


def _given(reply: Any) -> Any:
    return reply


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> type[Here]:
    """Sources collect in this process, as `Here`."""
    monkeypatch.setattr(overlap_source, "Helper", Here)
    return Here


def build(name: str, *words: str) -> Training:
    return training(*WORDS, *(word for word in CASES[name] if word not in words), *words)


class OneUpdateLate:
    """What `OverlapSource` is by its definition, in one process: a queue of two policies."""

    def __init__(self, run: Training) -> None:
        self.acting = copy.deepcopy(run.agent.policy)
        self.source = LocalSource(run.cfg, self.acting, run.agent.rollout_length)
        self.old = deque([copy.deepcopy(run.agent.policy.state_dict())], maxlen=2)

    def next(self) -> Rollout:
        self.acting.load_state_dict(self.old[0])
        return self.source.next()

    def publish(self, policy: Any) -> None:
        self.old.append(copy.deepcopy(policy.state_dict()))


@pytest.mark.parametrize(
    ("name", "late"), [*((name, True) for name in CASES), ("ppo", False), ("dqn", False)]
)
def test_the_lag_is_one_whatever_the_speed(
    name: str, late: bool, here: Any, monkeypatch: Any
) -> None:
    """Law 4: bit for bit the rollouts of a loop that keeps the weights of the update before."""
    monkeypatch.setattr(here, "late", late)
    one, other = build(name), build(name)
    expected = OneUpdateLate(other)
    for update in range(6):
        torch.manual_seed(update)
        rollout = one.source.next()
        said = expected.next()
        for field in BATCHED:
            map_tree(np.testing.assert_array_equal, getattr(rollout, field), getattr(said, field))
        late_by = update - rollout.version
        assert one.source.metrics() == {"ray/policy_lag": late_by} and late_by == min(update, 1)
        for run, source in ((one, one.source), (other, expected)):
            torch.manual_seed(update)
            run.agent.learn((rollout if run is one else said).to("cpu"))
            source.publish(run.agent.policy)
        assert torch.equal(weights(one.agent), weights(other.agent))


def test_a_process_collects_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And environments in processes of their own change nothing."""
    words = (*RUN, *WORDS, *CASES["ppo"], "total_steps=400", "eval.interval_steps=0")
    runs = [prepare(load([*words, f"run_dir={tmp_path / 'process'}"])).run()]
    assert not processes()
    monkeypatch.setattr(overlap_source, "Helper", Here)
    for way in ("sync", "async"):
        own = (f"env.vectorization={way}", f"run_dir={tmp_path / way}")
        runs.append(prepare(load([*words, *own])).run())
    found = [lines(run.dir) for run in runs]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) > 5 and [row.get("ray/policy_lag") for row in found[0]].count(1.0) > 3


@pytest.mark.parametrize("name", ["ppo-lstm", "impala", "dqn"])
def test_resumed_equals_never_stopped(name: str, here: Any, tmp_path: Path) -> None:
    """Law 5, though a rollout was under way: it is collected again, by the weights that acted."""
    resume_after_crash([*RUN, *WORDS, *CASES[name], EVALUATED, "total_steps=450"], tmp_path, 340)


def policies(run: Training, updates: int) -> tuple[list[Any], Rollout]:
    """The policies before each of so many updates and after them, and the rollout that is next."""
    seen = [copy.deepcopy(run.agent.policy)]
    for _ in range(updates):
        run.step()
        seen.append(copy.deepcopy(run.agent.policy))
    return seen, run.rollout()


SETTINGS = {
    "mlp": (),
    "statistics": ("agent.normalize_observations=true",),
    "lstm": ("network=lstm",),
    "dropout": ("network.blocks.0.dropout=0.3",),
    "augmentation": ("agent.augment.noise=0.1",),
}


@pytest.mark.parametrize(
    ("agent", "setting"), [*(("ppo", name) for name in SETTINGS), ("appo", "dropout")]
)
def test_the_ratio_is_to_the_policy_that_acted(agent: str, setting: str, here: Any) -> None:
    """With masks and augmentation its log-probability is that of now less what has changed."""
    words = (*SETTINGS[setting], "agent.batch_size=64", "agent.n_epochs=1", f"agent={agent}")
    run = training(*WORDS, *FRESH, *words)
    (*_, acted, now), rollout = policies(run, 4)
    assert rollout.version == 3
    by_both = [policy.unroll(rollout, 16)[1] for policy in (acted, now)]
    old = rollout.extras["log_prob"]
    valid = rollout.valid
    assert torch.allclose(by_both[0][valid], old[valid], atol=1e-5)
    seen: list[Any] = []
    update = run.agent.run_update
    run.agent.run_update = lambda batch: seen.append((batch, update(batch))) or seen[-1][1]
    run.agent.learn(rollout)
    batch, terms = seen[0]
    keep = batch["valid"] > 0
    moved = (by_both[1] - by_both[0])[valid].sort().values
    assert moved.abs().max() > 1e-3, "the two policies differ"
    if setting != "dropout":  # there the loss asks
        own, _, _ = now(batch["obs"], batch["state"], batch["first"])
        expected = now.head.log_prob(own, batch["action"]) - batch["log_prob"]
        assert torch.allclose(terms["log_ratio"][keep], expected[keep], atol=1e-5)
    found = terms["log_ratio"][keep].sort().values
    assert torch.allclose(found, moved, atol=1e-4)


def test_ppo_remembers_log_probabilities_only_then(here: Any) -> None:
    assert build("ppo").rollout().extras.keys() == {"log_prob"}
    assert "log_prob" not in build("ppo", "overlap=false").rollout().extras


LATE = [name for name in agent_names() if agent_class(name).late or agent_class(name).asynchronous]
REFUSED = {
    "agent=trpo": r"overlap=true: agent=trpo learns .* only \(its step .*use overlap=false, or ",
    "agent=reinforce": r"agent=reinforce learns .* only \(its gradient has no ratio to an older",
    "agent=sarsa env=CliffWalking-v1": r"agent=sarsa learns .* only \(its targets have the next",
    "ray.workers=2": r"ray.workers=2: expected 0 with overlap=true; without that",
    "overlap=maybe": r"overlap=maybe: expected ",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_is_said_in_one_line(words: str) -> None:
    own = [] if "overlap" in words else ["overlap=true"]
    with pytest.raises(ValueError, match=REFUSED[words]) as raised:
        load([*own, *words.split()])
    assert "\n" not in str(raised.value)


def test_every_agent_says_why_it_cannot() -> None:
    others = {name: agent_class(name) for name in agent_names() if name not in LATE}
    assert others and [name for name in others if not others[name].why_not_late] == []


def test_recorded_episodes_are_not_collected(tmp_path: Path) -> None:
    words = ("agent=bc", f"agent.dataset={tmp_path}", "overlap=true", *RUN)
    with pytest.raises(ValueError, match=r"^overlap=true: expected false, because agent.dataset="):
        prepare(load([*words, f"run_dir={tmp_path / 'run'}"]))


def test_a_resumed_run_keeps_it(here: Any, tmp_path: Path) -> None:
    words = (*RUN, *WORDS, *CASES["ppo"], "total_steps=100", f"run_dir={tmp_path / 'run'}")
    prepare(load(words)).run()
    with pytest.raises(ValueError, match=r"^overlap=false: cannot change in a resumed run"):
        load_resumed(tmp_path / "run" / "config.yaml", ["overlap=false"])


def test_a_checkpoint_of_other_columns_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What the other process raises is said in this one."""
    words = (*RUN, *WORDS, *CASES["ppo"], "total_steps=100", f"run_dir={tmp_path / 'run'}")
    prepare(load(words)).run()
    stored = tmp_path / "run" / "config.yaml"
    stored.write_text(stored.read_text().replace("vectorization: auto", "vectorization: sync"))
    cfg = load_resumed(stored, ["total_steps=200"])
    with pytest.raises(
        RunError, match=r"does not fit what config\.yaml describes: ValueError: columns"
    ):
        prepare(cfg, resume_from=tmp_path / "run")
    assert "Traceback" not in capfd.readouterr().err


def processes() -> list[int]:
    """Those that collect for this process."""
    return [process.pid for process in processes_with("overlap_process")]


def at_step(limit: int, happens: Callable[[], None]) -> type[CartPoleEnv]:
    """An environment to which something happens at its step `limit`, over all episodes.

    A class of a function goes to another process as it is; its first 64 steps are tried before.
    """

    class Own(CartPoleEnv):
        taken = 0

        def step(self, action: Any) -> Any:
            self.taken += 1
            if self.taken == limit:
                happens()
            return super().step(action)

    return Own


def own(env: Any, folder: Path, *words: str, **keys: Any) -> Any:
    """Trains PPO in an environment of this program, for nine rollouts."""
    return train(
        *(*RUN, *CASES["ppo"], "num_envs=4", "total_steps=550", "eval.interval_steps=0"),
        *(*words, f"run_dir={folder}"),
        env=env,
        **keys,
    )


def status(folder: Path) -> tuple[str, int]:
    """How a run has ended, and after how many steps."""
    summary = json.loads((folder / "summary.json").read_text())
    return summary["status"], summary["steps"]


def test_what_an_environment_raises_is_said_as_without(tmp_path: Path) -> None:
    """One line with the column and the step of its episode, and its traceback as a note."""

    def lose() -> None:
        raise KeyError("lost")

    said = []
    for overlap in ("false", "true"):
        with pytest.raises(EnvError) as raised:
            own(at_step(10, lose), tmp_path / overlap, f"overlap={overlap}")
        said.append(str(raised.value))
    assert said[0] == said[1] and "KeyError: 'lost'" in said[0] and "\n" not in said[0]
    assert "in lose" in raised.value.__notes__[0]
    assert not processes() and status(tmp_path / "true")[0] == "failed"


def test_a_process_that_dies_is_said_in_one_line(tmp_path: Path) -> None:
    """The kernel may end it when memory is short."""

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    said = r"^the process that collects rollouts has ended \(SIGKILL\); `neuraxis resume` goes on"
    with pytest.raises(EnvError, match=said):
        own(at_step(70, die), tmp_path / "run", "overlap=true")
    assert not processes() and status(tmp_path / "run")[0] == "failed"


def test_ctrl_c_leaves_a_rollout_that_hangs(tmp_path: Path) -> None:
    """The run is saved where its last update was, and its environments are closed."""
    begun, closed, updates = tmp_path / "begun", tmp_path / "closed", []

    def hang() -> None:
        begun.touch()
        time.sleep(60)

    def close(self: CartPoleEnv) -> None:
        if begun.exists():
            closed.touch()

    hanging = at_step(70, hang)
    hanging.close = close

    def press(run: Run) -> None:
        updates.append(run.steps)
        if len(updates) == 4:  # the fifth rollout hangs
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        own(hanging, tmp_path / "run", "overlap=true", callbacks=[OnUpdate(press)])
    assert time.monotonic() - begin < 40 and not processes()
    assert status(tmp_path / "run") == ("interrupted", updates[3]) and len(updates) == 4
    assert Run.open(tmp_path / "run").read()["progress"]["steps"] == updates[3]
    assert closed.exists()


def test_kill_9_of_the_run_leaves_no_process(tmp_path: Path) -> None:
    """It dies while a rollout is under way that hangs."""
    cfg = load([*RUN, *WORDS, *CASES["ppo"]])
    hanging = at_step(10, lambda: time.sleep(60))
    cfg = cfg.model_copy(update={"env": cfg.env.made_by(hanging)})
    agent = build("ppo", "overlap=false").agent
    file = tmp_path / "pid"
    run = os.fork()
    if not run:
        try:
            source = OverlapSource(cfg, agent.policy, agent.rollout_length)
            file.write_text(str(source.helper.process.pid))
            source.next()
        finally:
            os._exit(1)
    while not file.exists() or not file.read_text():
        assert os.waitpid(run, os.WNOHANG) == (0, 0), "it cannot start"
        time.sleep(0.05)
    pid = int(file.read_text())
    time.sleep(0.3)  # it collects
    assert psutil.pid_exists(pid)
    os.kill(run, signal.SIGKILL)
    os.waitpid(run, 0)
    deadline = time.monotonic() + 8
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_moved_is_what_the_weights_have_changed(here: Any) -> None:
    """A rollout whose log-probabilities are given: PPO takes them at their word."""
    run = training(*WORDS, *FRESH, "agent=ppo", "agent.batch_size=64", "agent.n_epochs=1")
    rollout = run.rollout()
    moved = torch.randn_like(rollout.reward) / 3
    acted = run.agent.policy.unroll(rollout, 16)[1] - moved
    batch, _ = run.agent.batch_of(replace(rollout, extras={"log_prob": acted}))
    assert torch.allclose(batch["moved"], moved.reshape(batch["moved"].shape), atol=1e-5)
