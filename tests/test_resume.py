"""Law 5: a run that was cut off and resumed is the run that never was, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from neuraxis.configs import load
from neuraxis.configs.loader import load_resumed
from neuraxis.training import api, loop
from neuraxis.training.loop import Session, prepare
from neuraxis.training.run import Run

SMALL = ("wandb.mode=disabled", "device=cpu", "num_envs=4", "eval.episodes=2")
SHORT = ("eval.final_episodes=2", "log_interval_steps=40", "eval.interval_steps=200")
PPO = ("agent=ppo", "agent.n_steps=16", "agent.batch_size=32", "agent.n_epochs=2")
DQN = ("agent=dqn", "agent.learning_starts=100", "agent.gradient_steps=4", "agent.batch_size=16")
R2D2 = (*DQN, "agent.sequence_length=8", "agent.prioritized=true")
ROLLOUT = ("agent.n_steps=16", "agent.batch_size=32", "agent.normalize_rewards=true")
CASES = {
    "impala": ("agent=impala", *ROLLOUT, "agent.learning_rate_schedule=linear"),
    "impala-lstm": ("agent=impala", *ROLLOUT, "network=lstm", "agent.n_epochs=2"),
    "appo-lstm": ("agent=appo", *ROLLOUT, "network=lstm", "agent.n_epochs=2"),
    "ppo": (*PPO, "agent.learning_rate_schedule=linear", "agent.normalize_rewards=true"),
    "ppo-dropout": (*PPO, "network.blocks.0.dropout=0.3", "env=Acrobot-v1"),
    "ppo-lstm": (*PPO, "network=lstm", "agent.normalize_observations=true"),
    "ppo-gru-shared": (*PPO, "network=gru", "network.shared=true", "agent.sequence_length=8"),
    "ppo-transformer": (*PPO, "network=transformer", "network.blocks.1.memory=8"),
    "ppo-box": (*PPO, "env=Pendulum-v1", "groups=2"),
    "ppo-images": (*PPO, "env=minigrid_doorkey", "network=cnn_small"),
    "dqn-prioritized": (*DQN, "agent.prioritized=true", "agent.n_step=3", "agent.dueling=true"),
    "dqn-noisy": (*DQN, "agent.noisy=true", "agent.double=false", "env=Acrobot-v1"),
    "dqn-lstm": (*R2D2, "network=lstm", "agent.burn_in=4"),
    "dqn-transformer": (*R2D2, "network=transformer", "network.blocks.1.memory=8"),
}


class Crash(Exception):
    """What ends a run in the middle."""


def lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without their time columns."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


def weights(run: Run) -> torch.Tensor:
    return torch.cat([t.double().flatten() for t in run.read()["agent"]["policy"].values()])


@pytest.mark.parametrize("name", CASES)
def test_resumed_equals_never_stopped(name: str, tmp_path: Path) -> None:
    """One crash between two checkpoints, and one orderly stop between two logs."""
    words = (*SMALL, *SHORT, *CASES[name], "total_steps=600", "checkpoint.interval_steps=150")
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    expected = prepare(load([*words, f"run_dir={whole}"])).run()

    def crash(run: Run) -> None:
        if run.steps > 250 and not (run.checkpoints / f"step_{run.steps:09d}").exists():
            crashed.append(run.steps)
            raise Crash

    crashed: list[int] = []
    with pytest.raises(Crash):
        prepare(load([*words, f"run_dir={torn}"])).run(crash)
    session = prepare(load_resumed(torn / "config.yaml", ()), torn)
    assert 100 < session.record.steps < crashed[0]

    def stop(run: Run) -> None:
        session.stopping = run.steps > 450

    assert session.run(stop).summary["status"] == "interrupted"
    found = prepare(load_resumed(torn / "config.yaml", ()), torn).run()
    assert lines(torn) == lines(whole)
    assert torch.equal(weights(found), weights(expected))


class CtrlC:
    """Presses Ctrl-C at the given observation of an evaluation."""

    def __init__(self, session: Session, after: int) -> None:
        self.session, self.left = session, after

    def __call__(self) -> bool:
        self.left -= 1
        self.session.stopping |= self.left == 0
        return self.session.stopping


@pytest.mark.parametrize("final", [False, True])
def test_ctrl_c_breaks_off_an_evaluation_which_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, final: bool
) -> None:
    words = (*SMALL, *SHORT, *PPO, "total_steps=300", "checkpoint.interval_steps=150")
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    expected = prepare(load([*words, f"run_dir={whole}"])).run()

    session = prepare(load([*words, f"run_dir={torn}"]))
    episodes = 2 if final else 1
    original = loop.evaluate
    calls: list[int] = []

    def evaluate(*args: Any, stop: Any, **kwargs: Any) -> Any:
        calls.append(1)
        pressed = len(calls) == episodes
        return original(*args, stop=CtrlC(session, 1) if pressed else stop, **kwargs)

    monkeypatch.setattr(loop, "evaluate", evaluate)
    assert session.run().summary["status"] == "interrupted"
    assert len(calls) == episodes and len(lines(torn)) < len(lines(whole))
    monkeypatch.undo()
    found = prepare(load_resumed(torn / "config.yaml", ()), torn).run()
    assert lines(torn) == lines(whole)
    assert torch.equal(weights(found), weights(expected))
    with pytest.raises(
        ValueError, match=r"has finished its 3\d\d steps; expected more in total_st"
    ):
        prepare(load_resumed(torn / "config.yaml", ()), torn)


def test_kill_9(tmp_path: Path) -> None:
    """The program itself, killed in the middle of whatever it does."""
    words = ("wandb.mode=disabled", "network=lstm", "total_steps=10_000", "eval.final_episodes=2")
    words = (*words, "checkpoint.interval_steps=1000", "eval.interval_steps=3000")
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    prepare(load([*words, f"run_dir={whole}"])).run()

    program = str(Path(sys.executable).with_name("neuraxis"))
    process = subprocess.Popen([program, "train", "-q", *words, f"run_dir={torn}"])
    while not (torn / "checkpoints" / "last").exists():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (torn / "summary.json").exists()
    subprocess.run([program, "resume", "-q", str(torn)], check=True)
    assert lines(torn) == lines(whole)


def test_from_python_ctrl_c_is_raised_and_load_draws_nothing(tmp_path: Path) -> None:
    def press(run: Run) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    words = (*SMALL, *SHORT, *PPO, f"run_dir={tmp_path}")
    with pytest.raises(KeyboardInterrupt, match=r"stopped at 6\d steps: neuraxis resume"):
        api.train(*words, on_record=press)
    torch.manual_seed(3)
    expected = torch.rand(())
    torch.manual_seed(3)
    api.load(tmp_path, "last")
    assert torch.rand(()) == expected


def test_a_kill_between_two_renames_is_repaired_on_resume(tmp_path: Path) -> None:
    words = (*SMALL, *SHORT, *PPO, "total_steps=100", f"run_dir={tmp_path}")
    run = api.train(*words)
    last = (run.checkpoints / "last").resolve()
    last.rename(last.with_name(f".{last.name}.old"))
    again = prepare(load_resumed(tmp_path / "config.yaml", ["total_steps=200"]), tmp_path).run()
    assert again.steps >= 200 and again.summary["status"] == "finished"
