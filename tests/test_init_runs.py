"""What a run starts from, from the command line to its folder; and what is refused, in one line."""

from __future__ import annotations

import hashlib
import json
import pickle
import shlex
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from neuraxis.agents.replay.replay import Replay
from neuraxis.configs import load, load_resumed
from neuraxis.core.tree import leaves
from neuraxis.networks.transfer.transfer import InitConfig
from neuraxis.training.cli import exit_codes, main
from neuraxis.training.session import prepare
from neuraxis.training.storage import checkpoint

from .helpers import config
from .test_initialization import SMALL, stored, tensors

BLOCK = "network.blocks.0.sizes=[8,8]"
QUICK = (*SMALL[:1], *SMALL[2:], BLOCK, "eval.final_episodes=1", "eval.interval_steps=0")
PPO = (*QUICK, "agent=ppo", "agent.n_steps=8")
DQN = (*QUICK, "agent=dqn", "agent.learning_starts=9")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of PPO on CartPole-v1."""
    folder = tmp_path_factory.mktemp("kept") / "source"
    return stored(folder, *PPO, "agent.normalize_observations=true", rollouts=2)


@pytest.fixture
def source(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it in the current folder, as `source`."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(kept, "source")
    return Path("source")


def neuraxis(*words: str) -> int:
    return exit_codes.exit_code(main.neuraxis, list(words))


def start(*words: str) -> dict[str, Tensor]:
    """The weights of the new run `started`, which has a checkpoint before it learns."""
    return tensors(stored(Path("started"), *words))


def same(one: dict[str, Tensor], other: dict[str, Tensor], opening: str = "") -> bool:
    names = [name for name in other if name.startswith(opening)]
    return bool(names) and all(torch.equal(one[name], other[name]) for name in names)


def test_a_run_says_and_keeps_what_it_started_from(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*DQN, "total_steps=40", "init.from=source", "run_dir=run")
    assert neuraxis("train", *words) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "note: init: " in line]
    assert "130 parameters (86%) are from source/checkpoints/step_000000031" in notes[0]
    new, unused = "advantage.*", "critic.*, head.*, value.*"
    assert notes[1:3] == [f"note: init: new: {new}", f"note: init: not used: {unused}"]
    about = json.loads(Path("run", "meta.json").read_text())["init"]
    expected = tensors(source)
    names = [name for name in expected if name.startswith("actor.")]
    digest = hashlib.sha256(b"".join(expected[name].numpy().tobytes() for name in names))
    assert about["sha256"] == digest.hexdigest()
    assert about["loaded"] == ["backbone.*"] and about["new"] == ["advantage.*"]
    assert (about["parameters"], about["agent"], about["steps"]) == (112, "ppo", 31)
    assert load(base=Path("run/config.yaml")).init.source == "source"


def test_a_run_that_starts_from_itself_begins_where_that_one_was(source: Path) -> None:
    words = (*PPO, "agent.normalize_observations=true")
    assert same(start(*words, "init.from=source"), tensors(source))


def test_the_repetition_of_a_run_starts_from_the_same(source: Path) -> None:
    start(*PPO, "init.from=source", "init.parts=[actor.*]", "init.shapes=new")
    again = load(base=Path("started/config.yaml"))
    assert again.init.parts == ("actor.*",) and again.init.shapes == "new"
    other = load(["init.from=started"], Path("started/config.yaml"))
    assert other.init == InitConfig.model_validate({"from": "started"}), "not as the one before"
    longer = load(["init.shapes=skip"], Path("started/config.yaml"))
    assert (longer.init.source, longer.init.shapes) == ("source", "skip")
    assert load(["init.from=null"], Path("started/config.yaml")).init == InitConfig()


def test_a_resumed_run_takes_its_checkpoint(source: Path) -> None:
    """And goes on as one that never stopped."""
    words = (*PPO, "agent.normalize_observations=true", "init.from=source", "-q")
    assert neuraxis("train", *words, "run_dir=whole", "total_steps=80") == 0
    assert neuraxis("train", *words, "run_dir=torn", "total_steps=40") == 0
    shutil.rmtree(source)
    assert neuraxis("resume", "torn", "total_steps=80", "-q") == 0
    assert same(tensors(Path("torn")), tensors(Path("whole")))


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_from_the_same(
    source: Path,
) -> None:
    session = prepare(config(*PPO, "init.from=source", "run_dir=killed"))
    session.source.close()
    session.current_run.finish("failed")
    cfg = load_resumed("killed/config.yaml", ())
    session = prepare(cfg, "killed")
    session.source.close()
    session.current_run.finish("failed")
    found = {name: x.detach() for name, x in session.agent.policy.state_dict().items()}
    assert same(found, tensors(source), "actor.")
    shutil.rmtree(source)
    with pytest.raises(ValueError, match=r"init\.from=source: no such run"):
        prepare(cfg, "killed")


def test_the_refusal_of_another_setting_names_the_command_that_fine_tunes(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["agent.learning_rate=1e-5", "env.kwargs={a: b c}", "total_steps=40"]
    assert neuraxis("resume", "source", *words) == 2
    _, mark, command = capsys.readouterr().err.partition("a new run from its weights: ")
    expected = ["--from", "source/config.yaml", "init.from=source", *words]
    assert mark and shlex.split(command) == ["neuraxis", "train", *expected]
    assert neuraxis("resume", "source", *words[::2]) == 2
    _, _, command = capsys.readouterr().err.partition("from its weights: ")
    assert neuraxis(*shlex.split(command)[1:], "run_dir=tuned", "-q") == 0
    assert json.loads(Path("tuned/meta.json").read_text())["init"]["share"] == 1


SOURCES = {
    "run": ("source",),
    "last": ("source", "init.checkpoint=last"),
    "step": ("source", "init.checkpoint=step_000000031"),
    "checkpoint": ("source/checkpoints/step_000000031",),
    "its file": ("source/checkpoints/step_000000031/state.safetensors",),
    "backbone": ("backbone.safetensors",),
}


@pytest.mark.parametrize("words", SOURCES.values(), ids=SOURCES)
def test_weights_are_read_from_runs_checkpoints_and_files(
    words: tuple[str, ...], source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert neuraxis("export", "source", "--backbone", "backbone.safetensors") == 0
    assert capsys.readouterr().out == "112 parameters: backbone.safetensors\n"
    found = start(*DQN, f"init.from={words[0]}", *words[1:])
    expected = tensors(source)
    for name, x in found.items():
        if name.startswith("backbone."):
            assert torch.equal(x, expected[name.replace("backbone", "actor")])


def test_a_checkpoint_of_its_own_keeps_its_statistics(source: Path) -> None:
    words = (*PPO, "agent.normalize_observations=true", "init.from=source")
    assert same(start(*words), tensors(source), "normalizer.")


def test_an_exported_backbone_has_its_statistics_and_says_whose_it_is(source: Path) -> None:
    file = Path("new/folder/backbone.safetensors")
    assert neuraxis("export", "source", "--backbone", str(file)) == 0
    found, expected = load_file(file), tensors(source)
    assert {name.partition(".")[0] for name in found} == {"backbone", "normalizer"}
    assert same(found, expected, "normalizer.")
    with safe_open(file, "pt") as content:
        about = json.loads(content.metadata()["neuraxis"])
    assert (about["agent"], about["env"], about["steps"]) == ("ppo", "CartPole-v1", 31)
    assert about["blocks"][0]["sizes"] == [8, 8]
    words = (*DQN, "agent.normalize_observations=true", f"init.from={file}")
    assert same(start(*words), expected, "normalizer.")


def test_tensors_of_others_are_loaded_by_their_names(source: Path) -> None:
    layers = {
        f"net.{n}.{kind}": torch.randn(8, *[4, 8][n : n + 1] * (kind == "weight"))
        for n in (0, 1)
        for kind in ("weight", "bias")
    }
    save_file(layers, "foreign.safetensors")
    renames = [f"net.{n}=backbone.blocks.0.layers.{2 * n}" for n in (0, 1)]
    found = start(*DQN, "init.from=foreign.safetensors", f"init.renames=[{','.join(renames)}]")
    assert torch.equal(found["backbone.blocks.0.layers.2.weight"], layers["net.1.weight"])


@pytest.mark.parametrize(
    "about", ["nonsense", "3", "[]", '{"agent": "dqn"}', '{"agent": 1, "env": 2, "steps": "x"}']
)
def test_what_a_file_says_of_itself_is_not_trusted(about: str, source: Path) -> None:
    neuraxis("export", "source", "--backbone", "backbone.safetensors")
    save_file(load_file("backbone.safetensors"), "foreign.safetensors", {"neuraxis": about})
    start(*DQN, "init.from=foreign.safetensors")
    assert "agent" not in json.loads(Path("started/meta.json").read_text())["init"]


def torch_file(path: str) -> None:
    torch.save({"weight": torch.zeros(2)}, path)


def sb3_file(path: str) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data", "{}")
        file.writestr("policy.pth", "x")


def plain_zip(path: str) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme", "x")


def spoil(path: str, value: float = torch.nan) -> None:
    """A backbone with one number that is none."""
    neuraxis("export", "source", "--backbone", path)
    found = load_file(path)
    found["backbone.blocks.0.layers.2.weight"][3, 3] = value
    save_file(found, path)


def cut_checkpoint(path: str) -> None:
    shutil.copytree("source", path)
    file = Path(path, "checkpoints/step_000000031/state.safetensors")
    file.write_bytes(file.read_bytes()[:-9])


def without_policy(path: str) -> None:
    checkpoint.write(Path(path), {"agent": {"steps": 0}})


def without_checkpoint(path: str) -> None:
    shutil.copytree("source", path)
    shutil.rmtree(Path(path, "checkpoints"))


REFUSED: dict[str, tuple[Callable[[str], object], str]] = {
    "nowhere": (str, "init.from=nowhere: no such run"),
    "sourc": (str, "init.from=sourc: no such run; did you mean source?"),
    "weights.safetensors": (str, "init.from=weights.safetensors: no such file"),
    "source/checkpoints": (str, "not a run, it has no config.yaml"),
    "model.pt": (
        torch_file,
        "init.from=model.pt: a file of torch.save, which is a pickle",
    ),
    "model.zip": (
        sb3_file,
        "a model of Stable-Baselines3, whose weights are in a pickle;",
    ),
    "notes.zip": (plain_zip, "a zip file; expected a run, a checkpoint's folder or a .safetensors"),
    "model.pkl": (lambda path: Path(path).write_bytes(pickle.dumps([1])), "a pickle: to read one"),
    "notes.txt": (lambda path: Path(path).write_text("hello"), "another kind of file; expected"),
    "empty.safetensors": (lambda path: Path(path).write_text(""), "init.from=empty.safetensors: "),
    "text.safetensors": (lambda path: Path(path).write_text("hello" * 9), "text.safetensors: "),
    "none.safetensors": (lambda path: save_file({}, path), "no tensor there has the name of one"),
    "nan.safetensors": (spoil, "backbone.blocks.0.layers.2.weight has numbers that are not finite"),
    "inf.safetensors": (lambda path: spoil(path, torch.inf), "not finite (NaN, infinite or too"),
    "damaged": (cut_checkpoint, "state.safetensors: damaged, its SHA-256 differs"),
    "of/nobody": (without_policy, "not the checkpoint of an agent"),
    "killed": (without_checkpoint, "there is no checkpoint"),
    "wandb:mine": (str, "init.from=wandb:mine: expected wandb:ENTITY/PROJECT/ARTIFACT:ALIAS"),
    "source init.checkpoint=step_3": (
        str,
        "checkpoint step_3: expected last, best, step_",
    ),
    "nan.safetensors init.checkpoint=last": (spoil, "is no run, whose checkpoints have names"),
    "source init.parts=[heads.*]": (
        str,
        "heads.*: matches no name; did you mean head.*?",
    ),
    "source init.parts=[critics.*]": (str, "did you mean critic.*?"),
    "source init.renames=[actr=actor]": (str, "no tensor there is actr; did you mean actor?"),
    "source network=lstm": (str, "blocks.0.layers.0.weight has the shape [8, 4] there and [64, 4]"),
    "source network.blocks.0.sizes=[8]": (str, "actor.blocks.0.layers.2.weight has no place here"),
    "source network.blocks.0.sizes=[8,8,8]": (str, "actor.blocks.0.layers.4.weight is not there"),
    "source env=Acrobot-v1": (str, "has the shape [8, 4] there and [8, 6] here, and 3 more differ"),
    "source agent=sarsa env=CliffWalking-v1": (str, "no tensor there has the name of one here"),
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_be_loaded_is_refused_in_one_line_and_leaves_nothing(
    line: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, says = REFUSED[line]
    path, *words = line.split(" ")
    make(path)
    before = sorted(Path().rglob("*"))
    capsys.readouterr()
    given = {word.partition("=")[0]: word for word in (*PPO, *words)}
    if any(key in ("network", "agent") for key in (word.partition("=")[0] for word in words)):
        given = {key: word for key, word in given.items() if word in words or word in SMALL}
    given |= {"init.from": f"init.from={path}", "total_steps": "total_steps=400"}
    assert neuraxis("train", *given.values(), "run_dir=run", "-q") == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: init.from=") and err.count("\n") == 1
    assert says in err and len(err) < 500, err
    assert sorted(Path().rglob("*")) == before, "no run, no file"


SAC = (*QUICK, "agent=sac", "agent.learning_starts=9")


@pytest.mark.parametrize("words", [DQN, SAC], ids=["dqn", "sac"])
def test_nothing_is_half_loaded(
    words: tuple[str, ...], source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of its tensors is spoilt; all parts of the agent are as they were built."""
    from neuraxis.training import initialization

    kept = tensors(stored(Path("kept"), *words))
    last = [name for name, x in kept.items() if x.is_floating_point()][-1]
    kept[last].view(-1)[-1] = torch.nan
    save_file({name: x.clone() for name, x in kept.items()}, "spoilt.safetensors")
    built: list[Any] = []
    inner = initialization.loadable
    monkeypatch.setattr(
        initialization, "loadable", lambda agent: built.append(agent) or inner(agent)
    )
    with pytest.raises(ValueError, match=rf"{last} has numbers that are not finite"):
        prepare(config(*words, "init.from=spoilt.safetensors", "run_dir=run"))
    session = prepare(config(*words, "run_dir=run"))
    session.source.close()
    session.current_run.finish("stopped")
    parts = [
        {name: part for name, part in agent.parts.items() if not isinstance(part, Replay)}
        for agent in (built[0], session.agent)
    ]
    states = [{name: part.state_dict() for name, part in own.items()} for own in parts]
    assert {"target", "optimizer"} <= {name.rpartition("_")[2] for name in states[0]}
    pairs = zip(leaves(states[0]), leaves(states[1]), strict=True)
    assert all(torch.equal(torch.as_tensor(x), torch.as_tensor(y)) for x, y in pairs)


EXPORTS = {
    "source --backbone": "'--backbone' requires an argument",
    "source": "export: expected where to: --wandb, --tensorboard DIR, --policy FILE, "
    "--backbone FILE, --onnx FILE or --sb3 FILE",
    "source --backbone model.pt": "model.pt: expected a file that ends in .safetensors",
    "source --backbone b.safetensors --checkpoint step_9": "checkpoint step_9: expected last",
    "nowhere --backbone b.safetensors": "nowhere: no such run",
    "source wandb.project=a --backbone b.safetensors": "expected no words without --wandb",
}


@pytest.mark.parametrize("line", EXPORTS)
def test_exports_that_cannot_be_are_refused(
    line: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert neuraxis("export", *line.split(" ")) == 2
    assert EXPORTS[line] in capsys.readouterr().err
    assert not Path("b.safetensors").exists()


def test_a_table_has_no_backbone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = stored(tmp_path / "run", "agent=sarsa", "env=CliffWalking-v1", *SMALL)
    assert neuraxis("export", str(run), "--backbone", str(tmp_path / "b.safetensors")) == 2
    assert "agent=sarsa has no backbone" in capsys.readouterr().err
