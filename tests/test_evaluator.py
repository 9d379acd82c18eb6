"""What the evaluations of a run take, and how they end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from neuraxis.configs import load
from neuraxis.envs.builtin.counting import Truncation
from neuraxis.training import Callback, prepare, train
from neuraxis.training import load as load_policy
from neuraxis.training.cli import exit_codes, main
from neuraxis.training.evaluate import evaluate, evaluation_seed
from neuraxis.training.evaluator import Evaluator, episode_limit
from neuraxis.training.storage.intervals import interval
from neuraxis.training.storage.run import Run
from neuraxis.training.storage.run_folder import RunFolder

SMALL = ("wandb.mode=disabled", "device=cpu", "agent.n_steps=16", "agent.batch_size=32")
LONG = 10**9


def endless() -> gymnasium.Env[Any, Any]:
    """Nothing ends its episodes; 1 a step."""
    return Truncation(limit=LONG)


def registered(env_id: str, make: Any, **spec: Any) -> str:
    if env_id not in gymnasium.registry:
        gymnasium.register(env_id, make, disable_env_checker=True, **spec)
    return f"env={env_id}"


ENDLESS = registered("evaluator/Endless-v0", endless)


class Watcher(Callback):
    """Calls a function while evaluations are played, and remembers how far each was."""

    def __init__(self, function: Callable[[Run, int, int], object] = lambda *_: None) -> None:
        self.function = function
        self.seen: list[tuple[int, int, int]] = []

    def on_play(self, run: Run, played: int, wanted: int) -> None:
        self.seen.append((run.steps, played, wanted))
        self.function(run, played, wanted)


def rows(run: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.dir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        (["env=CartPole-v1"], None),  # ends after 500 of its own
        (["env=CartPole-v1", "eval.max_episode_steps=100"], 100),
        (["env=CartPole-v1", "eval.max_episode_steps=900"], None),
        (["env=CliffWalking-v1"], 10_000),
        (["env=CliffWalking-v1", "env.time_limit=90"], None),
        (["env=CliffWalking-v1", "eval.max_episode_steps=null"], None),
        (["env=minigrid_empty", "network=cnn_small"], None),  # ends by itself
        (["env=minigrid_empty", "network=cnn_small", "eval.max_episode_steps=9"], 9),
        (["env=atari", "network=cnn"], None),
        (["env=atari", "network=cnn", "eval.max_episode_steps=27_000"], None),  # 108,000 frames
        (["env=atari", "network=cnn", "eval.max_episode_steps=4_500"], 4_500),
    ],
)
def test_who_ends_the_episodes_of_evaluations(words: list[str], limit: int | None) -> None:
    pytest.importorskip("minigrid" if "minigrid" in words[0] else "ale_py")
    assert episode_limit(load(words)) == limit


def test_endless_episodes_are_cut_counted_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*SMALL, ENDLESS, "num_envs=2", "total_steps=400", "eval.interval_steps=100")
    watcher = Watcher()
    folder = str(tmp_path / "run")
    run = train(
        *words, "eval.max_episode_steps=70", "eval.episodes=3", run_dir=folder, callbacks=[watcher]
    )
    evaluated = [row for row in rows(run) if "evaluate/return" in row]
    assert len(evaluated) >= 3
    for row in evaluated:
        assert (row["evaluate/return"], row["evaluate/length"]) == (70, 70)
        assert row["evaluate/cut"] == row["evaluate/episodes"] == 3
    (said,) = [text for text in caplog.messages if "cut" in text]
    assert said.startswith("3 of 3 episodes of an evaluation were cut after 70 steps (eval.max_")
    assert "env.time_limit=N" in said
    assert {wanted for steps, _, wanted in watcher.seen if steps < 400} == {3}
    # half of the 400 steps of training; after 2 x 64 rows both environments were in their second
    assert run.summary["evaluate/episodes"] == run.summary["evaluate/cut"] == 4
    assert exit_codes.exit_code(main.neuraxis, ["evaluate", folder, "--episodes", "2"]) == 0
    told = capsys.readouterr()
    assert "70 ± 0 over 2 episodes, 2 of them cut\n" in told.out
    assert "note: 2 of 2 episodes of an evaluation were cut after 70" in told.err


def test_an_episode_that_ends_in_time_is_not_cut(tmp_path: Path) -> None:
    words = (*SMALL, registered("evaluator/Short-v0", lambda: Truncation(limit=9)), "num_envs=2")
    run = train(*words, "total_steps=64", run_dir=str(tmp_path / "run"))
    assert (run.summary["evaluate/cut"], run.summary["evaluate/length"]) == (0, 9)


def test_the_final_evaluation_is_in_proportion_to_the_training(tmp_path: Path) -> None:
    """100 episodes of 1,000 steps after 256 steps of training were 390 times as many."""
    env = registered("evaluator/Long-v0", lambda: Truncation(limit=1_000), max_episode_steps=1_000)
    words = (*SMALL, env, "num_envs=2", "total_steps=256", "eval.interval_steps=0")
    run = train(*words, run_dir=str(tmp_path / "run"))
    assert run.summary["evaluate/episodes"] == 2, "those that are open are played to their end"
    assert run.summary["evaluate/return"] == run.summary["evaluate/length"] == 1_000
    exact = train(*words, "eval.final_episodes=3", run_dir=str(tmp_path / "exact"))
    assert exact.summary["evaluate/episodes"] == 3, "a number is taken at its word"


def test_evaluations_in_training_are_in_proportion_to_the_steps_between_them(
    tmp_path: Path,
) -> None:
    env = registered("evaluator/Brief-v0", lambda: Truncation(limit=100), max_episode_steps=100)
    words = (*SMALL, env, "num_envs=2", "total_steps=512", "eval.final_episodes=1")
    run = train(*words, "eval.interval_steps=256", run_dir=str(tmp_path / "run"))
    played = [row["evaluate/episodes"] for row in rows(run) if "evaluate/episodes" in row]
    assert len(played) == 3 and {*played} == {2}, "of ten; 128 steps are for two that are open"
    exact = (*words, "eval.interval_steps=256", "eval.episodes=3")
    run = train(*exact, run_dir=str(tmp_path / "exact"))
    assert {row["evaluate/episodes"] for row in rows(run) if "evaluate/episodes" in row} == {3}


def test_the_default_cadence_is_in_proportion_to_rollouts_and_run() -> None:
    def both(total_steps: int, rollout_steps: int) -> list[int]:
        cfg = load([f"total_steps={total_steps}"])
        return [interval("eval", cfg, rollout_steps), interval("save", cfg, rollout_steps)]

    assert both(100_000, 8 * 128) == [10_000, 50_000]
    assert both(1_000_000, 8 * 128) == [50_000, 50_000]  # 20 evaluations, not 100
    # num_envs=512, n_steps=128: an evaluation of each rollout was 18 % of the time
    assert both(1_000_000, 512 * 128) == [327_680, 327_680]
    configs = [load([f"eval.interval_steps={wanted}"]) for wanted in (100, 0)]
    assert [interval("eval", cfg, 512 * 128) for cfg in configs] == [100, 0]


@pytest.mark.parametrize(
    ("pressed", "after", "status"),
    [
        (signal.SIGINT, 4, "finished"),
        (signal.SIGINT, 0, "interrupted"),  # it has nothing
        (signal.SIGTERM, 4, "interrupted"),
    ],
)
def test_ctrl_c_ends_the_final_evaluation_with_what_it_has(
    pressed: int, after: int, status: str, tmp_path: Path
) -> None:
    def press(run: Run, played: int, wanted: int) -> None:
        if run.steps >= 128 and played >= after:
            os.kill(os.getpid(), pressed)

    env = registered("evaluator/Medium-v0", lambda: Truncation(limit=100), max_episode_steps=100)
    words = (*SMALL, env, "num_envs=2", "total_steps=128", "eval.interval_steps=0")
    session = prepare(load([*words, "eval.final_episodes=50", f"run_dir={tmp_path / 'run'}"]))
    watcher = Watcher(press)
    run = session.run([watcher])
    assert run.summary["status"] == status
    assert watcher.seen[0] == (run.steps, 0, 50)
    if status == "finished":
        assert run.summary["evaluate/episodes"] == watcher.seen[-1][1] == 4
        assert run.summary["evaluate/return"] == 100
        assert run.summary["reason"] == "Ctrl-C in the final evaluation, after 4 episodes"
        assert [row["final/episodes"] for row in rows(run) if "final/episodes" in row] == [4]
    else:
        assert "evaluate/episodes" not in run.summary


def test_the_end_has_a_score_of_the_newest_weights_and_one_of_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([10.0, 9.0, 3.0, 5.0])
    newest = {"evaluate/return_std": 0.0, "evaluate/length": 1.0, "evaluate/episodes": 1}
    monkeypatch.setattr(Evaluator, "newest", lambda *_: {"evaluate/return": next(scores), **newest})
    words = (*SMALL, "env=CartPole-v1", "num_envs=2", "total_steps=96", "eval.interval_steps=32")
    run = train(*words, "eval.final_episodes=4", f"run_dir={tmp_path / 'run'}", "seed=3")
    played = [row["steps"] for row in rows(run) if "evaluate/return" in row]
    assert run.summary["best/steps"] == played[1] < played[-1] == run.summary["steps"]
    assert played[0] == 0, "where the curve begins; no policy to choose"
    for which, name in (("last", "evaluate"), ("best", "best")):
        policy, seed = load_policy(run.dir, which), evaluation_seed(3, 2)
        expected = evaluate(policy, run.cfg.env, 4, seed, num_envs=2)
        for key, value in expected.items():
            assert run.summary[key.replace("evaluate", name)] == value
    (last,) = (row for row in rows(run) if "final/return" in row)
    assert last["final/return"] == run.summary["evaluate/return"]
    assert last["best/return"] == run.summary["best/return"]


def test_newest_weights_that_are_the_best_are_played_once(tmp_path: Path) -> None:
    watcher = Watcher()
    words = (*SMALL, "env=CartPole-v1", "num_envs=2", "total_steps=64", "eval.interval_steps=0")
    session = prepare(load([*words, "eval.final_episodes=2", f"run_dir={tmp_path / 'run'}"]))
    run = session.run([watcher])
    assert [seen[1] for seen in watcher.seen].count(0) == 1
    assert run.summary["best/return"] == run.summary["evaluate/return"]
    assert run.summary["best/steps"] == run.summary["steps"]
