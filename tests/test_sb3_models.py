"""Models of Stable-Baselines3 become runs of ours, and ours become models: the same actions."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from gymnasium import spaces
from sb3_contrib import TQC, TRPO, CrossQ
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from neuraxis.agents.agent import Agent
from neuraxis.agents.loading import return_scales
from neuraxis.configs import load as load_config
from neuraxis.core.tree import Tree
from neuraxis.training import load
from neuraxis.training.cli.main import neuraxis
from neuraxis.training.distributed.build import build_agent
from neuraxis.training.interop import Sb3Extractor
from neuraxis.training.interop.sb3_envs import Described
from neuraxis.training.interop.sb3_models import sb3_statistics, sb3_zip
from neuraxis.training.interop.sb3_models.sb3_export import STATISTICS, model_of, write_model
from neuraxis.training.interop.sb3_models.sb3_settings import configuration
from neuraxis.training.interop.sb3_models.sb3_weights import fill, take_statistics
from neuraxis.training.session import prepare
from neuraxis.training.storage.run import Run

from . import sb3_models
from .sb3_models import CLASSES, chosen, model, observations, our_values, shift, valued, words_for

FEW = "eval.final_episodes=2", "wandb.mode=disabled"
SMALL = {"net_arch": [16]}
UNLIKE = {"net_arch": {"pi": [8], "vf": [16, 4]}, "activation_fn": nn.ELU}
CONVOLVED = {"features_extractor_kwargs": {"features_dim": 16}}
EACH = {"net_arch": [8], "features_extractor_kwargs": {"cnn_output_dim": 8}}
LSTM = {"lstm_hidden_size": 12, **SMALL}
IMPORTS: dict[str, tuple[str, str, str, str | int, dict[str, Any]]] = {
    "PPO": ("PPO", "MlpPolicy", "VECTOR", 3, {"policy_kwargs": UNLIKE}),
    "PPO, linear": ("PPO", "MlpPolicy", "VECTOR", "BOUNDED", {"policy_kwargs": {"net_arch": []}}),
    "PPO, gSDE": (
        *("PPO", "MlpPolicy", "VECTOR", "BOUNDED"),
        {"use_sde": True, "policy_kwargs": SMALL},
    ),
    "PPO, images": ("PPO", "CnnPolicy", "IMAGE", "UNEVEN", {"policy_kwargs": CONVOLVED}),
    "PPO, Dict": ("PPO", "MultiInputPolicy", "DICT", "UNEVEN", {"policy_kwargs": EACH}),
    "PPO, bytes": ("PPO", "MultiInputPolicy", "FLAT", 4, {"policy_kwargs": SMALL}),
    "A2C": ("A2C", "MlpPolicy", "VECTOR", "BOUNDED", {"policy_kwargs": SMALL}),
    "RecurrentPPO": ("RecurrentPPO", "MlpLstmPolicy", "VECTOR", "BOUNDED", {"policy_kwargs": LSTM}),
    "RecurrentPPO, shared": (
        *("RecurrentPPO", "MlpLstmPolicy", "VECTOR", "BOUNDED"),
        {"policy_kwargs": LSTM | {"shared_lstm": True, "enable_critic_lstm": False}},
    ),
    "DQN": ("DQN", "MlpPolicy", "VECTOR", 4, {"policy_kwargs": SMALL}),
    "QRDQN": ("QRDQN", "MlpPolicy", "VECTOR", 4, {"policy_kwargs": SMALL | {"n_quantiles": 7}}),
    "SAC": ("SAC", "MlpPolicy", "VECTOR", "BOUNDED", {"policy_kwargs": {"net_arch": [16, 8]}}),
    "SAC, images": (
        *("SAC", "CnnPolicy", "IMAGE", "BOUNDED"),
        {"policy_kwargs": CONVOLVED | SMALL},
    ),
    "TD3": ("TD3", "MultiInputPolicy", "FLAT", "BOUNDED", {"policy_kwargs": SMALL}),
    "DDPG": ("DDPG", "MlpPolicy", "VECTOR", "BOUNDED", {"policy_kwargs": SMALL}),
}


def imported(file: Path, *words: str) -> Agent:
    """The agent of a file, without a run."""
    found = sb3_zip.read(file)
    said = {word.partition("=")[0] for word in words}
    cfg = load_config(words, **configuration(found, said))
    agent = build_agent(cfg)
    fill(agent, found, cfg.env.id)
    return agent


def same_actions(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Equal where there are choices; numbers to the rounding of float32."""
    assert len(np.unique(theirs, axis=0)) > 1, "they do not do the same in every state"
    if ours.dtype.kind == "f":
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    else:
        np.testing.assert_array_equal(ours, theirs)


def same_values(agent: Agent, other: Any, obs: Tree) -> None:
    torch.testing.assert_close(our_values(agent, obs), valued(other, obs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", IMPORTS)
def test_an_imported_model_acts_and_values_as_before(case: str, tmp_path: Path) -> None:
    kind, policy, seen, acts, arguments = IMPORTS[case]
    other = model(kind, policy, seen, acts, **arguments)
    other.save(tmp_path / "model.zip")
    agent = imported(tmp_path / "model.zip", *words_for(seen, acts))
    obs = observations(getattr(sb3_models, seen))
    action, _ = agent.policy.predict(obs)
    same_actions(np.asarray(action), chosen(other, obs))
    same_values(agent, other, obs)


def test_a_memory_is_carried_from_step_to_step(tmp_path: Path) -> None:
    other = model("RecurrentPPO", "MlpLstmPolicy", "VECTOR", "BOUNDED", policy_kwargs=LSTM)
    other.save(tmp_path / "model.zip")
    policy = imported(tmp_path / "model.zip", *words_for("VECTOR", "BOUNDED")).policy
    state = memory = None
    for step, obs in enumerate(observations(sb3_models.VECTOR, 60).reshape(12, 5, 5)):
        opens = np.array([step == 0, step == 0, step % 3 == 0, True, step in (0, 7)])
        action, state = policy.predict(obs, state, opens)
        expected, memory = other.predict(obs, memory, opens, deterministic=True)
        np.testing.assert_allclose(action, expected, atol=1e-5)


OURS: dict[str, tuple[str, ...]] = {
    "PPO": ("agent=ppo", *words_for("VECTOR", 3), "network.critic=[{name: mlp, sizes: [6]}]"),
    "PPO, scaled": ("agent=ppo", *words_for("FLAT", "BOUNDED"), "network.shared=true"),
    "PPO, gSDE": ("agent=ppo", *words_for("VECTOR", "BOUNDED"), "agent.gaussian.use_sde=true"),
    "PPO, images": (
        "agent=ppo",
        *words_for("IMAGE", "UNEVEN"),
        "network=cnn",
        "network.blocks.0.size=32",
    ),
    "A2C": ("agent=a2c", *words_for("VECTOR", "UNEVEN")),
    "RecurrentPPO": ("agent=ppo", *words_for("VECTOR", "BOUNDED"), "network.blocks=[{name: lstm}]"),
    "DQN": ("agent=dqn", *words_for("DICT", 4), "network=cnn", "network.blocks.0.size=32"),
    "QRDQN": ("agent=qr_dqn", *words_for("VECTOR", 4)),
    "SAC": ("agent=sac", *words_for("VECTOR", "BOUNDED"), "network.blocks.0.sizes=[9,7]"),
    "TD3": ("agent=td3", *words_for("FLAT", "BOUNDED")),
    "DDPG": ("agent=ddpg", *words_for("VECTOR", "BOUNDED")),
}


def untrained(folder: Path, *words: str) -> tuple[Run, Agent]:
    """A run with a checkpoint of shifted weights and of statistics, if it has some."""
    session = prepare(load_config([*words, *FEW, f"run_dir={folder}", "num_envs=2"]))
    run, agent = session.current_run, session.agent
    for part in (agent.policy, agent.parts.get("critics")):
        if isinstance(part, nn.Module):
            shift(part)
    if agent.policy.normalizer is not None:
        agent.policy.normalizer.update(torch.randn(50, 2, 5) * 3 + 1)
    for scale in return_scales(agent).values():
        scale.moments = 20.0, torch.tensor(1.5).double(), torch.tensor(4.0).double()
    agent.steps = 64
    run.save(agent, session.source)
    session.source.close()
    run.finish("stopped")
    return run, agent


def seen_by(agent: Agent) -> Tree:
    """Observations of the agent's environment."""
    assert agent.policy.interface is not None
    return observations(agent.policy.interface.spaces[0])


@pytest.mark.parametrize("case", OURS)
def test_an_exported_model_acts_and_values_as_before(case: str, tmp_path: Path) -> None:
    run, agent = untrained(tmp_path / "run", *OURS[case])
    found = write_model(run.dir, "last", tmp_path / "model.zip")
    assert found.algorithm == case.partition(",")[0] and found.statistics is None
    other = CLASSES[found.algorithm].load(found.file, device="cpu")
    obs = seen_by(agent)
    action, _ = agent.policy.predict(obs)
    same_actions(np.asarray(action), chosen(other, obs))
    same_values(agent, other, obs)
    if case == "DQN":
        assert other.q_net_target.state_dict().keys() == other.q_net.state_dict().keys()
        pairs = zip(other.q_net_target.parameters(), other.q_net.parameters(), strict=True)
        assert all(a.equal(b) for a, b in pairs)


NORMALIZED = "agent.normalize_observations=true", "agent.normalize_rewards=true"


def test_statistics_go_with_a_model_and_come_back(tmp_path: Path) -> None:
    words = "agent=ppo", *words_for("VECTOR", "BOUNDED"), *NORMALIZED
    run, agent = untrained(tmp_path / "run", *words)
    found = write_model(run.dir, "last", tmp_path / "model.zip")
    assert found.statistics is not None and found.statistics.name == f"model{STATISTICS}"
    envs = Described(2, sb3_models.VECTOR, sb3_models.BOUNDED)
    theirs = VecNormalize.load(str(found.statistics), envs)
    other, obs = CLASSES["PPO"].load(found.file, device="cpu"), seen_by(agent)
    action, _ = agent.policy.predict(obs)
    same_actions(np.asarray(action), chosen(other, theirs.normalize_obs(obs)))
    assert other.num_timesteps == 64 and other.gamma == run.cfg.agent.model_dump()["gamma"]
    statistics = sb3_statistics.read(found.statistics)
    back = imported(found.file, *words_for("VECTOR", "BOUNDED"), *NORMALIZED)
    assert take_statistics(back, statistics, found.statistics) == []
    again, _ = back.policy.predict(obs)
    same_actions(np.asarray(again), np.asarray(action))
    for (name, one), (_, two) in zip(
        agent.policy.named_buffers(), back.policy.named_buffers(), strict=True
    ):
        torch.testing.assert_close(one, two, msg=name)
    ours, own = return_scales(back)["return_scale"], return_scales(agent)["return_scale"]
    assert ours.moments == own.moments


@pytest.fixture(scope="module")
def cart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of PPO, trained for a moment in CartPole."""
    file = tmp_path_factory.mktemp("cart") / "ppo.zip"
    other = CLASSES["PPO"](
        *("MlpPolicy", "CartPole-v1"),
        **{"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 1, "clip_range": 0.3},
        policy_kwargs={"net_arch": [16]},
        learning_rate=lambda left: 1e-3 * left,
    )
    other.learn(64)
    other.save(file)
    return file


def test_an_imported_run_is_evaluated_loaded_and_fine_tuned(cart: Path, tmp_path: Path) -> None:
    runner, folder = CliRunner(), tmp_path / "run"
    words = ["import", str(cart), "env=CartPole-v1", f"run_dir={folder}", *FEW]
    result = runner.invoke(neuraxis, words)
    assert result.exit_code == 0 and "evaluate/return" in result.output
    assert "note: pickled, so not read: learning_rate; look at agent.*" in result.output
    run = Run.open(folder)
    agent = run.cfg.agent.model_dump()
    assert run.steps == 0 and run.summary["status"] == "finished" and run.summary["steps"] == 64
    assert [agent[key] for key in ("n_steps", "batch_size", "n_epochs")] == [32, 16, 2]
    assert agent["clip_range"] == 0.3 and run.cfg.total_steps == 64
    about = json.loads((folder / "meta.json").read_text())["imported"]
    assert about["algorithm"] == "PPO" and [*about["files"]] == [str(cart)]
    assert runner.invoke(neuraxis, ["evaluate", str(folder), "--episodes", "1"]).exit_code == 0
    tuned = ["train", "--from", str(folder), f"init.from={folder}", f"run_dir={tmp_path / 'on'}"]
    result = runner.invoke(neuraxis, [*tuned, "agent.learning_rate=1e-9"])
    assert result.exit_code == 0 and "(100%) are from" in result.output
    before, after = load(folder).state_dict(), load(tmp_path / "on").state_dict()
    assert all((before[key] - after[key]).abs().max() < 1e-5 for key in before)


class Evil:
    """A pickle of it would execute a command."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.file}",)


def changed(source: Path, file: Path, **contents: bytes) -> Path:
    """A copy of a zip in which some files have other contents."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, contents.get(name.partition(".")[0], old.read(name)))
    return file


def test_malicious_pickles_execute_nothing(cart: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    evil = Evil(mark)
    pickle.loads(pickle.dumps(evil))
    assert mark.exists(), "the payload works"
    mark.unlink()
    text = base64.b64encode(pickle.dumps(evil)).decode()
    data = json.loads(zipfile.ZipFile(cart).read("data"))
    for entry in data.values():
        if isinstance(entry, dict) and ":serialized:" in entry:
            entry[":serialized:"] = text
    agent = imported(
        changed(cart, tmp_path / "data.zip", data=json.dumps(data).encode()), "env=CartPole-v1"
    )
    action, _ = agent.policy.predict(np.zeros(4, np.float32))
    assert action in (0, 1)
    stored = io.BytesIO()
    torch.save({"action_net.weight": evil}, stored)
    for content, says in (
        (pickle.dumps(evil), "expected what torch.save writes"),
        (stored.getvalue(), "expected tensors alone; nothing else was read"),
    ):
        file = changed(cart, tmp_path / "policy.zip", policy=content)
        with pytest.raises(ValueError, match=rf"policy.pth: {says}"):
            sb3_zip.read(file)
    statistics = tmp_path / "vecnormalize.pkl"
    statistics.write_bytes(pickle.dumps({"obs_rms": evil}))
    with pytest.raises(
        ValueError, match=r"vecnormalize.pkl: names posix.system, and no statistics"
    ):
        sb3_statistics.read(statistics)
    assert not mark.exists()


def test_what_no_library_wrote_is_told_in_one_line(tmp_path: Path) -> None:
    def refused(source: Path, line: str, **contents: bytes) -> None:
        with pytest.raises(ValueError, match=line) as caught:
            imported(changed(source, tmp_path / "changed.zip", **contents), "env=CartPole-v1")
        assert str(caught.value).count("changed.zip") <= 1 and "\n" not in str(caught.value)

    def without(tensors: dict[str, Any], name: str, *value: Any) -> bytes:
        stored = io.BytesIO()
        kept = {key: tensor for key, tensor in tensors.items() if key != name}
        torch.save(kept | dict.fromkeys([name] * len(value), *value), stored)
        return stored.getvalue()

    dqn, lstm = tmp_path / "dqn.zip", tmp_path / "lstm.zip"
    model("DQN", "MlpPolicy", "VECTOR", 2).save(dqn)
    data = json.loads(zipfile.ZipFile(dqn).read("data")) | {"learning_starts": "many"}
    refused(dqn, "learning_starts=many: expected an integer", data=json.dumps(data).encode())
    refused(dqn, "damaged, not JSON", data=b"{")
    refused(dqn, "damaged, not a JSON object", data=b"[]")
    tensors = dict(sb3_zip.read(dqn).tensors)
    name = "q_net.q_net.0.weight"
    refused(dqn, f"{name}: a single number", policy=without(tensors, name, torch.tensor(1.0)))
    model("RecurrentPPO", "MlpLstmPolicy", "VECTOR", 2, policy_kwargs=LSTM).save(lstm)
    name = "lstm_actor.weight_hh_l0"
    refused(lstm, f"has no {name}", policy=without(dict(sb3_zip.read(lstm).tensors), name))


class Crafted:
    """A dtype that makes an address of eight bytes, and an array of it."""

    def __init__(self, part: str) -> None:
        self.part = part

    def __reduce__(self) -> Any:
        if self.part == "dtype":
            state = (3, "|", None, ("o",), {"o": (np.dtype("O"), 0)}, 8, 1, 0)
            return np.dtype, ("V8", False, True), state
        rebuild = np.array([1.0]).__reduce__()[0]
        return rebuild, (np.ndarray, (0,), b"b"), (1, (1,), Crafted("dtype"), False, b"A" * 8)


def test_a_file_does_not_say_how_memory_is_read(tmp_path: Path) -> None:
    content = pickle.dumps({"crafted": Crafted("array"), "plain": np.arange(6.0).reshape(2, 3)})
    found = sb3_statistics._Reader(tmp_path / "vecnormalize.pkl", content).load()
    assert not hasattr(found["crafted"], "numbers")
    np.testing.assert_array_equal(found["plain"].numbers, np.arange(6.0).reshape(2, 3))


def test_other_objects_of_statistics_are_records(tmp_path: Path) -> None:
    """No code of a class runs, not even of those that are expected."""
    file = tmp_path / "vecnormalize.pkl"
    file.write_bytes(pickle.dumps(spaces.Box(-1, 1, (2,))))
    with pytest.raises(ValueError, match="not the file of a VecNormalize: KeyError"):
        sb3_statistics.read(file)


LAYER = {"features_extractor_class": Sb3Extractor}
REFUSED: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "activation": (
        ("PPO", "MlpPolicy", "VECTOR", 3),
        {"policy_kwargs": {"activation_fn": nn.LeakyReLU}},
        "activation_fn=LeakyReLU: expected Tanh, ReLU, ",
    ),
    "extractor": (
        ("PPO", "MlpPolicy", "VECTOR", 3),
        {"policy_kwargs": LAYER},
        "mlp_extractor.policy_net.0.weight is [64, 64]; env=test/Given-v0 needs [64, 5]",
    ),
    "image": (("PPO", "MlpPolicy", "IMAGE", 3), {}, "reads an image without convolutions"),
    "gSDE": (("SAC", "MlpPolicy", "VECTOR", "BOUNDED"), {"use_sde": True}, "no form for gSDE"),
    "expln": (
        ("PPO", "MlpPolicy", "VECTOR", "BOUNDED"),
        {"use_sde": True, "policy_kwargs": {"use_expln": True}},
        "policy_kwargs.use_expln=True: no form for another deviation of gSDE",
    ),
    "critic": (
        ("RecurrentPPO", "MlpLstmPolicy", "VECTOR", 3),
        {"policy_kwargs": LSTM | {"enable_critic_lstm": False}},
        "enable_critic_lstm=false: no form for values without LSTM",
    ),
    "actions": (("PPO", "MlpPolicy", "VECTOR", 4), {}, "action_net.weight is [4, 64]; env="),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_without_a_form_here_is_refused(case: str, tmp_path: Path) -> None:
    what, arguments, says = REFUSED[case]
    file = tmp_path / "model.zip"
    model(*what, **arguments).save(file)
    acts = 3 if case == "actions" else what[3]
    with pytest.raises(ValueError, match=re.escape(says)) as raised:
        imported(file, *words_for(what[2], acts))
    assert str(file) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", [TRPO, TQC, CrossQ])
def test_another_algorithm_is_named(kind: Any, tmp_path: Path) -> None:
    given: dict[str, Any] = {} if kind is TRPO else {"buffer_size": 9}
    envs = Described(1, sb3_models.VECTOR, sb3_models.BOUNDED)
    kind("MlpPolicy", envs, device="cpu", policy_kwargs={"net_arch": [4]}, **given).save(
        tmp_path / "model.zip"
    )
    with pytest.raises(ValueError, match=rf"a model of {kind.__name__}; expected PPO, A2C, DQN"):
        sb3_zip.read(tmp_path / "model.zip")


def test_what_is_no_model_is_refused_by_the_command(cart: Path, tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    other = CLASSES["PPO"].load(cart, device="cpu")
    with torch.no_grad():
        other.policy.action_net.bias[0] = torch.nan
    other.save(tmp_path / "nan.zip")
    torn = changed(cart, tmp_path / "torn.zip", data=b"{")
    envs = Described(2, sb3_models.VECTOR, sb3_models.BOUNDED)
    VecNormalize(envs).save(str(tmp_path / "five.pkl"))
    VecNormalize(envs, clip_obs=5.0).save(str(tmp_path / "clipped.pkl"))
    cases = (
        ((tmp_path / "none.zip", "env=CartPole-v1"), "none.zip: no such file"),
        ((tmp_path / "text.zip", "env=CartPole-v1"), "text.zip: no zip of Stable-Baselines3"),
        ((torn, "env=CartPole-v1"), "torn.zip/data: damaged, not JSON"),
        ((tmp_path / "nan.zip", "env=CartPole-v1"), "action_net.bias: not finite"),
        ((cart,), "env: expected env=ID"),
        ((cart, "env=CartPole-v1", "network=lstm"), "network: "),
        ((cart, "env=CartPole-v1", "agent=dqn"), "agent: "),
        ((cart, "env=CartPole-v1", "agent.gama=1"), "agent.gama=1"),
        ((cart, "env=Acrobot-v1"), "is [16, 4]; env=Acrobot-v1 needs [16, 6]"),
        (
            (cart, "env=CartPole-v1", "--vecnormalize", tmp_path / "five.pkl"),
            "five.pkl: statistics of observations: [5]; the environment needs [4]",
        ),
        (
            (cart, "env=CartPole-v1", "--vecnormalize", tmp_path / "clipped.pkl"),
            "clipped.pkl: clip_obs=5; expected 10",
        ),
    )
    for arguments, says in cases:
        folder = tmp_path / "run"
        words = ["import", *map(str, arguments), f"run_dir={folder}"]
        result = CliRunner().invoke(neuraxis, words)
        assert result.exit_code == 2 and says in result.output, (arguments, result.output)
        assert not folder.exists()


WITHOUT: dict[tuple[str, ...], str] = {
    ("agent=ppo", *words_for("VECTOR", 3), "network=transformer"): "it has mlp, transformer;",
    ("agent=ppo", *words_for("VECTOR", 3), "network=lstm"): "it has mlp, lstm; expected lstm, or",
    ("agent=ppo", *words_for("IMAGE", 3), "network=cnn_impala"): "cnn architecture=nature alone",
    (
        "agent=dqn",
        *words_for("VECTOR", 3),
        "agent.dueling=true",
    ): "nothing there for advantage.layers.1",
    ("agent=dqn", *words_for("VECTOR", "UNEVEN")): "has no such policy for MultiDiscrete",
    ("agent=c51", *words_for("VECTOR", 3)): "agent=dqn: Stable-Baselines3 has no such policy",
    ("agent=sac", *words_for("VECTOR", "BOUNDED"), "agent.log_std_max=1"): "agent.log_std_min and",
}


@pytest.mark.parametrize("words", WITHOUT, ids=" ".join)
def test_a_policy_without_a_form_there_is_refused(words: tuple[str, ...]) -> None:
    agent = build_agent(load_config(words))
    with pytest.raises(ValueError, match=re.escape(WITHOUT[words])):
        model_of(agent)


def test_an_export_says_what_it_has_written(cart: Path, tmp_path: Path) -> None:
    run, _ = untrained(tmp_path / "run", "agent=a2c", "env=CartPole-v1")
    file = tmp_path / "folder" / "a2c.zip"
    export = ["export", str(run.dir), "--checkpoint", "last", "--sb3"]
    result = CliRunner().invoke(neuraxis, [*export, str(file)])
    assert result.exit_code == 0 and f"for A2C.load: {file}" in result.output
    assert [path.name for path in file.parent.iterdir()] == ["a2c.zip"]
    data = json.loads(zipfile.ZipFile(file).read("data"))
    pickles = [
        entry[":serialized:"] for entry in data.values() if isinstance(entry, dict) and entry
    ]
    assert pickles, "other programs than ours open them"
    assert not any(b"neuraxis" in base64.b64decode(text) for text in pickles)
    result = CliRunner().invoke(neuraxis, [*export, str(tmp_path / "a2c.pt")])
    assert result.exit_code == 2 and "expected a file that ends in .zip" in result.output
