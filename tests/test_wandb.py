"""W&B's own client against `wandb_server`: what arrives, and what happens when the server fails."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import wandb

from neuraxis.configs import load
from neuraxis.training import prepare, train
from neuraxis.training.cli import exit_codes, main
from neuraxis.training.storage import checkpoint_folder
from neuraxis.training.storage.run import Run
from neuraxis.training.tracking import wandb_client, wandb_mirror, wandb_tracker, wandb_upload
from neuraxis.training.tracking.wandb_tracker import WandbTracker

from .helpers import OnUpdate
from .wandb_server import Fault, Server, command_line, serving

SMALL = (
    *("total_steps=600", "num_envs=2", "agent.n_steps=32", "log_interval_steps=100"),
    *("eval.interval_steps=200", "eval.episodes=2", "eval.final_episodes=2"),
    *("checkpoint.interval_steps=200", "wandb.project=tests", "run_dir=run", "env.time_limit=50"),
)
ONLINE = (*SMALL, "wandb.mode=online")


@pytest.fixture(scope="module")
def server_of_the_module() -> Iterator[Server]:
    """One server for all tests, for it takes W&B a while to begin anew."""
    with serving() as server:
        yield server


@pytest.fixture
def server(server_of_the_module: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, with nothing in it, and an empty current folder; W&B waits not for long."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wandb_tracker, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(wandb_client, "INIT_SECONDS", 3.0)
    monkeypatch.setattr(wandb_mirror, "FINISH_SECONDS", 2.0)
    server_of_the_module.clear()
    return server_of_the_module


def lines(folder: str = "run", times: bool = True) -> list[dict[str, Any]]:
    """What metrics.jsonl says, with or without what differs from run to run."""
    rows = map(json.loads, Path(folder, "metrics.jsonl").read_text().splitlines())
    return [{key: row[key] for key in row if times or not key.startswith("time/")} for row in rows]


def arrived(server: Server, times: bool = True) -> list[dict[str, Any]]:
    """The metrics that the server has of its only run, in the order in which it stores them."""
    (run,) = server.runs.values()
    assert [row["_step"] for row in run.rows] == list(range(len(run.rows)))
    return [
        {
            key: value
            for key, value in row.items()
            if isinstance(value, int | float) and not key.startswith("_")
            if times or not key.startswith("time/")
        }
        for row in run.rows
    ]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said about W&B."""
    return [record.message for record in caplog.records if record.name.startswith("neuraxis")]


def wait_for(condition: Callable[[], bool]) -> None:
    """Waits until something is so; pytest's own limit ends it."""
    while not condition():
        time.sleep(0.02)


def neuraxis(*words: str) -> int:
    return exit_codes.exit_code(main.neuraxis, list(words))


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


def filled(tree: Any) -> Any:
    """A tree without its empty mappings, which W&B drops."""
    if not isinstance(tree, dict):
        return tree
    return {key: filled(value) for key, value in tree.items() if value != {}}


def test_an_online_run_arrives_whole_and_trains_as_without(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    more = (
        *("wandb.group=mine", "wandb.job_type=test", "wandb.tags=[a,b]", "wandb.notes=why"),
        *("wandb.artifacts=true", "wandb.histogram_interval_steps=200"),
        *("eval.video_interval_steps=400", "checkpoint.keep=9"),
    )
    run = train(*ONLINE, *more)
    assert arrived(server) == lines()
    (stored,) = server.runs.values()
    assert (stored.project, stored.state) == ("tests", "finished")
    names = ("displayName", "groupName", "jobType", "tags", "notes")
    told = ["CartPole-v1-ppo-mlp-s0", "mine", "test", ["a", "b"], "why"]
    assert [stored.fields[name] for name in names] == told
    expected = filled(run.cfg.model_dump(mode="json"))
    config = stored.config
    code = config.pop("code")
    assert (config, code["version"]) == (expected, metadata.version("neuraxis"))
    assert stored.fields["commit"] == code["commit"]
    assert {key: stored.summary[key] for key in run.summary} == run.summary
    films = [row["videos/evaluate"]["path"] for row in stored.rows if "videos/evaluate" in row]
    assert [stored.files[film] for film in films] == [
        file.read_bytes() for file in sorted(Path("run/videos").iterdir())
    ]
    histograms = [
        row["weights/value.weight"] for row in stored.rows if "weights/value.weight" in row
    ]
    assert len(histograms) == len(list(Path("run/histograms").iterdir())) == 3
    assert all(sum(histogram["values"]) == 64 for histogram in histograms)
    checkpoints = {alias: artifact for artifact in server.artifacts for alias in artifact.aliases}
    for name in ("best", "last"):
        folder = checkpoint_folder.chosen(Path("run/checkpoints"), name)
        assert checkpoints[name] is checkpoints[folder.name]
        for file in folder.iterdir():
            assert checkpoints[name].files[file.name] == file.read_bytes()
    assert warnings(caplog) == []
    without = [word for word in SMALL if not word.startswith("run_dir=")]
    train(*without, "wandb.mode=disabled", "run_dir=without")
    assert lines("without", times=False) == lines(times=False)


def uploaded(server: Server) -> int:
    """Uploads the run twice; the second time there is nothing left to send. Returns the rows."""
    sent = wandb_upload.upload("run").sent
    assert wandb_upload.upload("run").sent == 0
    assert arrived(server) == lines()
    return sent


@pytest.mark.parametrize("fault", ["stop", "error", "hang", "refuse"])
def test_a_server_that_fails_at_the_start(
    fault: Fault, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.fail(fault)
    run = train(*ONLINE)
    (warning,) = warnings(caplog)
    assert "going on offline" in warning and "`neuraxis export run --wandb`" in warning
    assert run.summary["status"] == "finished" and server.runs == {}
    server.mend()
    assert uploaded(server) == len(lines())


@pytest.mark.parametrize("fault", ["stop", "error", "hang", "refuse"])
def test_a_server_that_fails_midway(
    fault: Fault, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(run: Run) -> None:
        if run.steps > 300 and not server.fault:
            wait_for(lambda: bool(server.runs) and len(arrived(server)) > 2)
            server.fail(fault)

    run = train(*ONLINE, callbacks=[OnUpdate(fail)])
    (warning,) = warnings(caplog)
    assert "metrics.jsonl is whole, `neuraxis export run --wandb` uploads it" in warning
    assert run.summary["status"] == "finished"
    before = arrived(server)
    assert before == lines()[: len(before)] and len(before) < len(lines())
    server.mend()
    assert uploaded(server) == len(lines()) - len(before)


def test_a_server_that_comes_back_in_time_or_is_slow_gets_everything(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_mirror, "FINISH_SECONDS", 30.0)

    def blink(run: Run) -> None:
        if run.steps > 300 and not server.failed:
            wait_for(lambda: bool(server.runs) and len(arrived(server)) > 2)
            server.fail("error")
            wait_for(lambda: server.failed > 0)
            server.fail("slow")

    train(*ONLINE, callbacks=[OnUpdate(blink)])
    assert server.failed and (arrived(server), warnings(caplog)) == (lines(), [])


def test_without_a_key_it_goes_on_offline_and_can_be_synced(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.delenv("WANDB_API_KEY")
        patch.setenv("NETRC", "none")
        train(*ONLINE, "eval.video_interval_steps=400")
        (warning,) = warnings(caplog)
        assert "no API key found, `wandb login` sets one; going on offline" in warning
        assert neuraxis("export", "run", "--wandb") == 2
    assert server.requests == []
    (folder,) = Path("run/wandb").glob("offline-run-*")
    command_line("sync", str(folder))
    assert arrived(server) == lines()
    assert any(name.endswith(".mp4") for run in server.runs.values() for name in run.files)
    assert uploaded(server) == 0


def test_a_killed_run_goes_on_under_its_id_without_rows_that_come_twice(server: Server) -> None:
    def keep(run: Run) -> None:
        if run.steps > 300 and not Path("killed").exists():
            shutil.copytree("run", "killed", symlinks=True)

    train(*ONLINE, callbacks=[OnUpdate(keep)])
    assert len(lines("killed")) < len(lines())
    assert neuraxis("resume", "killed", "-q") == 0
    assert arrived(server, times=False) == lines("killed", times=False) == lines(times=False)
    assert arrived(server) == lines(), "what is there is not sent again"
    assert neuraxis("resume", "killed", "total_steps=900", "-q") == 0
    there, final = arrived(server, times=False), lines(times=False)[-1]
    there.remove(final)  # the final evaluation of the shorter run stays
    assert there == lines("killed", times=False)


def test_what_was_never_mirrored_is_uploaded_whole(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("eval.video_interval_steps=400", "wandb.histogram_interval_steps=200")
    run = train(*SMALL, *more, "wandb.mode=disabled")
    assert not Path("run/wandb").exists()
    later = ("wandb.group=late", "wandb.name=my run")
    assert neuraxis("export", "run", "--wandb", "wandb.artifacts=true", *later) == 0
    ((name, stored),) = server.runs.items()
    said = capsys.readouterr().out
    assert f"{len(lines())} of {len(lines())} rows were missing: {server.url}" in said
    assert stored.fields["displayName"] == "my run"
    assert uploaded(server) == 0
    assert (stored.state, stored.fields["groupName"]) == ("finished", "late")
    assert any(file.endswith(".mp4") for file in stored.files)
    assert any("gradients/value.weight" in row for row in stored.rows)
    aliases = [alias for artifact in server.artifacts for alias in artifact.aliases]
    assert {"best", "last"} < set(aliases) and len(aliases) == len(set(aliases))
    assert stored.summary["evaluate/return"] == run.summary["evaluate/return"]
    assert json.loads(Path("run/meta.json").read_text())["wandb_id"] == name


def test_words_that_an_upload_refuses(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    train(*SMALL, "wandb.mode=disabled")
    for words, code, says in (
        (["run"], 2, "expected where to: --wandb"),
        (["nowhere", "--wandb"], 2, "nowhere: no such run"),
        (["run", "--wandb", "total_steps=9"], 2, "total_steps=9: expected wandb.KEY=VALUE"),
        (["run", "--wandb", "wandb.grop=a"], 2, "wandb.grop=a: unknown key; did you mean"),
    ):
        assert neuraxis("export", *words) == code
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1
    server.fail("refuse")
    assert neuraxis("export", "run", "--wandb") == 1
    assert "401" in capsys.readouterr().err


def test_a_failure_and_a_collapse_are_told_to_those_who_follow(server: Server) -> None:
    run = train(*SMALL, "wandb.mode=disabled")
    cfg = run.cfg.model_copy(update={"wandb": run.cfg.wandb.model_copy(update={"mode": "online"})})
    tracker, failed = WandbTracker(), Run.open(run.dir, cfg)
    tracker.on_start(failed)
    with (run.dir / "metrics.jsonl").open("a") as file:
        for steps, score in ((1000, 500.0), (1100, 20.0), (1200, 18.0), (1300, 19.0)):
            row = {"steps": steps, "evaluate/return": score, "evaluate/return_std": 2.0}
            file.write(json.dumps(row) + "\n")
    failed.summary = {"status": "failed", "reason": "loss/value is nan at step 1,400"}
    tracker.on_end(failed, "failed")
    (stored,) = server.runs.values()
    assert [(alert["title"], alert["text"]) for alert in stored.alerts] == [
        ("evaluations collapsed", "evaluate/return 18 at 1,200 steps, best 500"),
        ("run failed", "loss/value is nan at step 1,400"),
    ]
    assert stored.state == "failed"


def test_without_its_own_process_or_folder_training_goes_on(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    def kill(run: Run) -> None:
        if 300 < run.steps < 350:
            wait_for(lambda: bool(server.runs))
            for child in psutil.Process().children():
                if child.name() == "wandb-core":
                    child.kill()

    train(*ONLINE, callbacks=[OnUpdate(kill)])
    assert len(warnings(caplog)) == 1 and len(lines()) > 6
    wandb.teardown()  # as when Python ends
    before = len(arrived(server))
    assert uploaded(server) == len(lines()) - before


def test_a_sweep_of_wandb_runs_the_command_line(server: Server) -> None:
    words = ", ".join(word for word in ONLINE if not word.startswith("run_dir"))
    Path("sweep.yaml").write_text(
        "program: neuraxis\n"
        f'command: [neuraxis, train, -q, {words}, "${{args_no_hyphens}}"]\n'
        "method: grid\n"
        "parameters: {agent.learning_rate: {values: [0.001, 0.01]}, seed: {value: 3.0},"
        " agent.normalize_observations: {value: true}}\n"
    )
    command_line("sweep", "--project", "swept", "sweep.yaml")
    command_line("agent", "--count", "2", "tester/swept/sweep0")
    assert [run.config["agent"]["learning_rate"] for run in server.runs.values()] == [0.001, 0.01]
    for name, run in server.runs.items():
        assert run.project == "swept"
        assert (run.state, run.config["seed"], run.fields["sweep"]) == ("finished", 3, "sweep0")
        assert run.config["agent"]["normalize_observations"] is True, "W&B writes True"
        assert "evaluate/return" in run.summary
        assert any(name in file.read_text() for file in Path("runs").rglob("meta.json"))


def test_a_run_starts_from_an_artifact(server: Server) -> None:
    """Its best checkpoint, which is gone here."""
    run = train(*ONLINE, "wandb.artifacts=true")
    expected = run.read("best", "agent", "policy")
    (stored,) = server.runs
    name = f"wandb:tester/tests/checkpoint-{stored}:best"
    shutil.rmtree(run.dir)
    words = [word for word in SMALL if word != "run_dir=run"]
    session = prepare(load([*words, "wandb.mode=disabled", f"init.from={name}", "run_dir=next"]))
    session.source.close()
    session.current_run.finish("stopped")
    found = session.agent.policy.state_dict()
    assert all(torch.equal(found[key], x) for key, x in expected.items())
    about = json.loads(Path("next/meta.json").read_text())["init"]
    assert (about["from"], about["share"]) == (name, 1)
    wandb_upload.upload("next")
    (other,) = (server.runs[key] for key in server.runs if key != stored)
    assert other.config["loaded"] == about, "as well as what `init` asks for"
    assert other.config["init"]["from"] == name


def test_an_artifact_that_cannot_be_read_is_refused_in_one_line(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_client, "TIMEOUT_SECONDS", 3)
    words = ("train", *SMALL, "init.from=wandb:tester/tests/model:best")
    assert neuraxis(*words) == 2
    assert "init.from=wandb:tester/tests/model:best: " in (said := capsys.readouterr().err)
    assert "not found" in said and said.count("\n") == 1
    artifact = wandb.Artifact("model", type="model")
    with artifact.new_file("readme.txt") as file:
        file.write("nothing")
    with wandb.init(project="tests", settings=wandb.Settings(silent=True, console="off")) as run:
        run.log_artifact(artifact, aliases=["best"])
    assert neuraxis(*words) == 2
    assert "best: expected a checkpoint or one .safetensors file in it" in capsys.readouterr().err
    server.fail("stop")
    try:
        assert neuraxis(*words) == 2
    finally:
        server.mend()
    assert "model:best: W&B: " in (said := capsys.readouterr().err) and said.count("\n") == 1
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", "nowhere")
    assert neuraxis(*words) == 2
    assert "model:best: no W&B API key found" in capsys.readouterr().err
    assert not Path("run").exists()
