"""Baselines: the algorithms of Stable-Baselines3 in our environments, files and comparisons."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from stable_baselines3 import PPO
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecNormalize

from neuraxis.configs.groups import baselines, choices
from neuraxis.core.errors import EnvError, RunError
from neuraxis.envs import EnvConfig, make
from neuraxis.training import Callback, baseline, load
from neuraxis.training.cli.main import neuraxis
from neuraxis.training.distributed.build import build_agent
from neuraxis.training.evaluate import evaluate
from neuraxis.training.interop.baseline import STATISTICS, ZIP, prepare
from neuraxis.training.interop.baseline import load as load_words
from neuraxis.training.interop.sb3_agent import ALGORITHMS, Sb3, algorithm_class
from neuraxis.training.interop.sb3_envs import Sb3Envs
from neuraxis.training.interop.sb3_reports import METRICS, translated
from neuraxis.training.storage.run import Run
from neuraxis.training.storage.stored_run import read_rows

FEW = "eval.episodes=2", "eval.final_episodes=2", "wandb.mode=disabled"
ROLLOUTS = "agent.kwargs.n_steps=32", "agent.kwargs.batch_size=32"
REPLAY = "agent.kwargs.learning_starts=20", "agent.kwargs.batch_size=16"
SMALL = "agent.kwargs.policy_kwargs.net_arch=[8]"


def words_for(name: str) -> tuple[str, ...]:
    """A short training of an algorithm in an environment whose actions it learns."""
    if name.endswith(("/dqn", "/qr_dqn")):
        return f"agent={name}", "env=CartPole-v1", *REPLAY
    if name in ("sb3/a2c", "sb3_contrib/trpo", "sb3/ppo", "sb3_contrib/recurrent_ppo"):
        more = ROLLOUTS[:1] if name == "sb3/a2c" else ROLLOUTS
        return f"agent={name}", "env=CartPole-v1", *more
    return f"agent={name}", "env=Pendulum-v1", *REPLAY


def words_of(*words: str, folder: Path, steps: int = 128) -> tuple[str, ...]:
    return *words, *FEW, f"run_dir={folder}", f"total_steps={steps}", "num_envs=2"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_trains_and_its_policy_is_loaded(name: str, tmp_path: Path) -> None:
    words = words_of(*words_for(name), SMALL, folder=tmp_path / "run")
    run = baseline(*words, "eval.interval_steps=64", "log_interval_steps=1")
    assert run.summary["status"] == "finished" and run.steps == 128
    rows = read_rows(run.dir)
    assert [row["steps"] for row in rows if "evaluate/return" in row] == [0, 64, 128]
    assert all(np.isfinite(value) for row in rows for value in row.values())
    losses = {key for row in rows for key in row if key.startswith("loss/")}
    assert losses, "what the algorithm says of its learning is there"
    policy = load(run.dir, "last")
    model = algorithm_class(name).load(run.dir / "checkpoints" / "step_000000128" / ZIP)
    envs = make(run.cfg.env, 5, seed=3)
    obs, first = torch.from_numpy(envs.reset()), torch.ones(5, dtype=torch.bool)
    action, _, _ = policy.act(obs, policy.initial_state(5), first, greedy=True)
    expected, _ = model.predict(obs.numpy(), None, first.numpy(), deterministic=True)
    np.testing.assert_array_equal(action.numpy(), expected)


@pytest.mark.parametrize("name", ["sb3/ppo", "sb3/sac"])
def test_the_library_learns_the_same_without_us(name: str, tmp_path: Path) -> None:
    words = words_of(*words_for(name), SMALL, folder=tmp_path / "run")
    run = baseline(*words, "seed=5", "eval.interval_steps=64")
    set_random_seed(5)
    cfg = run.cfg
    envs = Sb3Envs(cfg.env, cfg.num_envs, cfg.seed)
    policy_kwargs = {"net_arch": [8]}
    settings = {**cfg.agent.model_dump()["kwargs"], "policy_kwargs": policy_kwargs}
    model = algorithm_class(name)("MlpPolicy", envs, seed=5, **settings)
    model.learn(cfg.total_steps)
    ours, theirs = load(run.dir, "last").state_dict(), model.policy.state_dict()
    for key, weight in theirs.items():
        assert torch.equal(ours[f"model_policy.{key}"], weight), key


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_policy_that_has_learned_is_copied(name: str, tmp_path: Path) -> None:
    """Evaluations of a policy on a GPU copy it to the CPU."""
    copies: list[Any] = []

    class Copies(Callback):
        def on_update(self, run: Run, metrics: Any) -> None:
            copies.append(copy.deepcopy(session.agent.policy))

    sde = ("agent.kwargs.use_sde=true",) if name in ("sb3/a2c", "sb3/ppo", "sb3/sac") else ()
    env = ("env=Pendulum-v1",) if sde else ()
    words = [word for word in words_for(name) if not (sde and word.startswith("env="))]
    session = prepare(load_words([*words_of(*words, SMALL, folder=tmp_path / "run"), *env, *sde]))
    session.run([Copies()])
    states = session.agent.policy.state_dict()
    assert all((leaf == states[key]).all() for key, leaf in copies[-1].state_dict().items())


@pytest.mark.parametrize(
    "words",
    [
        ("env=minigrid_empty",),
        ("env=CartPole-v1", "env.last_action=true"),
        ("env=Taxi-v4",),
        ("env=CartPole-v1", "env.frame_stack=2"),
    ],
    ids=" ".join,
)
def test_other_observations_are_learned_from_and_need_no_neuraxis(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    run = baseline(*words_of(*words, *ROLLOUTS, folder=tmp_path / "run"))
    file = run.dir / "checkpoints" / "last"
    place = run.dir / "checkpoints" / file.read_text().strip() / ZIP
    code = (
        "import sys; sys.modules['neuraxis'] = None; from stable_baselines3 import PPO;"
        f"print(PPO.load({str(place)!r}).num_timesteps)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "128"


def test_what_fails_while_it_learns_is_said_in_one_line(tmp_path: Path) -> None:
    words = words_of("env=CartPole-v1", *ROLLOUTS, folder=tmp_path / "run")
    with pytest.raises(RunError, match=r"agent=sb3/ppo: "):
        baseline(*words, "agent.kwargs.learning_rate=1e30", "agent.kwargs.max_grad_norm=1e30")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "failed" and summary["reason"].startswith("agent=sb3/ppo: ")


def test_numbers_that_are_not_finite_are_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    envs = Sb3Envs(EnvConfig(id="CartPole-v1"), 2, seed=0)
    envs.reset()
    column = envs._columns[1]
    step = column.step
    monkeypatch.setattr(column, "step", lambda a: (step(a)[0] * np.nan, *step(a)[1:]))
    with pytest.raises(
        EnvError, match=r"column 1 gave nan as observation at \[0\] in step 1, run seed 0; "
    ):
        envs.step(np.zeros(2, int))


def test_a_baseline_is_no_teacher_and_has_no_sweeps(tmp_path: Path) -> None:
    run = baseline(*words_of("env=CartPole-v1", *ROLLOUTS, folder=tmp_path / "run"))
    for arguments, says in (
        (["train", f"agent.teacher.from={run.dir}", "agent=ppo"], "has no distribution or values"),
        (["sweep", "agent=sb3/ppo", "sweep=ppo_grid"], "sweeps train agents of neuraxis alone"),
    ):
        result = CliRunner().invoke(neuraxis, arguments)
        assert result.exit_code == 2 and says in result.output


def test_a_baseline_is_repeated_from_its_folder(tmp_path: Path) -> None:
    words = words_of("env=Pendulum-v1", *ROLLOUTS, folder=tmp_path / "run")
    run = baseline(*words)
    again = tmp_path / "again"
    arguments = ["baseline", "-q", "--from", str(run.dir), f"run_dir={again}"]
    assert CliRunner().invoke(neuraxis, arguments).exit_code == 0
    ours, theirs = load(again, "last").state_dict(), load(run.dir, "last").state_dict()
    assert all(torch.equal(leaf, theirs[key]) for key, leaf in ours.items())
    assert not Run.open(again).cfg.env.rescale_actions


def test_a_replay_has_one_environment_unless_it_is_said() -> None:
    assert load_words(["agent=sb3/dqn"]).num_envs == 1
    assert load_words(["agent=sb3/dqn", "num_envs=4"]).num_envs == 4
    assert load_words(["agent=sb3/a2c"]).num_envs == 8


def test_statistics_are_kept_with_the_policy(tmp_path: Path) -> None:
    words = words_of("env=Pendulum-v1", *ROLLOUTS, SMALL, folder=tmp_path / "run", steps=512)
    run = baseline(*words, "agent.normalize=true", "eval.interval_steps=0")
    folder = run.dir / "checkpoints" / "step_000000512"
    envs = VecNormalize.load(str(folder / STATISTICS), Sb3Envs(run.cfg.env, 2, 0))
    obs = np.array([[0.5, -0.5, 7.0], [1.0, 0.0, -3.0]], np.float32)
    seen = np.asarray(envs.normalize_obs(obs))
    expected, _ = PPO.load(folder / ZIP).predict(seen, deterministic=True)
    policy = load(run.dir, "last")
    action, _, _ = policy.act(torch.from_numpy(obs), (), torch.ones(2).bool(), greedy=True)
    np.testing.assert_array_equal(action.numpy(), expected)
    assert not np.allclose(seen, obs), "there are statistics"


def test_a_stored_baseline_is_evaluated_and_asked_as_any_run(tmp_path: Path) -> None:
    run = baseline(*words_of("env=CartPole-v1", *ROLLOUTS, folder=tmp_path / "run"))
    policy = load(run.dir)
    again = evaluate(policy, run.cfg.env, 2, seed=4)
    assert evaluate(load(run.dir), run.cfg.env, 2, seed=4) == again
    action, _ = policy.predict(np.zeros(4, np.float32))
    assert action in (0, 1)
    result = CliRunner().invoke(neuraxis, ["compare", str(run.dir)])
    assert "sb3/ppo" in result.output


def test_columns_open_the_next_episode_at_once() -> None:
    config = EnvConfig(id="Pendulum-v1", time_limit=3, rescale_actions=False, reward_scale=0.5)
    envs, ours = Sb3Envs(config, 2, seed=1), make(config, 2, seed=1)
    np.testing.assert_array_equal(envs.reset(), ours.reset())
    action = np.zeros((2, 1), np.float32)
    theirs, steps = zip(*((envs.step(action), ours.step(action)) for _ in range(3)), strict=True)
    for number, ((_, reward, done, _), (_, raw, _, _)) in enumerate(
        zip(theirs, steps, strict=True)
    ):
        np.testing.assert_allclose(reward, 0.5 * raw, rtol=1e-6)
        assert done.tolist() == [number == 2] * 2
    obs, _, _, infos = theirs[-1]
    for column, info in enumerate(infos):
        np.testing.assert_array_equal(info["terminal_observation"], steps[-1][0][column])
        assert info["TimeLimit.truncated"]
        assert info["episode"]["r"] == pytest.approx(sum(raw[column] for _, raw, _, _ in steps))
        assert info["episode"]["l"] == 3
    np.testing.assert_array_equal(obs, ours.step(action)[0])


def test_a_replay_is_built_for_training_alone(tmp_path: Path) -> None:
    words = words_of("agent=sb3/dqn", "env=CartPole-v1", *REPLAY, folder=tmp_path / "run")
    run = baseline(*words, "agent.kwargs.buffer_size=500")
    agent = build_agent(run.cfg)
    assert isinstance(agent, Sb3) and agent.model.replay_buffer.buffer_size == 250
    assert run.cfg.num_envs == 2
    spaces = agent.setup.observation_space, agent.setup.action_space
    loaded = build_agent(run.cfg, spaces=spaces)
    assert isinstance(loaded, Sb3) and loaded.model.replay_buffer.buffer_size == 1
    with pytest.raises(ValueError, match=r"agent=sb3/dqn: .*agent.kwargs.buffer_size"):
        build_agent(load_words([*words[:2], "agent.kwargs.buffer_size=10_000_000_000_000"]))


def test_a_callback_stops_a_baseline(tmp_path: Path) -> None:
    class Enough(Callback):
        updates = 0

        def on_update(self, run: Run, metrics: Any) -> None:
            self.updates += 1
            if self.updates == 2:
                run.stop("two updates are enough")

    words = words_of("env=CartPole-v1", *ROLLOUTS, folder=tmp_path / "run", steps=1_000)
    run = baseline(*words, callbacks=[Enough()])
    assert run.summary["status"] == "stopped"
    assert run.summary["reason"] == "two updates are enough"
    assert 128 <= run.steps < 200


WRONG = {
    ("agent=ppo",): "agent=ppo: no algorithm of another library; expected sb3/ppo, ",
    ("agent=sb3/pp",): "did you mean sb3/ppo?",
    ("agent=sb3/sac", "env=CartPole-v1"): "needs a Box action space, got Discrete(2)",
    ("agent.kwargs.n_step=3",): "no such argument; did you mean n_steps?",
    ("agent.kwargs.seed=3",): "agent.kwargs.seed: is set by seed; expected seed=",
    ("agent.kwargs.n_steps=two",): "agent.kwargs.n_steps=two: expected a whole number",
    ("agent.kwargs.policy_kwargs.activation_fn=Tan",): "did you mean Tanh?",
    ("agent.kwargs.learning_rate=lin_fast",): "agent.kwargs.learning_rate=lin_fast: expected",
    ("agent.kwargs.gamma=lin_0.9",): "agent.kwargs.gamma=lin_0.9: expected a number",
    ("agent.kwargs.use_sde=3",): "agent.kwargs.use_sde=3: expected true or false",
    ("agent.kwargs.policy_kwargs=3",): "agent.kwargs.policy_kwargs=3: expected a mapping",
    ("agent.kwargs.policy_kwargs.activation_fn=3",): "activation_fn=3: expected an activation of",
    ("agent.kwargs.rollout_buffer_class=X",): "agent.kwargs.rollout_buffer_class: sb3/ppo has no",
    ("agent.policy=MlpPolic",): "no policy of agent=sb3/ppo; expected MlpPolicy, CnnPolicy",
    ("agent.action_noise=0.1",): "agent=sb3/ppo adds no noise to its actions; expected 0",
    ("agent=sb3/dqn", "agent.action_noise=0.1"): "agent=sb3/dqn adds no noise to its actions",
    ("env=FrozenLake-v1", "agent.normalize=true"): "needs a Box of numbers, got Discrete(16)",
    ("env.last_action=true", "agent.normalize=true"): "agent.normalize=true: needs a Box of",
    ("network=lstm",): "network: agent=sb3/ppo has none",
    ("ray.workers=2",): "ray: a baseline has no such setting",
    ("env=Taxi-v4", "env.action_mask=info"): "env.action_mask: agent=sb3/ppo knows no masks",
    ("env=MiniGrid-Nowhere-v0",): "env.id='MiniGrid-Nowhere-v0'",
}


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_what_cannot_be_run_is_refused_in_one_line(words: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = ["baseline", *words, f"run_dir={folder}", "wandb.mode=disabled"]
    result = CliRunner().invoke(neuraxis, arguments)
    assert result.exit_code == 2
    assert WRONG[words] in result.output
    assert not folder.exists()


def test_other_commands_say_what_trains_a_baseline(tmp_path: Path) -> None:
    run = baseline(*words_of("env=CartPole-v1", *ROLLOUTS, folder=tmp_path / "run"))
    for arguments, says in (
        (["train", "agent=sb3/ppo"], "another library trains it, expected `neuraxis baseline`"),
        (["resume", str(run.dir), "total_steps=999"], "cannot be resumed; train it anew with `neu"),
    ):
        result = CliRunner().invoke(neuraxis, arguments)
        assert result.exit_code == 2
        assert says in result.output


def test_presets_are_loaded_with_the_librarys_own_actions() -> None:
    names = [name for name in choices("experiment") if "_sb3_" in name]
    assert len(names) == 16
    for name in names:
        cfg = load_words([f"experiment={name}"])
        assert cfg.agent.name == f"sb3/{name.rpartition('_')[2]}"
        discrete = name.startswith(("acrobot", "cartpole", "lunarlander"))
        assert cfg.env.rescale_actions == discrete, "it matters to bounded actions alone"
    assert load_words(["env.rescale_actions=true"]).env.rescale_actions
    assert set(baselines()) == set(ALGORITHMS)


def test_metrics_have_our_names() -> None:
    theirs = {"train/policy_gradient_loss": 1.0, "train/entropy_loss": -0.5, "train/loss": 9.0}
    ours = translated(theirs | {"train/value_loss": 2.0, "train/n_updates": 3})
    assert ours == {"loss/policy": 1.0, "policy/entropy": 0.5, "loss/value": 2.0}
    assert translated({"train/loss": 4.0}) == {"loss/td": 4.0}
    assert translated({"train/critic_loss": 4.0, "train/actor_loss": 2.0}).keys() <= {
        *METRICS.values()
    }
