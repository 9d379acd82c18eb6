"""Sweeps: what is tried, what is refused, and that a trial's runs are those of `neuraxis train`."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuraxis.configs import load
from neuraxis.configs.groups import choices
from neuraxis.configs.text import dump
from neuraxis.configs.words import typed
from neuraxis.training.analysis.compare import compare
from neuraxis.training.cli import exit_codes, main
from neuraxis.training.session import prepare
from neuraxis.training.storage import checkpoint_folder
from neuraxis.training.storage.metrics import Busy, MetricsFile
from neuraxis.training.storage.stored_run import read
from neuraxis.training.sweeps import copies, sweep
from neuraxis.training.sweeps.advance import advance
from neuraxis.training.sweeps.ranges import Parameters, Range, SweepConfig, load_sweep, parse_sweep
from neuraxis.training.sweeps.trials import Ended, Sweep, Trial, ranked

from .test_resume import lines

SHORT = (
    *("wandb.mode=disabled", "device=cpu", "num_envs=4", "agent.n_steps=16", "agent.batch_size=32"),
    *("agent.n_epochs=2", "eval.interval_steps=200", "eval.episodes=2", "eval.final_episodes=2"),
    *("log_interval_steps=40", "checkpoint.interval_steps=150", "total_steps=600"),
)
RATES = {"agent.learning_rate": {"loguniform": [1e-4, 1e-2]}}


def config(**fields: Any) -> SweepConfig:
    return parse_sweep({"parameters": RATES} | fields)


def made(folder: Path, **fields: Any) -> Sweep:
    """A sweep of short runs, with its folder."""
    folder.mkdir()
    own = Sweep(folder, SHORT, config(**fields))
    own.write()
    return own


def trained(parameters: Parameters, seed: int, folder: Path) -> list[dict[str, Any]]:
    """What `neuraxis train` writes for the run of a trial."""
    return lines(prepare(load(SHORT, **parameters, seed=seed, run_dir=str(folder))).run().dir)


@pytest.mark.parametrize("name", choices("sweep"))
def test_every_sweep_of_the_repository_loads(name: str) -> None:
    agent = name.partition("_")[0]
    own = load_sweep(name)
    for parameters in own.corners({}):
        load([f"agent={agent}"], **parameters)
    assert len(own.plan(0)) == (0 if own.search == "optuna" else own.size)


def test_words_of_a_sweep_are_read_as_those_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["sweep.trials=2.0", "sweep.parameters.agent.n_epochs.integers=[4.0, 6.0]"]
    words += ["sweep.parameters.agent.clip_range_vf.choice=[None, 0.2]"]
    config = load_sweep("ppo", [typed(word) for word in words])
    assert repr(config.trials) == "2"
    assert repr(config.parameters["agent.n_epochs"].integers) == "(4, 6)"
    assert config.parameters["agent.clip_range_vf"].choice == (None, 0.2)
    made = sweep.create(["sweep=ppo", *words, "run_dir='a #1'", "total_steps=1e5"])
    assert made.folder == tmp_path / "a #1"


@pytest.mark.parametrize(
    "range_",
    [
        Range(choice=(1, "a", None)),
        Range(uniform=(0.123456, 0.123457)),
        Range(loguniform=(1e-4, 1e-2)),
        Range(integers=(3, 5)),
    ],
)
def test_draws_stay_in_their_range_and_reach_its_ends(range_: Range) -> None:
    rng = np.random.default_rng(0)
    drawn = [range_.draw(rng) for _ in range(300)]
    if range_.choice or range_.integers:
        assert set(drawn) == set(range_.choice or (3, 4, 5))
    else:
        assert range_.ends[0] <= min(drawn) and max(drawn) <= range_.ends[1]
    if range_.loguniform:
        assert np.median(np.log10(drawn)) == pytest.approx(-3, abs=0.2)


def test_a_plan_depends_on_the_seed_and_a_longer_one_begins_with_it() -> None:
    assert config(trials=4).plan(7) == config(trials=9).plan(7)[:4] != config(trials=4).plan(8)


def test_a_grid_has_every_combination_once() -> None:
    grid = config(search="grid", parameters={"a": {"choice": [1, 2]}, "b": {"choice": [3, 4]}})
    assert [tuple(point.values()) for point in grid.plan(0)] == [(1, 3), (1, 4), (2, 3), (2, 4)]


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [("none", [100]), ("asha", [10, 30, 90, 100]), ("pbt", [*range(10, 100, 10), 100])],
)
def test_rungs(scheduler: str, expected: list[int]) -> None:
    assert config(scheduler=scheduler, grace_steps=10).rungs(100) == expected


@pytest.mark.parametrize(
    ("words", "every"),
    [
        (["sweep=ppo", "total_steps=1_000_000"], 10_000),
        (["sweep=ppo", "sweep.grace_steps=2_000"], 2_000),
        (["sweep=ppo", "eval.interval_steps=5_000"], 5_000),
        (["sweep=ppo", "sweep.scheduler=none"], "auto"),
    ],
)
def test_a_scheduler_has_an_evaluation_at_each_rung(
    words: list[str], every: int | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sweep.create([*words, "wandb.mode=disabled"]).base().eval.interval_steps == every


FILE = "own.yaml"
BAD = [
    ([], {}, "sweep=NAME: missing (choices: dqn_optuna, ppo"),
    (["sweep=pppo"], {}, "sweep=pppo: no such sweep; did you mean ppo?"),
    (["sweep=ppo", "sweep.trails=3"], {}, "trails=3: unknown key; did you mean trials?"),
    (["sweep=ppo", "sweep.seeds=0"], {}, "seeds=0: expected an integer greater than 0"),
    (["sweep=ppo", "agent.gamma=0.9"], {}, "agent.gamma=0.99: given twice (before: 0.9)"),
    (["sweep=ppo", "eval.interval_steps=20_000"], {}, "sweep.grace_steps=10000: expected at least"),
    (["sweep=ppo", "total_steps=10_000"], {}, "sweep.grace_steps=10000: expected less than"),
    (["sweep=ppo", "ray.workers=2"], {}, "ray.workers=2: expected 0 in a sweep"),
    (["sweep=ppo", "learner.count=2"], {}, "learner.count=2: expected 1 in a sweep"),
    (["sweep=ppo", "network=lstmm"], {}, "network=lstmm: no such network; did you mean lstm?"),
    (
        ["sweep=ppo_grid", "sweep.parameters.agent.gamma.choice=[0.9,1.5]"],
        {},
        "agent.gamma=1.5: expected a number from 0 to 1",
    ),
    ([], {"agent.learning_rat": {"uniform": [0.1, 0.2]}}, "did you mean agent.learning_rate?"),
    ([], {"agent.learning_rate": {"uniform": [-1, 2.0]}}, "agent.learning_rate=-1.0: expected"),
    ([], {"agent.gamma": {"uniform": [0.9, 0.8]}}, "uniform=[0.9, 0.8]: expected [LOW, HIGH <"),
    ([], {"agent.gamma": {"normal": [0.9, 0.8]}}, "normal=[0.9, 0.8]: unknown key"),
    ([], {"agent.gamma": {}}, "parameters.agent.gamma: expected one of choice, uniform"),
    ([], {"seed": {"choice": [1, 2]}}, "seed: every trial has the same, or its own"),
    ([], {"network": {"choice": ["mlp", "lstmm"]}}, "network=lstmm: no such network"),
    (["sweep.search=grid"], RATES, "search=grid: expected agent.learning_rate to be a choice"),
    (["sweep.scheduler=pbt"], {"agent.n_steps": {"integers": [8, 9]}}, "fractional value"),
    (["sweep.scheduler=pbt", "sweep.search=optuna"], RATES, "scheduler=pbt draws its values"),
]


@pytest.mark.parametrize(("words", "parameters", "said"), BAD)
def test_what_cannot_be_is_refused_at_the_start(
    words: list[str],
    parameters: dict[str, Any],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if parameters:
        Path(FILE).write_text(dump({"parameters": parameters}))
        words = [*words, f"sweep={FILE}"]
    assert exit_codes.exit_code(main.neuraxis, ["sweep", *words]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and said in err and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ([FILE] if parameters else [])


def test_optuna_is_asked_for_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "optuna" else there(name)
    )
    with pytest.raises(ValueError, match=r"pip install 'neuraxis\[optuna\]'"):
        sweep.check(Sweep(tmp_path, SHORT, config(search="optuna")), "mine")


def test_a_trial_in_stretches_is_the_runs_that_train_makes(tmp_path: Path) -> None:
    """Law 5 for sweeps: rungs change nothing, and reaching one twice does not either."""
    own = made(tmp_path / "sweep", seeds=2, scheduler="asha", grace_steps=200)
    parameters = {"agent.learning_rate": 2e-3}
    trial = Trial.create(own, 0, parameters)
    half_made = trial.place / "s1" / ".config.yaml.tmp"  # a process was killed as it began the run
    half_made.parent.mkdir()
    half_made.write_text("agent:")
    for rung in own.config.rungs(600):
        score = advance(trial, own, rung)
        assert score == advance(trial, own, rung)
        runs = [read(trial.place / f"s{seed}") for seed in (0, 1)]
        assert score == sum(run.score("evaluate/return") or 0.0 for run in runs) / 2
        assert {run.status for run in runs} == {"finished" if rung == 600 else "interrupted"}
    for seed in (0, 1):
        assert lines(trial.place / f"s{seed}") == trained(parameters, seed, tmp_path / f"s{seed}")


def test_a_run_waits_until_the_worker_of_a_killed_sweep_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = made(tmp_path / "sweep", seeds=1, scheduler="asha", grace_steps=200)
    trial = Trial.create(own, 0, {"agent.learning_rate": 2e-3})
    advance(trial, own, 200)
    worker = MetricsFile(trial.place / "s0" / "metrics.jsonl")
    monkeypatch.setattr("neuraxis.training.sweeps.advance.LEFTOVER_SECONDS", 0.2)
    with pytest.raises(Busy, match="s0: another process is training in this run"):
        advance(trial, own, 600)
    monkeypatch.setattr("neuraxis.training.sweeps.advance.LEFTOVER_SECONDS", 60)
    threading.Timer(0.5, worker.close).start()
    advance(trial, own, 600)
    assert read(trial.place / "s0").status == "finished"


def test_a_copy_goes_on_from_the_other_trial_with_its_own_values(tmp_path: Path) -> None:
    own = made(tmp_path / "sweep", seeds=2, scheduler="pbt", grace_steps=200)
    good = Trial.create(own, 0, {"agent.learning_rate": 2e-3})
    bad = Trial.create(own, 1, {"agent.learning_rate": 1e-4})
    for trial in (good, bad):
        trial.scores.append((200, advance(trial, own, 200)))
        trial.write()
    copies.export(good, tmp_path / "kept")
    copies.continue_from(bad, own, {"agent.learning_rate": 3e-3}, tmp_path / "kept")
    copy = Trial.open(bad.folder)
    assert (copy.scores, copy.origin) == (good.scores, "trial_00 at 200")
    assert copy.name == bad.name and copy.place != bad.place
    before = lines(good.place / "s1")
    kept = [
        checkpoint_folder.chosen(trial.place / "s1/checkpoints", "last") / "state.safetensors"
        for trial in (good, copy)
    ]
    assert kept[0].read_bytes() == kept[1].read_bytes()
    advance(copy, own, 600)
    advance(good, own, 600)
    assert lines(copy.place / "s1")[: len(before)] == before
    assert read(copy.place / "s1").config["agent.learning_rate"] == 3e-3
    assert read(bad.place / "s1").status == "interrupted"
    assert lines(copy.place / "s1") != lines(good.place / "s1")


def test_a_copy_with_the_same_values_is_the_other_trial(tmp_path: Path) -> None:
    own = made(tmp_path / "sweep", scheduler="pbt", grace_steps=200)
    first = Trial.create(own, 0, {"agent.learning_rate": 2e-3})
    first.scores.append((200, advance(first, own, 200)))
    copies.export(first, tmp_path / "kept")
    second = Trial.create(own, 1, {"agent.learning_rate": 1e-4})
    copies.continue_from(second, own, first.parameters, tmp_path / "kept")
    copy = Trial.open(second.folder)
    assert advance(copy, own, 600) == advance(first, own, 600)
    assert lines(copy.place / "s0") == lines(first.place / "s0")


def test_the_best_comes_first_and_is_an_experiment(tmp_path: Path) -> None:
    own = made(tmp_path / "sweep", trials=4)
    lives: list[tuple[Ended, list[tuple[int, float]]]] = [
        *(("failed", [(200, 9.0)]), ("stopped", [(200, 8.0)])),
        ("finished", [(200, 1.0), (600, 3.0)]),
    ]
    for number, (ended, scores) in enumerate(lives):
        rate = {"agent.learning_rate": 10.0**-number}
        Trial(own.folder / f"trial_0{number}", rate, scores, ended).write()
    order = ranked(own.trials(), "max")
    assert [trial.ended for trial in order] == ["finished", "stopped", "failed"]
    best = sweep.write_best(own, order)
    assert best is not None
    expected = own.run_config({"agent.learning_rate": 0.01}, 5, tmp_path)
    for found in (load([f"experiment={best}", "seed=5"]), load(["seed=5"], base=best)):
        kept = {"run_dir": str(tmp_path), "wandb": expected.wandb}
        assert found.model_copy(update=kept) == expected.model_copy(update=kept)


def test_lower_is_better_if_asked(tmp_path: Path) -> None:
    trials = [Trial(tmp_path, {}, [(1, score)], "finished") for score in (2.0, 1.0, 3.0)]
    assert [trial.score for trial in ranked(trials, "min")] == [1.0, 2.0, 3.0]


def test_asha_is_told_the_scores_on_disk(tmp_path: Path) -> None:
    """Who lags behind them is stopped, as it would have been, had the sweep not been killed."""
    from neuraxis.training.sweeps.ray_tune import restored_scheduler

    own = made(tmp_path / "sweep", trials=6, scheduler="asha", grace_steps=200)
    ends: list[Ended] = ["finished", "stopped", "stopped", "stopped", "", ""]
    for number, (ended, score) in enumerate(zip(ends, (9.0, 3.0, 2.0, 1.0, 8.0, 2.5), strict=True)):
        trial = Trial.create(own, number, {"agent.learning_rate": 1e-3})
        trial.scores, trial.ended = [(200, score)], ended
        trial.write()
    restored_scheduler(own, own.trials())
    assert [trial.ended for trial in own.trials()][4:] == ["", "stopped"]


def test_optuna_goes_on_with_what_was_begun_and_draws_anew(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    from neuraxis.training.sweeps.ray_tune import OptunaSearcher

    own = made(tmp_path / "sweep", trials=4, search="optuna")
    first = OptunaSearcher(own, [])
    drawn = [first.suggest(str(number))["trial"] for number in range(2)]
    done, begun = own.trials()
    assert [trial["parameters"] for trial in drawn] == [done.parameters, begun.parameters]
    done.scores, done.ended = [(600, 5.0)], "finished"
    again = OptunaSearcher(own, [done, begun])
    found = [again.suggest(str(number)) for number in range(4)]
    assert [trial["trial"]["name"] for trial in found[:3]] == ["trial_01", "trial_02", "trial_03"]
    assert found[0]["trial"]["parameters"] == begun.parameters
    assert found[1]["trial"]["parameters"] not in (done.parameters, begun.parameters)
    assert found[3] == OptunaSearcher.FINISHED


def test_what_pbt_perturbs_stays_in_its_range() -> None:
    from neuraxis.training.sweeps.ray_tune import clip_to_ranges

    space = config(parameters={"agent.gamma": {"uniform": [0.9, 0.99]}})
    for value, kept in ((0.99 * 1.2, 0.99), (0.9 * 0.8, 0.9), (0.912345, 0.9123)):
        new = {"trial": {"parameters": {"agent.gamma": value}}}
        assert clip_to_ranges(new, space)["trial"]["parameters"]["agent.gamma"] == kept


def test_a_killed_sweep_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program itself: kill -9, --resume; one trial of three diverges, the others go on."""
    monkeypatch.chdir(tmp_path)
    rates = [1e-3, 1e30, 3e-3]
    space = {"search": "grid", "seeds": 2}
    Path(FILE).write_text(dump(space | {"parameters": {"agent.learning_rate": {"choice": rates}}}))
    program = str(Path(sys.executable).with_name("neuraxis"))
    words = [program, "sweep", *SHORT, f"sweep={FILE}", "run_dir=mine"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while not Path("mine/trial_00/s0/checkpoints/last").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
    assert not Path("mine/best.yaml").exists()

    done = subprocess.run([program, "sweep", "--resume", "mine"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "trial_01  failed: loss/" in done.stderr and "Traceback" not in done.stderr
    shown = [line.split()[0] for line in done.stdout.splitlines() if "trial_" in line]
    assert sorted(shown[:2]) == ["trial_00", "trial_02"] and shown[2] == "trial_01"
    trials = Sweep.open("mine").trials()
    ended = [trial.ended for trial in trials]
    assert ended == ["finished", "failed", "finished"], [trial.reason for trial in trials]
    assert not Path("mine/.tune").exists()
    for number, seed in ((0, 0), (2, 1)):
        expected = trained({"agent.learning_rate": rates[number]}, seed, Path(f"train{number}"))
        assert lines(Path(f"mine/trial_0{number}/s{seed}")) == expected

    about = json.loads(Path("mine/trial_02/s1/meta.json").read_text())
    assert about["command"] == f"neuraxis sweep --resume {Path('mine').absolute()}"

    comparison = compare(["mine"])
    assert {row.group: row.seeds for row in comparison.rows} == {
        "learning_rate=0.001": 2,
        "learning_rate=0.003": 2,
    }
    before = {path: path.stat().st_mtime_ns for path in Path("mine").rglob("metrics.jsonl")}
    trial = json.loads(Path("mine/trial_01/trial.json").read_text())
    Path("mine/trial_01/trial.json").write_text(json.dumps(trial | {"ended": "stopped"}))
    assert exit_codes.exit_code(main.neuraxis, ["sweep", "--resume", "mine"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}, "nothing was left to do"
    out = capsys.readouterr().out
    assert "neuraxis train experiment=mine/best.yaml seed=2 " in out, "seeds 0 and 1 chose it"
