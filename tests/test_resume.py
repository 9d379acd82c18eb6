"""Law 5: a run that was cut off and resumed is the run that never was, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch

from neuraxis.configs import dump, load, load_resumed
from neuraxis.envs.builtin.diagnostic import Identity
from neuraxis.training import api, evaluator
from neuraxis.training import load as load_policy
from neuraxis.training.loop import Session
from neuraxis.training.session import prepare
from neuraxis.training.storage import checkpoint_folder
from neuraxis.training.storage.run import Run

from .helpers import OnUpdate, training

SMALL = ("wandb.mode=disabled", "device=cpu", "num_envs=4", "eval.episodes=2")
SHORT = ("eval.final_episodes=2", "log_interval_steps=40", "eval.interval_steps=200")
PPO = ("agent=ppo", "agent.n_steps=16", "agent.batch_size=32", "agent.n_epochs=2")
DQN = ("agent=dqn", "agent.learning_starts=100", "agent.gradient_steps=4", "agent.batch_size=16")
SAC = (*DQN[1:], "agent=sac", "env=Pendulum-v1", "network.blocks.0.sizes=[16]")
CROSSQ = ("agent=crossq", *DQN[1:], "env=Pendulum-v1", "network.blocks.0.sizes=[16]")
R2D2 = (*DQN, "agent.sequence_length=8", "agent.prioritized=true")
TABLE = ("env=CliffWalking-v1", "agent.n_steps=16")
ROLLOUT = ("agent.n_steps=16", "agent.batch_size=32", "agent.normalize_rewards=true")
MASKED = ("env=neuraxis/Masked-v0", "env.kwargs.strict=true", "env.kwargs.size=4")
REGULAR = (
    *("agent.l1=1e-4", "agent.l2=1e-3", "agent.weight_decay=1e-2", "agent.augment.noise=0.1"),
    *("network.blocks.0.weight_norm=spectral", "agent.layer_decay=0.5"),
    'agent.learning_rate_factors={"*.bias": 0.3}',
)
CASES = {
    "impala": ("agent=impala", *ROLLOUT, "agent.learning_rate_schedule=linear"),
    "impala-lstm": ("agent=impala", *ROLLOUT, "network=lstm", "agent.n_epochs=2"),
    "appo-lstm": ("agent=appo", *ROLLOUT, "network=lstm", "agent.n_epochs=2"),
    "ppo": (*PPO, "agent.learning_rate_schedule=linear", "agent.normalize_rewards=true"),
    "ppo-regularized": (
        *(*PPO, *REGULAR, "env=Acrobot-v1", "agent.normalize_observations=true"),
        *("network.blocks.0.norm=batch", "network.blocks.0.dropout=0.3", "network.shared=true"),
        'agent.freeze={backbone.*: 0.4, "*.bias": 0.8}',
    ),
    "ppo-lstm": (*PPO, "network=lstm", "agent.normalize_observations=true", "env.last_action=true"),
    "ppo-gru-shared": (*PPO, "network=gru", "network.shared=true", "agent.sequence_length=8"),
    "ppo-transformer": (*PPO, "network=transformer", "network.blocks.1.memory=8"),
    "ppo-critic": (*PPO, "network=lstm", "network.critic=[{name: mlp}]", "groups=2"),
    "ppo-once": (*PPO, "env.reseed=once", "env.time_limit=30"),
    "ppo-box": (*PPO, "env=Pendulum-v1", "groups=2", "agent.clip_range_schedule=cosine"),
    "ppo-sde": (
        *(*PPO, "env=Pendulum-v1", "agent.gaussian.use_sde=true", "agent.ent_coef=0.01"),
        *("agent.gaussian.sde_sample_freq=5", "agent.gaussian.squashed=true", "groups=2"),
    ),
    "ppo-rnd": (*PPO, "agent.rnd.coef=0.5", "agent.rnd.batch_size=16", "groups=2"),
    "sac-thaw": (*SAC, "agent.freeze={critics.*: 150, temperature.*: 260, head.*: 320}"),
    "trpo-thaw": ("agent=trpo", "agent.n_steps=16", "agent.freeze={actor.*: 0.45, value.*: null}"),
    "ppo-images": (*PPO, "env=minigrid_doorkey", "network=cnn_small"),
    "trpo-lstm": ("agent=trpo", "agent.n_steps=16", "agent.batch_size=32", "network=lstm"),
    "reinforce": ("agent=reinforce", "agent.n_steps=16", "agent.normalize_rewards=true"),
    "reinforce-gru": ("agent=reinforce", "agent.n_steps=8", "network=gru", "env.time_limit=40"),
    "a2c": ("agent=a2c", "agent.n_steps=8", "agent.learning_rate_schedule=linear"),
    "dqn-prioritized": (*DQN, "agent.prioritized=true", "agent.n_step=3", "agent.dueling=true"),
    "dqn-exploring": (
        *DQN,
        "agent.exploration_per_column=true",
        "agent.tau=0.5",
        "agent.exploration_schedule=cosine",
    ),
    "dqn-noisy": (*DQN, "agent.noisy=true", "agent.double=false", "env=Acrobot-v1"),
    "dqn-c51": (*DQN, "agent.distribution=categorical", "agent.prioritized=true"),
    "dqn-iqn-lstm": (*R2D2, "network=lstm", "agent.burn_in=4", "agent.distribution=implicit"),
    "dqn-lstm": (*R2D2, "network=lstm", "agent.burn_in=4", "env.last_action=true"),
    "sac": (*SAC, "agent.prioritized=true", "agent.n_step=2", "agent.normalize_observations=true"),
    "dqn-regularized": (
        *(*DQN, "env=minigrid_empty", "network.blocks.0.weight_norm=weight", "agent.l2=1e-3"),
        *("agent.augment.shift=1", "agent.plasticity.reset_interval=120"),
    ),
    "sac-regularized": (
        *(*SAC, *REGULAR, "network.blocks.0.dropout=0.3", "agent.plasticity.shrink_interval=150"),
        *("agent.plasticity.reset_interval=200", "agent.plasticity.reset=all"),
        "agent.freeze={critics.*: 150, head.*: 320}",
    ),
    "sac-uniform": (*SAC, "agent.ent_coef=0.1", "network.blocks.0.norm=batch"),
    "sac-discrete": (*DQN[1:], "agent=sac", "agent.policy_delay=2"),
    "tqc": (*SAC, "agent.n_quantiles=5"),
    "crossq": (*CROSSQ, "network.critic.0.sizes=[16]", "agent.policy_delay=2"),
    "dqn-hindsight": (*DQN, "env=neuraxis/BitFlip-v0", "agent.hindsight=future", "agent.n_step=2"),
    "sac-hindsight": (*DQN[1:], "agent=sac", "env=neuraxis/PointGoal-v0", "agent.hindsight=final"),
    "pqn": ("agent=pqn", *ROLLOUT, "network.blocks.0.norm=layer", "groups=2"),
    "pqn-lstm": ("agent=pqn", *ROLLOUT, "network=lstm", "agent.exploration_per_column=true"),
    "tabular_q": (*TABLE, "agent=tabular_q", "agent.learning_rate_schedule=linear"),
    "sarsa": (*TABLE, "agent=sarsa", "env.time_limit=7", "agent.exploration_per_column=true"),
    "sac-lstm": (*SAC[:-1], *R2D2[len(DQN) :], "network=lstm", "agent.burn_in=4"),
    "td3": ("agent=td3", *SAC[:3], *SAC[4:], *REGULAR, "agent.action_noise_std_schedule=linear"),
    "td3-gru": (*SAC[:3], "agent=td3", "env=Pendulum-v1", *R2D2[len(DQN) :], "network=gru"),
    "dqn-masked": (*DQN, *MASKED, "env.action_mask=info", "env.kwargs.action_space=multidiscrete"),
    "ppo-masked": (
        *(*PPO, *MASKED, "network=lstm", "env.last_action=true", "env.frame_stack=2"),
        *("env.kwargs.in_observation=true", "env.action_mask=legal"),
    ),
    "dqn-transformer": (*R2D2, "network=transformer", "network.blocks.1.memory=8"),
}


class Crash(BaseException):
    """What ends a run in the middle, as a kill does."""


def lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without their time columns."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


def weights(run: Run) -> torch.Tensor:
    return torch.cat([t.double().flatten() for t in run.read()["agent"]["policy"].values()])


def test_a_checkpoint_that_lacks_a_part_is_named() -> None:
    """One of an older version, which had no such part."""
    agent = training("agent=sac", "env=Pendulum-v1").agent
    state = agent.state_dict()
    agent.load_state_dict(state)
    for part in ("critics", "replay"):
        del state[part]
    with pytest.raises(
        RuntimeError, match=r"agent=sac has parts .* lacks: replay, critics; was it"
    ):
        agent.load_state_dict(state)


def resume_after_crash(words: Sequence[str], folder: Path, at: int) -> Path:
    """Asserts law 5 of a run that crashes after `at` steps; the run that never did is returned."""
    whole, torn = folder / "whole", folder / "torn"
    expected = prepare(load([*words, f"run_dir={whole}"])).run()

    def crash(run: Run) -> None:
        if run.steps > at:
            raise Crash

    with pytest.raises(Crash):
        prepare(load([*words, f"run_dir={torn}"])).run([OnUpdate(crash)])
    session = prepare(load_resumed(torn / "config.yaml", ()), torn)
    assert 100 < session.current_run.steps < at, "neither anew nor where it crashed"
    found = session.run()
    assert lines(torn) == lines(whole)
    assert torch.equal(weights(found), weights(expected))
    return whole


@pytest.mark.parametrize("name", CASES)
def test_resumed_equals_never_stopped(name: str, tmp_path: Path) -> None:
    """One crash between two checkpoints, and one orderly stop between two logs."""
    words = (*SMALL, *SHORT, *CASES[name], "total_steps=450", "checkpoint.interval_steps=150")
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    expected = prepare(load([*words, f"run_dir={whole}"])).run()

    def crash(run: Run) -> None:
        if run.steps > 250 and not (run.checkpoints / f"step_{run.steps:09d}").exists():
            crashed.append(run.steps)
            raise Crash

    crashed: list[int] = []
    with pytest.raises(Crash):
        prepare(load([*words, f"run_dir={torn}"])).run([OnUpdate(crash)])
    session = prepare(load_resumed(torn / "config.yaml", ()), torn)
    assert 100 < session.current_run.steps < crashed[0]

    def stop(run: Run) -> None:
        if run.steps > 350:
            session.interrupt()

    assert session.run([OnUpdate(stop)]).summary["status"] == "interrupted"
    found = prepare(load_resumed(torn / "config.yaml", ()), torn).run()
    assert lines(torn) == lines(whole)
    assert torch.equal(weights(found), weights(expected))


class CtrlC:
    """Presses Ctrl-C at the given observation of an evaluation."""

    def __init__(self, session: Session, after: int) -> None:
        self.session, self.left = session, after

    def __call__(self, played: int, wanted: int) -> bool:
        self.left -= 1
        if self.left == 0:
            self.session.interrupt()
        return self.left <= 0


@pytest.mark.parametrize("final", [False, True])
def test_ctrl_c_breaks_off_an_evaluation_which_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, final: bool
) -> None:
    words = (*SMALL, *SHORT, *PPO, "total_steps=300", "checkpoint.interval_steps=150")
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    expected = prepare(load([*words, f"run_dir={whole}"])).run()

    session = prepare(load([*words, f"run_dir={torn}"]))
    episodes = 2 if final else 1
    original = evaluator.evaluate
    calls: list[int] = []

    def evaluate(*args: Any, watch: Any, **kwargs: Any) -> Any:
        calls.append(1)
        pressed = len(calls) == episodes
        return original(*args, watch=CtrlC(session, 1) if pressed else watch, **kwargs)

    monkeypatch.setattr(evaluator, "evaluate", evaluate)
    assert session.run().summary["status"] == "interrupted"
    assert len(calls) == episodes and len(lines(torn)) < len(lines(whole))
    monkeypatch.undo()
    found = prepare(load_resumed(torn / "config.yaml", ()), torn).run()
    assert lines(torn) == lines(whole)
    assert torch.equal(weights(found), weights(expected))
    with pytest.raises(
        ValueError,
        match=r"has finished at 3\d\d steps; expected total_steps=300 to be greater than that$",
    ):
        prepare(load_resumed(torn / "config.yaml", ()), torn)


def test_fewer_steps_than_a_run_has_are_refused(tmp_path: Path) -> None:
    words = (*SMALL, *SHORT, *PPO, "total_steps=600", f"run_dir={tmp_path}")
    session = prepare(load(words))
    run = session.run([OnUpdate(lambda run: session.interrupt() if run.steps > 250 else None)])
    assert run.summary["status"] == "interrupted"
    before = (tmp_path / "config.yaml").read_text()
    line = rf"has {run.steps} steps already; expected total_steps=200 to be at least that$"
    with pytest.raises(ValueError, match=line):
        prepare(load_resumed(tmp_path / "config.yaml", ["total_steps=200"]), tmp_path)
    assert (tmp_path / "config.yaml").read_text() == before
    exact = load_resumed(tmp_path / "config.yaml", [f"total_steps={run.steps}"])
    assert prepare(exact, tmp_path).run().summary["status"] == "finished"


class Shifting(Identity):
    """The identity, until somebody changes its first targets, or how the later ones are drawn."""

    change = ""

    def reset(self, **kwargs: Any) -> Any:
        observation, info = super().reset(**kwargs)
        if Shifting.change == "first":
            self._target = observation = (observation + 1) % 3
        return observation, info

    def _open(self) -> Any:
        target = super()._open()
        if Shifting.change == "later" and self._count:
            self._target = target = (target + 1) % 3
        return target


gymnasium.register("Shifting-v0", Shifting)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("change", "reopened", "others"), [("", 0, 0), ("first", 4, 4), ("later", 4, 0)]
)
def test_a_resume_says_what_is_not_as_it_was(
    change: str,
    reopened: int,
    others: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    words = (*SMALL, *SHORT, *PPO, "env=tests.test_resume:Shifting-v0", "total_steps=300")
    session = prepare(load([*words, f"run_dir={tmp_path}"]))
    session.run([OnUpdate(lambda run: session.interrupt())])
    meta = tmp_path / "meta.json"
    about = json.loads(meta.read_text())
    about["versions"]["torch"], about["git"] = "1.0.0", {"commit": "0" * 40, "dirty": False}
    about["host"] |= {"name": "elsewhere", "gpus": ["H100"]}
    meta.write_text(json.dumps(about))
    monkeypatch.setattr(Shifting, "change", change)
    run = prepare(load_resumed(tmp_path / "config.yaml", ()), tmp_path).run()
    assert run.summary["status"] == "finished"
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert f"torch {torch.__version__} (it was 1.0.0), commit" in said
    assert "(it was 0000000), host" in said and "GPUs none (it was H100); last digits may" in said
    assert ("4 of 4 environments could not go back to where they stood" in said) == bool(reopened)
    assert ("4 of them begin an episode with another observation" in said) == bool(others)
    entry = json.loads(meta.read_text())["resumed"][0]
    assert (entry["steps"], entry["reopened"], entry["others"]) == (60, reopened, others)
    assert entry["versions"]["torch"] == torch.__version__ and entry["host"]["gpus"] == []

    caplog.clear()
    longer = load_resumed(tmp_path / "config.yaml", ["total_steps=400"])
    prepare(longer, tmp_path).run()
    assert "not as before" not in caplog.text, "compared with the last time, not with the first"


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


def test_kill_9_before_the_first_checkpoint(tmp_path: Path) -> None:
    words = ("wandb.mode=disabled", "total_steps=8_000", "eval.final_episodes=2")
    words = (*words, "checkpoint.interval_steps=7_000", "eval.interval_steps=7_500")
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    prepare(load([*words, f"run_dir={whole}"])).run()

    program = str(Path(sys.executable).with_name("neuraxis"))
    process = subprocess.Popen([program, "train", "-q", *words, f"run_dir={torn}"])
    while not (torn / "metrics.jsonl").exists() or not (torn / "metrics.jsonl").stat().st_size:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (torn / "checkpoints").exists()
    resumed = subprocess.run([program, "resume", str(torn)], capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    assert "no checkpoint was saved" in resumed.stderr
    assert lines(torn) == lines(whole)
    about = json.loads((torn / "meta.json").read_text())
    assert [resumption["steps"] for resumption in about["resumed"]] == [0]


def test_a_run_killed_while_its_folder_was_made_is_resumed(tmp_path: Path) -> None:
    """Nothing but config.yaml had been written."""
    words = (*SMALL, *SHORT, *PPO, "total_steps=100")
    train, torn = tmp_path / "train", tmp_path / "torn"
    cfg = prepare(load([*words, f"run_dir={train}"])).run().cfg
    torn.mkdir()
    (torn / "config.yaml").write_text(dump(cfg.model_dump(mode="json")))
    prepare(load_resumed(torn / "config.yaml", ()), torn).run()
    assert lines(torn) == lines(train)
    assert "versions" in json.loads((torn / "meta.json").read_text())


def test_a_run_killed_before_its_config_was_whole_begins_again(tmp_path: Path) -> None:
    (tmp_path / ".config.yaml.tmp").write_text("env:")
    run = api.train(*SMALL, *SHORT, *PPO, "total_steps=100", f"run_dir={tmp_path}")
    assert run.summary["status"] == "finished" and not list(tmp_path.glob(".*"))


def test_from_python_ctrl_c_is_raised_and_load_draws_nothing(tmp_path: Path) -> None:
    def press(run: Run) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    tmp_path = tmp_path / "my run"
    words = (*SMALL, *SHORT, *PPO, f"run_dir={tmp_path}")
    said = rf"stopped at 6\d steps: neuraxis resume '{tmp_path}'"
    with pytest.raises(KeyboardInterrupt, match=said):
        api.train(*words, callbacks=[OnUpdate(press)])
    torch.manual_seed(3)
    expected = torch.rand(())
    torch.manual_seed(3)
    load_policy(tmp_path, "last")
    assert torch.rand(()) == expected


def test_a_kill_between_two_renames_is_repaired_on_resume(tmp_path: Path) -> None:
    words = (*SMALL, *SHORT, *PPO, "total_steps=100", f"run_dir={tmp_path}")
    run = api.train(*words)
    last = checkpoint_folder.chosen(run.checkpoints, "last")
    last.rename(last.with_name(f".{last.name}.old"))
    again = prepare(load_resumed(tmp_path / "config.yaml", ["total_steps=200"]), tmp_path).run()
    assert again.steps >= 200 and again.summary["status"] == "finished"
