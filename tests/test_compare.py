"""`neuraxis compare`: statistics, groups, refusals, and what it prints, writes and logs."""

import csv
import html as html_text
import html.parser
import io
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
import yaml
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from plotly import graph_objects
from plotly.offline import get_plotlyjs
from scipy import stats

from neuraxis.core.errors import RunError
from neuraxis.training import train
from neuraxis.training.analysis import (
    charts,
    figures,
    grouping,
    page,
    pictures,
    report,
    statistics,
)
from neuraxis.training.analysis.compare import compare
from neuraxis.training.analysis.select import select
from neuraxis.training.analysis.table import Row
from neuraxis.training.cli import exit_codes, main
from neuraxis.training.storage import stored_run

from .runs import write_group, write_run
from .wandb_server import ENTITY, Server, serving

CARTPOLE = ([500.0, 480, 495, 350, 500], [450.0, 490, 300, 310, 470])
ACROBOT = ([-80.0, -85, -90, -110, -82], [-100.0, -84, -95, -99, -88])
# rliable 1.2.0 of these scores (get_interval_estimates, 50,000 and for P 5,000 resamples; over both
# environments scaled to [0, 1] in each): value, low, high.
RLIABLE = {
    ("iqm", "cartpole", 0): (491.667, 393.333, 500.0),
    ("iqm", "cartpole", 1): (410.0, 303.333, 483.333),
    ("mean", "cartpole", 0): (465.0, 406.0, 499.0),
    ("mean", "cartpole", 1): (404.0, 334.0, 474.0),
    ("improvement", "cartpole", 0): (0.84, 0.52, 1.0),
    ("iqm", "both", 0): (0.88472, 0.55278, 0.97639),
    ("iqm", "both", 1): (0.58889, 0.28333, 0.80),
    ("mean", "both", 0): (0.75583, 0.5325, 0.93583),
    ("improvement", "both", 0): (0.76, 0.52, 0.96),
}
PICTURES = (
    "scores",
    "learning_curves",
    "wall_clock",
    "sample_efficiency",
    "performance_profiles",
)


def neuraxis(*words: Any) -> int:
    return exit_codes.exit_code(main.neuraxis, list(map(str, words)))


def rows_of(comparison: Any, environment: str | None = None) -> dict[str, Row]:
    rows = comparison.rows
    return {row.group: row for row in rows if environment in (None, row.environment)}


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """PPO and DQN on CartPole, five seeds each."""
    for agent, scores in zip(("ppo", "dqn"), CARTPOLE, strict=True):
        write_group(tmp_path / agent, scores, f"agent={agent}")
    return tmp_path


@pytest.fixture
def four(two: Path) -> Path:
    """The same agents on Acrobot, too, with another learning rate there."""
    for agent, scores in zip(("ppo", "dqn"), ACROBOT, strict=True):
        words = (f"agent={agent}", "env=Acrobot-v1", "agent.learning_rate=1e-2")
        write_group(two / "acrobot" / agent, scores, *words)
    return two


# --- statistics


@pytest.mark.parametrize(("name", "environments", "group"), RLIABLE)
def test_numbers_equal_rliable(name: str, environments: str, group: int) -> None:
    strata = [CARTPOLE] if environments == "cartpole" else [CARTPOLE, ACROBOT]
    scores = np.array(strata)  # [environment, group, seed]
    if environments == "both":
        low, high = scores.min((1, 2), keepdims=True), scores.max((1, 2), keepdims=True)
        scores = (scores - low) / (high - low)
    value, low, high = RLIABLE[name, environments, group]
    if name == "improvement":  # another interval, see `test_an_improvement_that_is_certain...`
        found = statistics.estimate_improvement([*scores[:, 0]], [*scores[:, 1]])
        assert_allclose(found, (value, low, high), atol=0.06)
        return
    statistic, samples = getattr(statistics, name), [*scores[:, group]]
    found = statistics.estimate(statistic, samples)
    assert_allclose(found.value, value, rtol=1e-4)
    slack = 0.05 * (high - low)  # ends jump from atom to atom
    for outside, ends in (
        (0.05, (low, high)),  # rliable's percentiles, by which the test's own draws are checked
        ({1: 0.0019082, 2: 0.0099319}[len(samples)], found[1:]),  # Hesterberg's of 4 and of 8
    ):
        random = np.random.default_rng(1)
        draws = [own[random.integers(0, 5, (50_000, 5))] for own in samples]
        expected = np.quantile(statistic(*draws), [outside / 2, 1 - outside / 2])
        assert_allclose(ends, expected, atol=slack)


def test_the_iqm_is_the_mean_of_the_middle_half() -> None:
    assert statistics.iqm(np.array([100.0, 1, 2, 3, -50])) == 2  # 1, 2, 3 stay
    assert statistics.iqm(np.array([0.0, 1, 5])) == 2  # a quarter of three is none
    assert statistics.iqm(np.arange(4.0), 100 + np.arange(4.0)) == 51.5  # 2, 3, 100, 101


def test_improvement_counts_pairs_and_half_of_the_ties() -> None:
    x, y = np.array([1.0, 2, 3]), np.array([2.0, 2, 4])
    # 1 beats none; 2 ties with two; 3 beats two: (0 + 2 / 2 + 2) / 9
    assert_allclose(statistics.improvement(x, y), 3 / 9)
    assert_allclose(statistics.improvement(y, x), 6 / 9)
    easy, hard = np.array([1.0, 1]), np.array([0.0, 0])
    assert_allclose(statistics.improvement(x, easy, y, hard), (3 / 9 + 1) / 2)


def test_resampling_stays_within_an_environment() -> None:
    """Seeds that agree leave nothing uncertain, however far the environments are apart."""
    strata = [np.full(5, 0.0), np.full(5, 100.0)]
    assert statistics.estimate(statistics.mean, strata) == (50, 50, 50)


def test_few_seeds_have_no_interval() -> None:
    for strata in ([np.ones(1)], [np.ones(5), np.ones(4)]):
        value, low, high = statistics.estimate(statistics.iqm, strata)
        assert value == 1 and math.isnan(low) and math.isnan(high)
        value, low, high = statistics.estimate_improvement(strata, strata)
        assert value == 0.5 and math.isnan(low) and math.isnan(high)


def test_an_improvement_that_is_certain_in_the_sample_is_not_certain() -> None:
    low, high = np.arange(5.0), 10 + np.arange(5.0)
    value, begin, end = statistics.estimate_improvement([high], [low])
    assert (value, end) == (1, 1) and 0.5 < begin < 0.7
    value, begin, end = statistics.estimate_improvement([low], [high])
    assert (value, begin) == (0, 0) and 0.3 < end < 0.5
    # Newcombe (2006), part 2, by hand: 0.5 of 5 and 5 has p (1 - p) (1 + 8 / 3) / 25 as variance
    middle = statistics.estimate_improvement([low], [low])
    p = middle.low
    own = 1 + 4 * ((1 - p) / (2 - p) + p / (1 + p))
    assert_allclose(0.5 - p, 1.959964 * (p * (1 - p) * own / 25) ** 0.5, rtol=1e-6)
    assert_allclose(middle.low + middle.high, 1)


def test_intervals_hold_the_true_value() -> None:
    """About as often as they say; `benchmarks/verdicts.py` measures it finely."""
    random = np.random.default_rng(0)
    held = 0
    for scores in random.normal(size=(300, 5)):
        low, high = statistics.interval(statistics.iqm, [scores], 999)
        held += low <= 0 <= high
    assert 0.90 * 300 <= held, "percentiles that are not expanded hold it in 88 %"


def test_equal_groups_are_seldom_told_apart() -> None:
    """Ten equal groups of five seeds; intervals that are apart are found in 27 % of reports."""
    random = np.random.default_rng(0)
    told = 0
    for groups in random.normal(size=(200, 10, 5)):
        first, *others = sorted(groups, key=statistics.iqm, reverse=True)
        told += any(statistics.p_above([first], [other], 10) < 0.05 for other in others)
    assert told <= 0.08 * 200


def test_the_p_value_of_two_groups_is_that_of_welchs_test() -> None:
    x, y = np.array([1.0, 2, 4, 5, 9]), np.array([1.0, 0, 2, 2, 3])
    welch: Any = stats.ttest_ind(x, y, equal_var=False)
    assert_allclose(statistics.p_above([x], [y], 2), welch.pvalue, rtol=1e-4)
    z = np.array([3.0, 3, 4, 6, 5])
    games_howell = stats.tukey_hsd(x, y, z, equal_var=False).pvalue[0, 1]
    assert_allclose(statistics.p_above([x], [y], 3), games_howell, rtol=1e-4)
    assert statistics.p_above([y], [x], 2) == 1, "it is below"
    assert statistics.p_above([np.ones(5)], [np.zeros(5)], 2) == 0
    for constant in (1.0, 0.02, 0.07, 99.9):  # neither mean nor deviation may round
        same = np.full(5, constant), np.full(10, constant)
        assert statistics.p_above([same[0]], [same[1]], 2) == 1
        assert statistics.p_above([same[1]], [same[0]], 2) == 1
    twice = 2 * stats.t.sf(welch.statistic * 2**0.5, 2 * welch.df)
    assert_allclose(statistics.p_above([x, x], [y, y], 2), twice, rtol=1e-4)


def test_the_same_runs_give_the_same_table(two: Path) -> None:
    assert compare([two]).rows == compare([two]).rows


# --- the table


def test_the_table(two: Path) -> None:
    comparison = compare([two / "dqn", two / "ppo"])
    ppo, dqn = comparison.rows  # the higher IQM first
    assert (ppo.group, dqn.group, ppo.environment) == ("ppo", "dqn", "CartPole-v1")
    assert (ppo.seeds, ppo.steps, ppo.seconds, ppo.cpu_seconds) == (5, 3_000, 6, 3)
    assert_allclose(ppo.iqm.value, (480 + 495 + 500) / 3)
    assert_allclose((ppo.mean.value, ppo.median.value), (465, 495))
    assert ppo.improvement is None
    assert dqn.improvement is not None
    assert_allclose(dqn.improvement.value, 0.84)


def test_environments_are_strata(four: Path) -> None:
    comparison = compare([four], mixed=True)
    assert [row.environment for row in comparison.rows[::2]] == [
        "Acrobot-v1",
        "CartPole-v1",
        "all 2, scaled",
    ]
    rows = rows_of(comparison, "all 2, scaled")
    assert_allclose(rows["ppo"].iqm.value, RLIABLE["iqm", "both", 0][0], rtol=1e-4)
    assert_allclose(rows["dqn"].mean.value, 0.54, rtol=1e-4)
    assert rows["dqn"].improvement is not None
    assert_allclose(rows["dqn"].improvement.value, 0.76)
    assert rows["ppo"].seeds == 5


def test_a_group_that_lacks_an_environment_is_not_in_the_whole(four: Path) -> None:
    shutil.rmtree(four / "acrobot" / "dqn")
    assert rows_of(compare([four], mixed=True), "all 2, scaled") == {}, (
        "nothing to compare PPO with"
    )
    for env in ("CartPole-v1", "Acrobot-v1"):
        write_group(four / "lstm" / env, [1, 2], "network=lstm", f"env={env}")
    rows = rows_of(compare([four], by=["agent.name", "network"], mixed=True), "all 2, scaled")
    assert sorted(rows) == ["ppo mlp", "ppo mlp-lstm"]
    assert rows["ppo mlp-lstm"].seeds == 2


def test_another_metric_is_the_newest_of_the_rows(two: Path) -> None:
    assert compare([two / "ppo"], "episode/return").rows[0].mean == (2.5, 2.5, 2.5)


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [
        (([10, 10, 11, 11, 12], [1, 1, 2, 2, 3]), "ppo is above dqn (p = 1.4e-07)."),
        (([10, 10, 11, 11, 12], [10, 9, 11, 12, 10]), "cannot tell ppo from dqn (p = 0.55)."),
        (([10, 10, 11, 11], [1, 1, 2, 2, 3]), "cannot tell ppo from dqn (4 seeds, 5 are needed)"),
        (([10], [1, 1, 2, 2, 3]), "cannot tell ppo from dqn (1 seed, 5 are needed)"),
    ],
)
def test_what_can_be_decided(scores: Any, verdict: str, tmp_path: Path) -> None:
    for agent, own in zip(("ppo", "dqn"), scores, strict=True):
        write_group(tmp_path / agent, own, f"agent={agent}")
    (found,) = compare([tmp_path]).verdicts
    assert found.startswith(f"CartPole-v1: {verdict}")


def test_a_verdict_speaks_of_every_group(tmp_path: Path) -> None:
    scores = {"lstm": [9, 9, 8, 9, 10], "gru": [8, 9, 10, 9, 8], "cnn": [1, 2, 1, 2, 1]}
    for network, own in (scores | {"mlp": [5, 5], "transformer": [4, 4]}).items():
        write_group(tmp_path / network, own, f"network={network}")
    assert compare([tmp_path]).verdicts == [
        "CartPole-v1: mlp-lstm is above cnn (p = 8.6e-07), among 5 groups.",
        "CartPole-v1: cannot tell mlp-lstm from mlp-gru (p = 0.99), "
        "mlp (2 seeds, 5 are needed), mlp-transformer (2 seeds, 5 are needed).",
    ]


# --- which runs, and in which groups


def test_what_does_not_count_makes_no_group(tmp_path: Path) -> None:
    words = ["seed=1", "wandb.project=other", "wandb.tags=[a]", "log_interval_steps=7"]
    words += ["env.vectorization=async", "env.processes=1"]
    write_run(tmp_path / "a", 1.0, "env.vectorization=async")
    write_run(
        tmp_path / "b",
        2.0,
        *words,
        "profile=true",
        "checkpoint.keep=3",
        "eval.video_interval_steps=9",
    )
    (row,) = compare([tmp_path]).rows
    assert (row.group, row.seeds) == ("ppo mlp", 2)


def test_runs_that_start_from_the_run_of_their_own_seed_are_one_group(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / f"tuned/{seed}", 2.0, f"seed={seed}", f"init.from=pre/dqn-s{seed}")
        write_run(tmp_path / f"other/{seed}", 3.0, f"seed={seed}", f"init.from=pre/ppo-s{seed}")
        write_run(tmp_path / f"plain/{seed}", 1.0, f"seed={seed}")
    found = {row.group: row.seeds for row in compare([tmp_path]).rows}
    assert found == {"from=pre/ppo-s*": 2, "from=pre/dqn-s*": 2, "from=null": 2}
    write_run(tmp_path / "tuned/2", 2.0, "seed=2", "init.from=pre/dqn-s1")
    assert len(compare([tmp_path]).rows) == 4, "of another seed"


@pytest.mark.parametrize(
    ("words", "label"),
    [
        ("agent.learning_rate=3e-3", "learning_rate=0.003"),
        ("agent=dqn", "dqn"),
        ("network=lstm", "mlp-lstm"),
        ("network.blocks.0.sizes=[32]", "sizes=[32]"),
        ("agent.normalize_rewards=true", "normalize_rewards=true"),
        ("env.frame_stack=4", "frame_stack=4"),
        ("device=cpu", "device=cpu"),
    ],
)
def test_every_other_setting_does(words: str, label: str, tmp_path: Path) -> None:
    write_run(tmp_path / "a", 1.0)
    write_run(tmp_path / "b", 2.0, words)
    assert compare([tmp_path]).rows[0].group == label


def test_labels_name_no_more_than_it_takes() -> None:
    configs = [
        {"agent.name": agent, "agent.gamma": gamma, "agent.clip": clip, "seed": seed}
        for seed, (agent, gamma, clip) in enumerate(
            [("ppo", 0.9, 1), ("ppo", 0.99, 2), ("dqn", 0.9, 3), ("ppo", 0.9, 1)]
        )
    ]
    keys = grouping.differing(configs)
    assert keys == ["agent.name", "agent.gamma", "agent.clip"]
    assert grouping.labels(configs, keys) == [
        "ppo gamma=0.9",
        "ppo gamma=0.99",
        "dqn gamma=0.9",
        "ppo gamma=0.9",
    ]


def test_a_setting_that_an_older_version_lacks_is_no_difference() -> None:
    assert grouping.differing([{"a": 1}, {"a": 1, "new": 0}]) == []
    assert grouping.differing([{"env.id": "X"}, {"env.id": "X", "env.kwargs.g": 9}]) != []


def test_runs_from_before_ray_had_no_workers() -> None:
    configs = [
        {"agent.name": "ppo"} | more for more in ({}, {"ray.workers": 0}, {"ray.workers": 4})
    ]
    assert grouping.differing(configs) == ["ray.workers"]
    assert grouping.labels(configs, ["ray.workers"]) == ["workers=0", "workers=0", "workers=4"]
    assert grouping.differing(configs[:2]) == []


def test_grouping_by_a_key_says_what_it_mixes(four: Path) -> None:
    write_run(four / "other", 400.0, "seed=5", "agent.learning_rate=1e-2")
    comparison = compare([four], by=["agent.name"], mixed=True)
    assert comparison.groups == ["dqn", "ppo"]
    assert rows_of(comparison, "CartPole-v1")["ppo"].seeds == 6
    assert "ppo in CartPole-v1: its runs differ in agent.learning_rate, too." in comparison.notes


def test_an_environments_setting_may_be_what_is_compared(tmp_path: Path) -> None:
    write_run(tmp_path / "seen", 500.0)
    write_run(tmp_path / "masked", 100.0, "env.mask_velocity=true")
    with pytest.raises(ValueError, match="runs of 2 environments"):
        compare([tmp_path])
    rows = compare([tmp_path], by=["env.mask_velocity"]).rows
    assert [row.group for row in rows] == ["mask_velocity=false", "mask_velocity=true"]
    assert {row.environment for row in rows} == {"CartPole-v1"}


def test_runs_that_have_not_finished_are_left_out_and_named(two: Path) -> None:
    write_run(two / "a", None, "seed=8", status="")
    write_run(two / "b", None, "seed=9", status="failed")
    comparison = compare([two])
    assert rows_of(comparison)["ppo"].seeds == 5
    first, second = comparison.notes
    assert first == f"Left out, not finished: {two}/a (unfinished), {two}/b (failed)."
    assert "looks better than it is" in second


def test_a_seed_counts_once(two: Path) -> None:
    write_run(two / "z", 0.0, "seed=0")
    comparison = compare([two, two])  # given twice, too
    assert rows_of(comparison)["ppo"].seeds == 5
    assert_allclose(rows_of(comparison)["ppo"].mean.value, 365)  # 0 in place of 500
    assert comparison.notes == [
        f"Left out, since a later run has its seed and settings: {two}/ppo/s0."
    ]


def test_other_budgets_are_told(two: Path) -> None:
    write_run(two / "long", 1.0, "agent.gamma=0.9", curve=range(9))
    (note,) = compare([two]).notes
    assert note.startswith("CartPole-v1: the groups had different total_steps: ")
    assert "gamma=0.9 9,000" in note


def test_steps_that_differ_by_more_than_a_rollout_are_told(two: Path) -> None:
    for file in (two / "ppo").rglob("summary.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"steps": 3_400}))
    (note,) = compare([two]).notes
    assert note == "CartPole-v1: the groups took different numbers of steps: dqn 3,000, ppo 3,400."
    for file in (two / "ppo").rglob("summary.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"steps": 3_100}))
    assert compare([two]).notes == []


def test_runs_are_found_at_any_depth_but_not_inside_runs(two: Path) -> None:
    inner = two / "ppo" / "s0" / "wandb" / "offline-run-1" / "files"
    inner.mkdir(parents=True)
    (inner / "config.yaml").write_text("wandb: {}")
    assert len(select([two], "steps").runs) == 10
    assert len(select([two / "ppo", two / "ppo" / "s0", two / "dqn" / "s1"], "steps").runs) == 6


def test_a_line_that_is_cut_off_is_not_read(tmp_path: Path) -> None:
    metrics = write_run(tmp_path, 1.0) / "metrics.jsonl"
    whole = metrics.read_text()
    metrics.write_text(whole + '{"steps": 40')
    assert stored_run.read(tmp_path).curve("evaluate/return").tolist() == [
        [1000, 1],
        [2000, 2],
        [3000, 3],
    ]
    metrics.write_text(whole + '{"steps": 40\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl: damaged, not JSON"):
        stored_run.read(tmp_path)


def test_numbers_that_json_lacks_are_no_scores(tmp_path: Path) -> None:
    with (write_run(tmp_path, 1.0) / "metrics.jsonl").open("a") as file:
        file.write('{"steps": 4000, "evaluate/return": null, "loss/value": null}\n')
    run = stored_run.read(tmp_path)
    assert run.score("loss/value") is None and "loss/value" not in run.metrics
    assert len(run.curve("evaluate/return")) == 3


def test_final_evaluations_that_were_not_whole_are_said(tmp_path: Path) -> None:
    for name, more in {"cut": {"evaluate/cut": 3}, "ended": {"reason": "Ctrl-C"}}.items():
        summary = write_run(tmp_path / name, 1.0, f"seed={len(name)}") / "summary.json"
        summary.write_text(json.dumps(json.loads(summary.read_text()) | more))
    write_run(tmp_path / "whole", 1.0, "seed=9")
    assert compare([tmp_path]).notes == [
        f"Their final evaluation was ended by Ctrl-C: {tmp_path}/ended.",
        f"Their final evaluation cut episodes (eval.max_episode_steps): {tmp_path}/cut.",
    ]


# --- refusals


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["."], "runs of 2 environments: Acrobot-v1 (10), CartPole-v1 (10); "),
        (["nowhere"], "nowhere: no such run"),
        (["pp"], "pp: no such run; did you mean ppo?"),
        (["empty"], "empty: not a run, it has no config.yaml"),
        (["going"], "none of these runs has finished: going (unfinished)"),
        (["ppo", "--metric", "evaluate/retrun"], "evaluate/retrun: not measured by ppo/s0, "),
        (
            ["ppo", "--metric", "a"],
            "a: not measured by ppo/s0, ppo/s1, ppo/s2, ppo/s3 and 1 more (",
        ),
        (["ppo", "--by", "agent.nam"], "--by agent.nam: no run has this setting; did you mean"),
        (["ppo", "--out", "file"], "Invalid value for '--out'"),
        (["ppo", "--wandb", "me/"], "--wandb me/: expected PROJECT or ENTITY/PROJECT"),
        (["wandb:me"], "wandb:me: expected wandb:ENTITY/PROJECT[/GROUP]"),
        ([], "Missing argument"),
    ],
)
def test_wrong_words_exit_2_with_one_line_and_write_nothing(
    words: list[str],
    line: str,
    four: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(four)
    (four / "empty").mkdir()
    (four / "file").write_text("mine")
    if words == ["going"]:
        write_run(four / "going", None, status="")
    assert neuraxis("compare", *words, *(["--out", "new"] if "--out" not in words else [])) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"error: {line}") and err.count("\n") == 1
    assert not Path("new").exists() and Path("file").read_text() == "mine"


def test_mixed_leaves_out_runs_without_the_metric(two: Path) -> None:
    write_run(two / "z", None, "seed=7", curve=())
    with pytest.raises(ValueError, match=r"not measured by .*/z.*; --mixed leaves them out"):
        compare([two])
    comparison = compare([two], mixed=True)
    assert rows_of(comparison)["ppo"].seeds == 5
    assert comparison.notes[0] == f"Left out, without evaluate/return: {two}/z."


# --- curves and what is written


def test_curves_are_joined_where_all_of_them_have_been() -> None:
    grid, values = pictures.resample([np.array([[0, 0], [10, 10]]), np.array([[2, 5], [6, 7]])])
    assert (grid[0], grid[-1]) == (2, 6)
    assert_allclose(values[[0, -1]], [[2, 5], [6, 7]])
    assert_allclose(values[:, 1], 5 + (grid - 2) / 2)
    apart = {name: np.array([[x, 1.0], [x + 1, 2.0]]) for name, x in (("a", 0), ("b", 5))}
    shape = pictures.mean_curve(apart)
    assert shape is not None and shape.runs == apart and shape.middle.shape == (0, 2)


def test_a_single_evaluation_is_a_dot(two: Path) -> None:
    shape = pictures.mean_curve({"a": np.array([[10, 1.0]]), "b": np.array([[10, 3.0]])})
    assert shape is not None
    picture = pictures.Picture("learning_curves", "steps", "score", {"CartPole-v1": {"<g>": shape}})
    looks = {"<g>": pictures.Style("#1f77b4", "solid")}
    axes = Figure().add_subplot()
    charts.draw_lines(axes, picture, {"<g>": shape}, looks)
    points = [(line.get_marker(), np.array(line.get_xydata()).tolist()) for line in axes.lines]
    assert points == [("o", [[10, 1]]), ("o", [[10, 3]]), ("o", [[10, 2]])]
    (panel,) = figures.panels(picture, looks)
    assert [trace["mode"] for trace in panel["data"]] == ["markers"] * 3
    assert all("<b>&lt;g&gt;</b>" in trace["hovertemplate"] for trace in panel["data"])


def test_a_level_is_reached_when_it_is_first_passed() -> None:
    curve = np.array([[10, 1], [20, 5], [30, 2], [40, 9]])
    assert_allclose(
        pictures.first_reached(curve, np.array([0, 1, 3, 5, 6, 10])), [10, 10, 20, 20, 40, np.nan]
    )


class Sources(html.parser.HTMLParser):
    """Collects what a page would load or link to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        loads = ("src", "href", "srcset", "data", "action", "poster")
        self.found += [value or "" for name, value in attrs if name in loads]


def test_the_report_is_one_page_that_loads_nothing(four: Path, capsys: Any) -> None:
    write_run(four / "odd", 1.0, "env=CartPole-v1", "env.kwargs.sutton_barto_reward=<script>")
    out = four / "a" / "report"
    assert neuraxis("compare", four, "--mixed", "--out", out) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {out}/report.html"
    text = (out / "report.html").read_text()
    assert text.count(get_plotlyjs()) == 1 and len(text) < 6e6
    text = text.replace(get_plotlyjs(), "")
    sources = Sources(text)
    assert sources.found == [] and not {"link", "iframe", "img"} & sources.tags
    assert not any(word in text for word in ("url(", "@import", "://", "<script>:"))
    assert "reward=<script>" not in text and "reward=&lt;script&gt;" in text
    assert {file.name for file in out.iterdir()} == {
        "report.html",
        "table.csv",
        *(f"{name}.png" for name in PICTURES),
    }
    assert all((out / f"{name}.png").read_bytes()[:4] == b"\x89PNG" for name in PICTURES)


def test_the_csv_has_every_digit(two: Path) -> None:
    comparison = compare([two])
    lines = list(csv.DictReader(io.StringIO(report.table_csv(comparison.rows))))
    assert [line["group"] for line in lines] == ["ppo", "dqn"]
    for line, row in zip(lines, comparison.rows, strict=True):
        assert float(line["iqm_low"]) == row.iqm.low
        assert float(line["median"]) == row.median.value
    assert lines[0]["improvement"] == lines[0]["p"] == ""
    assert float(lines[1]["p"]) == comparison.rows[1].p


def test_the_best_policies_are_compared_if_asked_for(tmp_path: Path, capsys: Any) -> None:
    folder = write_run(tmp_path / "new", 3.0)
    summary = json.loads((folder / "summary.json").read_text()) | {"best/return": 8.0}
    (folder / "summary.json").write_text(json.dumps(summary | {"best/steps": 1_000}))
    assert neuraxis("compare", tmp_path) == 0
    assert " 3 " in capsys.readouterr().out
    assert neuraxis("compare", tmp_path, "--policy", "best") == 0
    out = capsys.readouterr().out
    assert out.startswith("best/return of 1 run") and " 8 " in out
    assert "<td>3</td><td>8</td>" in page.html(compare([tmp_path]), []).replace("\n", "")
    assert neuraxis("compare", tmp_path, "--policy", "best", "--metric", "steps") == 2
    assert "--policy best: expected a metric evaluate/..., got --metric steps" in (
        capsys.readouterr().err
    )


def test_a_run_from_before_says_what_it_knows_of_each_policy(tmp_path: Path) -> None:
    """Its summary had the best one's score as `evaluate/return`, and its curve the newest one's."""
    folder = write_run(tmp_path / "old", 8.0, curve=(1.0, 9.0, 3.0))
    summary = json.loads((folder / "summary.json").read_text())
    del summary["best/steps"]
    (folder / "summary.json").write_text(json.dumps(summary))
    assert stored_run.read(folder).score("evaluate/return") == 3
    assert stored_run.read(folder).score("best/return") == 8
    write_run(tmp_path / "blind", 8.0, curve=())
    blind = json.loads((tmp_path / "blind" / "summary.json").read_text())
    del blind["best/steps"]
    (tmp_path / "blind" / "summary.json").write_text(json.dumps(blind))
    assert stored_run.read(tmp_path / "blind").score("evaluate/return") == 8


def test_the_terminal_shows_table_verdicts_and_notes(two: Path, capsys: Any) -> None:
    write_run(two / "solo", 1.0, "agent.gamma=0.5", status="failed")
    assert neuraxis("compare", two) == 0
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.strip().startswith("dqn"))
    assert line.split() == [
        *("dqn", "CartPole-v1", "5", "410", "[300,", "490]", "404", "450"),
        *("0.84", "[0.47,", "0.97]", "3,000", "0:06", "0:03"),
    ]
    assert "CartPole-v1: cannot tell ppo from dqn (p = 0.26)." in out
    assert "note: Left out, not finished" in out


def test_the_table_does_not_wait_for_what_it_does_not_need(two: Path) -> None:
    code = (
        "import sys; from neuraxis.training.cli import exit_codes, main;"
        f"assert exit_codes.exit_code(main.neuraxis, ['compare', {str(two)!r}]) == 0;"
        "assert not {'torch', 'matplotlib', 'plotly', 'wandb', 'jinja2'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd="/")


def test_a_single_run_is_shown_without_an_interval(tmp_path: Path, capsys: Any) -> None:
    write_run(tmp_path, 12.5)
    assert neuraxis("compare", tmp_path, "--out", tmp_path / "report") == 0
    out = capsys.readouterr().out
    assert re.search(r"ppo mlp +CartPole-v1 +1 +12.5 +12.5 +12.5 +first +3,000 ", out)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_the_report_opens_in_a_browser(two: Path) -> None:
    """Five pictures; a click on a group hides it in all but the scores, where it has a row."""
    report.write(page.render(compare([two])), two / "report")
    file = two / "report" / "report.html"
    click = """<script>
    document.querySelector("nav [data-group='1'] span").click();
    const seen = id => document.getElementById(id).data.map(trace => trace.visible);
    document.title = JSON.stringify(Object.fromEntries(panels.map(p => [p.id, seen(p.id)])));
    </script>"""
    file.write_text(file.read_text().replace("</html>", f"{click}</html>"))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    done = subprocess.run([*command, file.as_uri()], capture_output=True, text=True, timeout=120)
    assert "<h1>evaluate/return of 10 runs</h1>" in done.stdout
    assert len(re.findall(r'class="[^"]*js-plotly-plot', done.stdout)) == 5
    assert 'data-title="Share' not in done.stdout, "it sends the runs to a server"
    named = re.search("<title>(.*)</title>", done.stdout)
    assert named is not None
    seen = json.loads(html_text.unescape(named[1]))
    assert seen.pop("scores-0") == [True] * 6
    curves = [True] * 8 + [False] * 8  # of each group two for the band, five runs and the mean
    assert seen["learning_curves-0"] == seen["wall_clock-0"] == curves
    assert seen["performance_profiles-0"] == [True] * 3 + [False] * 3


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A comparison of 30 groups."""
    root = tmp_path_factory.mktemp("many")
    for number in range(30):
        write_group(
            root / str(number), [number, number + 1], f"agent.learning_rate={number + 1}e-4"
        )
    return compare([root])


def test_many_groups_stay_readable(many: Any) -> None:
    """Each has a style of its own and its name on the axis of scores; the lines of 12 are drawn."""
    looks = pictures.styles(many.rows)
    assert len(looks) == len(set(looks.values())) == 30
    first = pictures.drawn(many.rows)
    assert first == [row.group for row in many.rows[:12]]
    shown = pictures.pictures(many)
    (scores,) = figures.panels(shown[0], looks)
    assert scores["layout"]["yaxis"]["ticktext"] == list(looks)
    assert "The best 12 of each environment are shown at first, and 18 more are hidden." in re.sub(
        r"\s+", " ", page.html(many, shown)
    )
    (legend,) = [
        [text.get_text() for text in drawn.get_texts()] for drawn in charts_legends(many, shown[1])
    ]
    assert legend == [*first, "and 18 more, which scored less"]


def charts_legends(comparison: Any, picture: pictures.Picture) -> list[Any]:
    """The legends of the picture that is written as PNG."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda figure, *a, **k: found.extend(figure.legends))
        charts.draw(comparison, [picture])
    return found


def test_the_pictures_are_figures_of_plotly(four: Path) -> None:
    """It knows every key and value, and the axis of steps or seconds begins at 0."""
    comparison = compare([four], mixed=True)
    shown = pictures.pictures(comparison)
    assert tuple(picture.name for picture in shown) == PICTURES == tuple(pictures.SENTENCES)
    assert all(re.fullmatch(r"[A-Z][^.]+\.", line) for line in pictures.SENTENCES.values())
    looks = pictures.styles(comparison.rows)
    for picture in shown:
        for panel in figures.panels(picture, looks):
            assert graph_objects.Figure(panel["data"], panel["layout"]).data
            axes = {axis: panel["layout"][f"{axis}axis"].get("rangemode") for axis in "xy"}
            assert [axis for axis, mode in axes.items() if mode] == [*picture.counted]


# --- Weights & Biases


@pytest.fixture(scope="module")
def server_of_the_module() -> Iterator[Server]:
    """One server for all tests, for it takes W&B a while to begin anew."""
    with serving() as server:
        yield server


@pytest.fixture
def server(server_of_the_module: Server) -> Server:
    """The server, with nothing in it."""
    server_of_the_module.clear()
    return server_of_the_module


def test_runs_at_wandb_give_the_table_of_their_folders(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["num_envs=2", "agent.n_steps=32", "agent.batch_size=64", "total_steps=500"]
    small += ["eval.interval_steps=200", "eval.episodes=2", "eval.final_episodes=3"]
    small += ["wandb.mode=online", "wandb.project=project", "env.time_limit=100"]
    for rate in ("1e-3", "1e-1"):
        for seed in (0, 1):
            words = [f"agent.learning_rate={rate}", f"seed={seed}", f"wandb.group=lr-{rate}"]
            train(*small, *words, run_dir=f"runs/{rate}/{seed}")
    assert neuraxis("compare", "runs") == 0
    here = capsys.readouterr().out
    assert neuraxis("compare", f"wandb:{ENTITY}/project") == 0
    assert capsys.readouterr().out == here
    assert "learning_rate=0.1" in here
    mixed = compare(["runs/1e-1", f"wandb:{ENTITY}/project/lr-1e-3"])
    assert rows_of(mixed) == rows_of(compare(["runs"]))
    for run in mixed.cells[mixed.groups[1], "CartPole-v1"]:
        assert run.name.startswith(f"wandb:{ENTITY}/project/") and len(run.rows) > 1


def test_of_steps_that_came_twice_the_later_ones_count(server: Server, tmp_path: Path) -> None:
    """A run that was killed and resumed sends again what W&B cannot cut off."""
    settings = wandb.Settings(silent=True, console="off", reinit="create_new")
    config = {"env": {"id": "CartPole-v1"}, "agent": {"name": "ppo"}, "seed": 0}
    with wandb.init(project="twice", dir=tmp_path, config=config, settings=settings) as run:
        for steps, value in ((10, 1.0), (20, 5.0), (20, 2.0), (30, 3.0)):
            run.log({"steps": steps, "time/seconds": steps / 10, "evaluate/return": value})
        run.summary["status"] = "finished"
    (run,) = select([f"wandb:{ENTITY}/twice"], "evaluate/return").runs
    assert run.curve("evaluate/return").tolist() == [[10, 1], [20, 2], [30, 3]]
    assert (run.status, run.config["agent.name"]) == ("finished", "ppo")


def test_a_comparison_is_logged_with_tables_charts_and_page(
    server: Server, two: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(two)
    assert neuraxis("compare", "ppo", "dqn", "--wandb", f"{ENTITY}/reports") == 0
    (run,) = server.runs.values()
    assert f"{server.url}/{ENTITY}/reports/runs/{run.name}" in capsys.readouterr().out
    kinds = {key: value["_type"] for key, value in run.summary.items() if key[0] != "_"}
    tables = dict.fromkeys(("table", "runs", "IQM_table"), "table-file")
    assert kinds == {"report": "html-file"} | tables | dict.fromkeys(PICTURES, "image-file")
    assert "cannot tell ppo from dqn" in run.fields["notes"]
    (table,) = (data for name, data in run.files.items() if "/table/table_0" in name)
    assert [line[:3] for line in json.loads(table)["data"]] == [
        ["ppo", "CartPole-v1", "5"],
        ["dqn", "CartPole-v1", "5"],
    ]
    with pytest.raises(ValueError, match=r"wandb:tester/reports: no run there"):
        compare([f"wandb:{ENTITY}/reports"])  # a comparison is no run to compare


def test_what_wandb_does_not_have_or_answer_is_said(
    server: Server, tmp_path: Path, capsys: Any
) -> None:
    assert neuraxis("compare", f"wandb:{ENTITY}/nothing") == 2
    assert "error: wandb:tester/nothing: Could not find project" in capsys.readouterr().err
    server.fault = "refuse"
    assert neuraxis("compare", f"wandb:{ENTITY}/project") == 1
    assert re.match(r"error: wandb:tester/project: W&B: .*401.*\n$", capsys.readouterr().err)
    assert neuraxis("compare", write_run(tmp_path, 1.0), "--wandb", "reports") == 1
    assert re.match(r"error: --wandb reports: W&B: .*401.*\n$", capsys.readouterr().err)


# --- the committed evidence


def test_the_committed_runs_give_the_committed_table() -> None:
    """By returns; the table scores environments with goals by their successes."""
    results = Path(__file__).parents[1] / "benchmarks" / "results"
    lines = (results / "learning.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    rows = [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]
    told = {row["experiment"]: (len(row["seeds"].split(",")), row["best"]) for row in rows}
    planned = yaml.safe_load((results.parent / "learning.yaml").read_text())
    comparison = compare([results / "runs"], "best/return", mixed=True)
    found = {}
    for row in comparison.rows:
        if runs := comparison.cells.get((row.group, row.environment)):
            (experiment,) = {Path(run.name).parent.name for run in runs}
            score = row.mean[0]
            if planned[experiment].get("metric") == "success":
                score = np.array([run.score("best/success") for run in runs], float).mean()
            found[experiment] = (row.seeds, f"{score:.2f}")
    assert found == told


def test_every_committed_experiment_holds_by_its_newest_policy() -> None:
    """The mean of the last three evaluations, over all seeds; the best of many proves nothing."""
    results = Path(__file__).parents[1] / "benchmarks" / "results"
    planned = yaml.safe_load((results.parent / "learning.yaml").read_text())
    missed = {}
    for folder in (results / "runs").iterdir():
        row = planned[folder.name]
        metric = f"evaluate/{row.get('metric', 'return')}"
        curves = [stored_run.read(run).curve(metric)[:, 1] for run in folder.iterdir()]
        newest = np.mean([curve[-3:].mean() for curve in curves])
        if not row.get("at_least", -np.inf) <= newest < row.get("at_most", np.inf):
            missed[folder.name] = newest
    assert not missed
    assert len(planned) / 2 < len(list((results / "runs").iterdir())), "most are committed"
