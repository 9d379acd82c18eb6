"""The configuration: what is accepted, what is refused in one line, and that fields matter."""

import ast
import math
import re
import sys
import threading
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from neuraxis import agents, configs, envs, networks, training
from neuraxis.configs import Config, WandbConfig, dump, load, load_file, load_resumed
from neuraxis.configs.groups import GROUPS, choices
from neuraxis.configs.text import parse
from neuraxis.core.registry import find_class

BAD = {
    "agent.learning_rte=3e-4": "unknown key; did you mean agent.learning_rate? (agent takes: ",
    "agent.tau=0.1": "unknown key; agent.tau is a setting of agent=dqn, agent=sac, agent=td3 (",
    "agent.buffer_sise=5": "did you mean agent.buffer_size of agent=dqn, agent=sac, agent=td3?",
    "agent.adam_eps=1e-5": "unknown key; it is agent.optimizer_eps now (agent takes: ",
    "agent.lr=3e-4": "unknown key; did you mean agent.learning_rate? (agent takes: ",
    "lr=3e-4": "unknown key; did you mean agent.learning_rate?",
    "agent.bs=64": "unknown key; did you mean agent.batch_size?",
    "network.size=32": "unknown key; did you mean network.blocks.0.sizes?",
    "network.activation=relu": "unknown key; did you mean network.blocks.0.activation?",
    "epochs=4": "unknown key; did you mean agent.n_epochs?",
    "size=84": "unknown key; did you mean env.atari.size?",
    "interval_steps=9": "did you mean eval.interval_steps, checkpoint.interval_steps?",
    "total-steps=9": "expected KEY=VALUE with a dotted key, like agent.gamma=0.99; did you mean "
    "total_steps=9?",
    "--seed=3": "did you mean seed=3?",
    "agent.num_envs=4": "unknown key; did you mean num_envs?",
    "agent.norm_advantage=true": "unknown key; did you mean agent.normalize_advantage?",
    "learning_rate=3e-4": "unknown key; did you mean agent.learning_rate?",
    "nun_envs=3": "unknown key; did you mean num_envs?",
    "eval.interval=3": "unknown key; did you mean eval.interval_steps?",
    "env.atari.stak=4": "unknown key; did you mean env.atari.stack?",
    "network.blocks.0.sizez=[64]": "unknown key; did you mean network.blocks.0.sizes?",
    "num_envs=-1": "expected an integer greater than 0",
    "num_envs=2.5": "expected an integer greater than 0",
    "num_envs=true": "expected an integer greater than 0",
    "num_envs=eight": "expected an integer greater than 0",
    "total_steps=null": "expected an integer greater than 0",
    "agent.learning_rate=fast": "expected a number greater than 0",
    "agent.learning_rate=": "expected a number greater than 0",
    "agent.learning_rate=.inf": "expected a finite number",
    "agent.learning_rate=.nan": "expected a finite number",
    "agent.gamma=1.5": "expected a number from 0 to 1",
    "env.mask_velocity=1": "expected true or false",
    "env.time_limit=0": "expected an integer greater than 0 or null",
    "env.kwargs=3": "expected a mapping",
    "init.parts=[]": "expected a list [...], each text, with a length of at least 1",
    "init.parts=backbone": "expected a list [...], each text",
    "init.form=runs/a": "unknown key; did you mean init.from? (init takes: from, ",
    "init.renames=[actor]": "actor: expected THERE=HERE, like critic=backbone",
    "init.renames=[actor.=backbone]": "actor.=backbone: expected THERE=HERE",
    "init.shapes=slice": "init.shapes=slice: expected init.from, which says of what",
    "init.parts=[head.*]": "init.parts=[head.*]: expected init.from, which says of what",
    "init.shapes=cut": "expected one of refuse, skip, new, slice",
    "device=gpu": "expected one of auto, cpu, cuda",
    "compile=maybe": "expected true or false or auto",
    "wandb.tags=fast": "expected a list [...], each text",
    "network.blocks.0.activation=rellu": "expected one of tanh, relu",
    "network.blocks.0.sizes=[]": "with a length of at least 1",
    "network.blocks.7.size=3": "7 is not in the list, which has 1",
    "network.critic=mlp": "expected a list [...]",
    "network.critic=[{name: mlpp}]": "no such block; did you mean mlp?",
    "network.critic.0.sizez=[64]": "unknown key; did you mean network.critic.0.sizes?",
    "network.critic.1.sizes=[64]": "1 is not in the list, which has 1",
    "network.blocks=[3]": "expected a block like {name: mlp}",
    "groups=3": "expected a divisor of num_envs=8",
    "network=lstmm": "no such network; did you mean lstm? (choices: ",
    "network=../network/mlp": "no such network",
    "agent=ppoo": "no such agent; did you mean ppo? (choices: ",
    "agent=": "expected a name (choices: ",
    "agent=no_such.package": "No module named 'no_such'",
    "env=CartPole": "no such environment; did you mean CartPole-v1? (choices: ",
    "env=cartpole_maskd": "no such environment; did you mean cartpole_masked?",
    "experiment=cartpole_pp": "no such experiment; did you mean cartpole_ppo?",
    "experiment=nowhere/mine.yaml": "No such file or directory",
    "seed": "expected KEY=VALUE",
    "ppo": "expected KEY=VALUE; did you mean agent=ppo?",
    "CartPole-v1": "expected KEY=VALUE; did you mean env=CartPole-v1?",
    "=3": "expected KEY=VALUE",
    "agent..gamma=3": "expected KEY=VALUE",
    "wandb.tags=[a": "not valid YAML",
    "env.kwargs={a: 1, a: 2}": "given twice",
}


@pytest.mark.parametrize("word", BAD)
def test_a_bad_word_is_refused_in_one_line(word: str) -> None:
    with pytest.raises(ValueError) as caught:
        load([word])
    message = str(caught.value)
    assert BAD[word] in message
    assert "\n" not in message
    assert message.startswith(word.partition("=")[0]), "the line opens with the key"


def test_unknown_keys_in_the_nested_parts_of_a_value_are_named() -> None:
    with pytest.raises(ValueError, match=r"network\.blocks\.0\.sizes\.1=big: expected an integer"):
        load(["network.blocks.0.sizes=[64,big]"])
    with pytest.raises(ValueError, match=r"agent\.gamma=\{x: 3\}: expected a number from 0 to 1"):
        load(["agent.gamma.x=3"])
    with pytest.raises(ValueError, match=r"network\.blocks\.0: block 'lstmm': no such block"):
        load(["network.blocks=[{name: lstmm}]"])


def test_what_was_typed_below_an_unknown_key_is_repeated() -> None:
    typed = "agent.gaussian.log_std_init=1"
    line = f"{typed}: unknown key; agent.gaussian is a setting of agent=appo, agent=bc"
    with pytest.raises(ValueError, match=f"^{re.escape(line)}"):
        load(["agent=sac", typed])


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"seed=2: given twice \(before: 1\)"):
        load(["seed=1", "seed=2"])


def test_a_python_value_is_checked_as_strictly_as_a_word() -> None:
    values: dict[str, Any] = {"total_steps": 5, "agent.gamma": 0.5}
    assert load(**values) == load(["total_steps=5", "agent.gamma=0.5"])
    assert load(run_dir=Path("here")).run_dir == "here"
    with pytest.raises(ValueError, match="seed=3: expected an integer"):
        load(seed="3")
    with pytest.raises(ValueError, match="seed: <object"):
        load(seed=object())
    with pytest.raises(ValueError, match="agent=3: expected a name"):
        load(agent=3)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("3E-4", 0.0003),
        (".5", 0.5),
        ("-1.5e+2", -150.0),
        ("1e6", 1_000_000),
        ("100_000", 100_000),
        ("-5", -5),
        ("010", "010"),
        ("1:30", "1:30"),
        ("no", "no"),
        ("off", "off"),
        ("2020-01-01", "2020-01-01"),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("False", False),
        ("null", None),
        ("None", None),
        ("Null", None),
        ("2000.0", 2000.0),
        ("1.5e3", 1500.0),
        (".INF", math.inf),
        ("", None),
        ("[64, 1e-3, x]", [64, 0.001, "x"]),
        ("'1e-3'", "1e-3"),
        ("a = b: no", {"a = b": "no"}),
    ],
)
def test_text_is_what_it_looks_like_and_survives_writing(text: str, value: object) -> None:
    parsed = parse(text)
    assert parsed == value and type(parsed) is type(value)
    assert parse(dump({"x": value})) == {"x": value}


PYTHONS = {
    "agent.normalize_observations": ("True", True),
    "agent.clip_range_vf": ("None", None),
    "agent.n_epochs": ("4.0", 4),
    "total_steps": ("1.5e3", 1500),
    "env.time_limit": ("2_000.0", 2000),
    "network.blocks.0.sizes": ("[64.0, 32.0]", [64, 32]),
    "env.kwargs": (
        "{a: False, b: None, c: [True, 2.0]}",
        {"a": False, "b": None, "c": [True, 2.0]},
    ),
}


@pytest.mark.parametrize("key", PYTHONS)
def test_what_python_writes_is_understood_everywhere(key: str, tmp_path: Path) -> None:
    """As W&B's sweeps write it: `str` of Python's values, whole numbers as floats."""
    text, value = PYTHONS[key]
    file = tmp_path / "mine.yaml"
    file.write_text(f"{key}: {text}\n")
    for cfg in (load([f"{key}={text}"]), load([f"experiment={file}"]), load(**{key: parse(text)})):
        found: Any = cfg.model_dump(mode="json")
        for part in key.split("."):
            found = found[int(part) if part.isdigit() else part]
        assert repr(found) == repr(value), "the types, too"


def test_a_block_of_ones_own_list_takes_whole_floats() -> None:
    cfg = load(["network.blocks=[{name: mlp, sizes: [8.0]}, {name: lstm, size: 4.0}]"])
    assert repr(cfg.network.blocks[0].model_dump()["sizes"]) == "(8,)"
    with pytest.raises(ValueError, match=r"^total_steps=1e300: expected an integer"):
        load(["total_steps=1e300"])


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("issue #12", "issue #12"),
        ("#1", "#1"),
        ("lr: higher", "lr: higher"),
        ("- the first", "- the first"),
        ("*all* & more", "*all* & more"),
        ("@home, 100 %", "@home, 100 %"),
        ("2024", "2024"),
        (" 1e3 ", "1e3"),
        ("True", "True"),
        ("'null' # quoted, so YAML", "null"),
        ('"#1\\t2"', "#1\t2"),
    ],
)
def test_a_word_of_text_is_what_was_typed(typed: str, text: str, tmp_path: Path) -> None:
    cfg = load([f"wandb.notes={typed}", f"run_dir={typed}", "env.kwargs.a=x #1"])
    assert (cfg.wandb.notes, cfg.run_dir, cfg.env.kwargs) == (text, text, {"a": "x #1"})
    file = tmp_path / "config.yaml"
    file.write_text(dump(cfg.model_dump(mode="json")))
    assert load_file(file) == cfg


def test_numbers_are_text_where_text_is_expected(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("run_dir: 2024\nwandb.tags: [7, a]  # a file has comments\n")
    for words, values in (
        ([f"experiment={file}"], {}),
        (["run_dir=2024", "wandb.tags=[7, a]"], {}),
        ([], {"run_dir": 2024, "wandb.tags": [7, "a"]}),
    ):
        cfg = load(words, **values)
        assert (cfg.run_dir, cfg.wandb.tags) == ("2024", ("7", "a"))
    with pytest.raises(ValueError, match=r"^wandb\.project=null: expected text"):
        load(["wandb.project=null"])


@pytest.mark.parametrize("group", GROUPS)
def test_every_choice_loads_and_has_its_line(group: str) -> None:
    assert choices(group)
    for name, line in choices(group).items():
        assert isinstance(load([f"{group}={name}"]), Config)
        assert line, f"{group}={name} has no comment on its first line"


def test_no_words_give_the_defaults_of_the_fields() -> None:
    assert load() == Config()


def test_precedence() -> None:
    experiment = load(["experiment=cartpole_ppo"])
    assert experiment.agent.model_dump()["gamma"] == 0.98
    assert experiment.agent.model_dump()["clip_range_vf"] is None, "the field's default"
    same = load(["experiment=cartpole_ppo", "agent=ppo", "agent.n_steps=64", "seed=5"])
    assert same.agent.model_dump() == experiment.agent.model_dump() | {"n_steps": 64}
    other = load(["seed=3", "experiment=cartpole_ppo", "agent=dqn", "network=lstm"])
    assert other.agent == load(["agent=dqn"]).agent, "PPO's numbers are not DQN's"
    assert other.network == load(["network=lstm"]).network
    assert (other.seed, other.total_steps) == (3, experiment.total_steps)
    wide = load(["network.blocks.1.size=16", "network=lstm"])
    assert wide.network.blocks[1].model_dump()["size"] == 16


def test_the_critic_has_the_blocks_of_the_actor_or_its_own() -> None:
    same = load(["network=lstm", "network.blocks.0.sizes=[8]"]).network
    assert same.critic is None and same.critic_blocks == same.blocks
    words = ["network.critic.0.sizes=[256,256]", "network.blocks.0.activation=relu"]
    for order in (words, words[::-1]):  # its blocks begin as those of the actor in the end are
        wide = load([*order, "network.blocks.0.norm=layer"]).network
        assert wide.critic_blocks[0].model_dump() == {
            **wide.blocks[0].model_dump(),
            "sizes": (256, 256),
        }
    own = load(["network=lstm", "network.critic=[{name: mlp}]", "network.critic.0.sizes=[9]"])
    assert [block.model_dump()["sizes"] for block in own.network.critic_blocks] == [(9,)]
    assert load(["experiment=cartpole_masked_ppo", "network=mlp"]).network.critic is None


def test_a_stored_critic_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    first = load(["network=lstm", "network.critic=[{name: mlp, sizes: [256]}]"])
    file.write_text(dump(first.stored()))
    assert load_file(file) == first
    assert (
        load(["network.critic.0.sizes=[3]"], base=file).network.critic_blocks[0]
        == load(["network.blocks.0.sizes=[3]"]).network.blocks[0]
    )


def test_wandbs_own_variables_count_where_nothing_else_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {
        "WANDB_MODE": "dryrun",
        "WANDB_PROJECT": "mine",
        "WANDB_ENTITY": "my-team",
        "WANDB_NAME": "first try",
        "WANDB_RUN_GROUP": "lr",
        "WANDB_JOB_TYPE": "ablation",
        "WANDB_TAGS": "a, b",
        "WANDB_NOTES": "issue #12",
    }
    for name, text in said.items():
        monkeypatch.setenv(name, text)
    expected = WandbConfig(
        mode="offline",
        project="mine",
        entity="my-team",
        name="first try",
        group="lr",
        job_type="ablation",
        tags=("a", "b"),
        notes="issue #12",
    )
    assert load().wandb == expected
    file = tmp_path / "mine.yaml"
    file.write_text("wandb: {project: of the file, tags: []}")
    cfg = load([f"experiment={file}", "wandb.mode=online", "wandb.entity=null"])
    own = {"project": "of the file", "tags": (), "mode": "online", "entity": None}
    assert cfg.wandb == expected.model_copy(update=own)
    file.write_text(dump(Config().model_dump(mode="json")))
    assert load_file(file) == load_resumed(file, []) == Config(), "a run's own file says all"


def test_wandbs_switches_for_the_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    for mode, meaning in {"run": "online", "online": "online", "": "offline"}.items():
        monkeypatch.setenv("WANDB_MODE", mode)
        assert load().wandb.mode == meaning
    monkeypatch.setenv("WANDB_MODE", "onlin")
    line = r"^wandb\.mode=onlin \(of \$WANDB_MODE\): expected one of offline, online, disabled$"
    with pytest.raises(ValueError, match=line):
        load()
    assert load(["wandb.mode=disabled"]).wandb.mode == "disabled"
    for text, disabled in {"true": True, "1": True, "false": False, "": False}.items():
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("WANDB_DISABLED", text)
        assert (load().wandb.mode == "disabled") == disabled


def test_environments() -> None:
    assert load(["env=Acrobot-v1"]).env.id == "Acrobot-v1"
    assert load(["env=my_package:Mine-v0"]).env.id == "my_package:Mine-v0"
    assert load(["env=cartpole_masked", "env.kwargs.a.b=-1e-2"]).env.kwargs == {"a": {"b": -0.01}}
    assert load(["env.kwargs={c: 1}", "env.kwargs.d=.inf"]).env.kwargs == {
        "c": 1,
        "d": float("inf"),
    }


def test_a_block_is_a_network() -> None:
    assert [block.name for block in load(["network=mlp"]).network.blocks] == ["mlp"]
    assert load(["network.blocks=[]"]).network.blocks == ()


def test_a_file_of_ones_own_is_a_choice(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("# mine\nagent: {name: ppo, gamma: 0.5}\nenv.id: Acrobot-v1\nseed: 7\n")
    cfg = load([f"experiment={file}"])
    assert (cfg.agent.model_dump()["gamma"], cfg.env.id, cfg.seed) == (0.5, "Acrobot-v1", 7)
    assert load([f"experiment={file}", "env=CartPole-v1"]).env.id == "CartPole-v1"
    for text, problem in {
        "sed: 7": "sed=7: unknown key; did you mean seed?",
        "seed: 7\nseed: 8": r"seed: given twice \(line 2\)",
        "[1, 2]": "expected a mapping",
        "3: 4": "keys must be text",
        "a: b: c": "not valid YAML",
    }.items():
        file.write_text(text)
        with pytest.raises(ValueError, match=problem) as caught:
            load([f"experiment={file}"])
        assert str(caught.value).startswith(f"experiment={file}: ")


@pytest.mark.parametrize("word", ["groups=3", "network.blocks=[{name: mlp, sizes: [a]}]", "a.b=1"])
def test_what_was_typed_is_not_blamed_on_the_experiment(word: str) -> None:
    with pytest.raises(ValueError) as caught:
        load(["experiment=cartpole_ppo", word])
    assert not str(caught.value).startswith("experiment=")


def test_a_resolved_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    words = ["experiment=cartpole_dqn", "network=lstm", "env.kwargs={a: '1e-3'}", "wandb.tags=[no]"]
    cfg = load(words)
    file.write_text(dump(cfg.model_dump(mode="json")))
    assert load_file(file) == cfg
    assert load(["seed=4"], base=file) == cfg.model_copy(update={"seed": 4})
    assert load(["agent=ppo"], base=file).agent == load().agent
    with pytest.raises(ValueError, match="takes its place"):
        load(["experiment=cartpole_ppo"], base=file)
    file.write_text(file.read_text() + "extra: 1\n")
    with pytest.raises(ValueError, match=r"config\.yaml: extra=1: unknown key"):
        load_file(file)


def test_a_resumed_run_may_change_what_does_not_change_the_past(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(dump(load().model_dump(mode="json")))
    cfg = load_resumed(file, ["total_steps=7", "eval.episodes=3", "wandb.mode=disabled"])
    assert (cfg.total_steps, cfg.eval.episodes, cfg.wandb.mode) == (7, 3, "disabled")
    for word in ("seed=2", "agent.gamma=0.5", "agent=dqn", "env=Acrobot-v1", "num_envs=4"):
        with pytest.raises(ValueError, match=f"{word}: cannot change"):
            load_resumed(file, [word])


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config.__setattr__(load(), "seed", 3)


def _fields(config: ast.ClassDef) -> list[str]:
    return [
        statement.target.id
        for statement in config.body
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and not statement.target.id.startswith("_")  # private, and no setting
    ]


def test_every_field_of_every_config_is_read_somewhere() -> None:
    fields: dict[str, str] = {}
    reads: set[str] = set()
    for package in (agents, configs, envs, networks, training):
        for file in Path(package.__path__[0]).rglob("*.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef) and node.name.endswith("Config") and node.bases:
                    where = f"{file.parent.name}/{file.name} {node.name}"
                    fields |= dict.fromkeys(_fields(node), where)
                    node.body = []  # its own methods don't count as readers
            reads |= {
                node.attr
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
            }
    assert len(fields) > 50
    unread = {f"{where}.{name}" for name, where in fields.items() if name not in reads}
    assert not unread


def test_another_network_keeps_what_is_about_no_block() -> None:
    for network in ("lstm", "gru", "transformer"):
        cfg = load(["experiment=cartpole_masked_ppo", f"network={network}"])
        assert cfg.network.shared and cfg.network.blocks[-1].name == network
    assert not load(["experiment=cartpole_masked_ppo", "network.shared=false"]).network.shared


def test_an_id_without_a_version_can_be_loaded_again(tmp_path: Path) -> None:
    gymnasium.register("Unversioned", "neuraxis.envs.builtin.diagnostic:Counter")
    cfg = load(["env=Unversioned"])
    (tmp_path / "config.yaml").write_text(dump(cfg.model_dump(mode="json")))
    assert load_file(tmp_path / "config.yaml") == cfg


@pytest.mark.parametrize("own", [True, False])
def test_choices_are_imported_one_at_a_time(
    own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads that train two agents: pydantic parses each module while it is imported."""
    events: list[str] = []
    monkeypatch.setattr(sys, "imports", events, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    package, names = f"choices_{own}", ["first", "second"]
    (tmp_path / package).mkdir()
    code = (
        "import sys, time\nsys.imports.append('in')\ntime.sleep(0.2)\nsys.imports.append('out')\n"
    )
    code += "class Choice:\n    class Config(dict):\n        pass\n"

    def choose(name: str) -> None:
        find_class(object, package, name, place="agent", noun="agent")

    for name in names:
        (tmp_path / package / f"{name}.py").write_text(code)
    chosen = [f"{package}.{name}" if own else name for name in names]
    threads = [threading.Thread(target=choose, args=(name,)) for name in chosen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert events == ["in", "out"] * 2


def test_loading_parses_no_source_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that parse at the same moment break CPython (python/cpython#106905)."""

    def parse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("source code is parsed")

    words = ["agent=dqn", "network=lstm", "env=memory"]
    load(words)  # pydantic parses a module when it is imported
    with monkeypatch.context() as patch:
        patch.setattr(ast, "parse", parse)
        load(words)
