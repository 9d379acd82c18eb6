"""Teachers: what a student of any kind learns from a policy of any kind, in its own states."""

from __future__ import annotations

import copy
import functools
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from neuraxis.agents import agent_class, agent_names
from neuraxis.agents.learning.distillation import categorical_kl, large_margin
from neuraxis.agents.learning.execution import recorded
from neuraxis.agents.policies.actor_critic import ActorCritic
from neuraxis.agents.policies.advice import outputs
from neuraxis.agents.policies.joint_actions import JointActions
from neuraxis.agents.policies.policy import Policy
from neuraxis.agents.teacher import digest
from neuraxis.agents.teacher_config import TaughtConfig
from neuraxis.configs import load, load_resumed
from neuraxis.core.errors import RunError
from neuraxis.core.tree import leaves, map_tree
from neuraxis.training import load as load_policy
from neuraxis.training import train
from neuraxis.training.distributed.build import build_agent
from neuraxis.training.session import open_source, prepare
from neuraxis.training.storage import checkpoint
from neuraxis.training.storage.checkpoint_folder import chosen

from .helpers import Training, action_words, claimed, config, part, quick, training
from .helpers import weights as trained_weights
from .test_learners import Team, draw_noise_alike
from .test_learning import identity, learned
from .test_reference import documented
from .test_resume import lines, resume_after_crash

TAUGHT = [n for n in agent_names() if issubclass(agent_class(n).Config, TaughtConfig)]
TEACHERS = {"discrete": ("ppo", "dqn", "sac"), "box": ("ppo", "sac", "td3")}
PAIRS = [*itertools.product(("ppo", "dqn", "sac"), repeat=2)]
STUDENTS = [(name, kind) for name in TAUGHT for kind in claimed(name)]


def student(teacher: Policy, *words: str) -> Training:
    """A training with a teacher that was made here."""
    torch.set_num_threads(1)
    cfg = config("agent.teacher.from=here", *words)
    agent = build_agent(cfg, teacher=teacher)
    return Training(cfg, agent, open_source(cfg, agent.policy, agent.rollout_length))


def sure(policy: Policy, seed: int, scale: float = 0.3) -> Policy:
    """The policy with outputs of some size: they begin near 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if name.startswith(("head.", "advantage.")) and parameter.ndim > 1:
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return policy.eval()


def untrained(*words: str, scale: float = 0.3) -> Policy:
    """A policy that means what it says, in eval mode."""
    return sure(build_agent(config(*words)).policy, 1, scale)


# --- what a teacher says ---


def log_probs(policy: Policy, output: Any, joint: JointActions) -> Tensor:
    """Log-probabilities [L, N, A] of joint actions, one at a time."""
    if not isinstance(policy, ActorCritic):
        return output
    actions = [joint.action(torch.tensor(number)) for number in range(joint.count)]
    lead = next(leaves(output)).shape[:2]
    given = [action.expand(*lead, *action.shape) for action in actions]
    return torch.stack([policy.head.log_prob(output, action) for action in given], -1)


@pytest.mark.parametrize("kind", ["discrete", "multidiscrete", "multibinary"])
@pytest.mark.parametrize("pair", PAIRS)
def test_a_student_goes_down_the_divergence_of_joint_actions(
    pair: tuple[str, str], kind: str
) -> None:
    """Whatever the parts of an action, and whoever knows them: the gradients are the same."""
    env = action_words(kind, 3)
    teacher = untrained(f"agent={pair[0]}", *env)
    words = ("agent.teacher.temperature=0.5",)
    words += ("agent.teacher.form=kl",) if pair[1] == "dqn" else ()
    run = student(teacher, f"agent={pair[1]}", *env, *words)
    rollout, policy = run.agent.teacher.advise(run.rollout()), sure(run.agent.policy, 2)
    obs, first = map_tree(lambda leaf: leaf[:-1], rollout.obs), rollout.first[:-1]
    joint = JointActions(teacher.action_space)
    with torch.no_grad():
        said = log_probs(teacher, outputs(teacher)(obs, (), first)[0], joint)
        said = (said / 0.5).log_softmax(-1) if pair[0] == "dqn" else said
    output, _ = outputs(policy)(obs, (), first)
    own = log_probs(policy, output, joint)
    own = (own / 0.5).log_softmax(-1) if pair[1] == "dqn" else own
    torch.testing.assert_close(own.exp().sum(-1), torch.ones(own.shape[:2]))
    distance = run.agent.teacher.distance(output, rollout.extras["advice"])
    assert (distance > -1e-5).all() and distance.mean() > 0.05
    expected = categorical_kl(said, own)
    assert (distance <= expected + 1e-4).all()
    found, wanted = (
        torch.autograd.grad(each.sum(), list(policy.parameters()), retain_graph=True,
                            allow_unused=True)
        for each in (distance, expected)
    )  # fmt: skip
    for one, two in zip(found, wanted, strict=True):
        assert (one is None) == (two is None)
        if one is not None:
            torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


SQUASHED = ("agent=ppo", "agent.gaussian.squashed=true")
BOX = {
    "ppo-ppo": (("agent=ppo",), ("agent=ppo",), "kl"),
    "gSDE-ppo": (("agent=ppo", "agent.gaussian.use_sde=true"), ("agent=ppo",), "kl"),
    "sac-squashed": (("agent=sac",), SQUASHED, "kl"),
    "squashed-sac": (SQUASHED, ("agent=sac",), "kl"),
    "sac-ppo": (("agent=sac",), ("agent=ppo",), "error"),
    "ppo-sac": (("agent=ppo",), ("agent=sac",), "error"),
    "td3-ppo": (("agent=td3",), ("agent=ppo",), "error"),
    "td3-sac": (("agent=td3",), ("agent=sac",), "error"),
}


@pytest.mark.parametrize("case", BOX)
def test_in_a_box_gaussians_are_compared_where_both_are_alike_and_else_the_actions(
    case: str,
) -> None:
    """The divergence is the mean log-ratio of 100,000 samples of the teacher."""
    theirs, ours, kind = BOX[case]
    env = action_words("box", 2)
    teacher = untrained(*theirs, *env, scale=0.1)
    run = student(teacher, *ours, *quick("sac" if ours == ("agent=sac",) else "ppo"), *env)
    rollout, policy = run.agent.teacher.advise(run.rollout()), sure(run.agent.policy, 2, 0.1)
    obs, first = map_tree(lambda leaf: leaf[:1], rollout.obs), rollout.first[:1]
    with torch.no_grad():
        output, _ = outputs(policy)(obs, (), first)
        said, _ = outputs(teacher)(obs, (), first)
        distance = run.agent.teacher.distance(output, rollout.extras["advice"][:1])
    if kind == "error":
        actions = [
            each.act(map_tree(lambda leaf: leaf[0], obs), (), first[0], greedy=True)[0]
            for each in (teacher, policy)
        ]
        torch.testing.assert_close(distance[0], (actions[0] - actions[1]).square().mean(-1))
        return
    (mean, log_std), (own_mean, own_log_std) = said[:2], output[:2]
    normal = torch.distributions.Normal(mean, log_std.exp().expand_as(mean))
    sample = normal.sample((100_000,))
    own = torch.distributions.Normal(own_mean, own_log_std.exp().expand_as(own_mean))
    ratio = (normal.log_prob(sample) - own.log_prob(sample)).sum(-1).mean(0)
    torch.testing.assert_close(distance, ratio, rtol=0.05, atol=0.02)


def test_the_large_margin_by_hand() -> None:
    """Action 1 has 2.0: action 0, with 1.5 + 0.8, is ahead by 0.3; it must lead by 0.8."""
    q = torch.tensor([[[1.5, 2.0, 0.0]], [[1.0, 2.0, 0.0]]], requires_grad=True)
    loss = large_margin(q, torch.tensor([[1], [1]]), 0.8)
    torch.testing.assert_close(loss, torch.tensor([[0.3], [0.0]]))
    (gradient,) = torch.autograd.grad(loss.sum(), q)
    assert gradient[0, 0].tolist() == [1, -1, 0] and not gradient[1].any()


@pytest.mark.parametrize("kind", ["discrete", "multidiscrete", "multibinary"])
@pytest.mark.parametrize("pair", PAIRS)
def test_what_is_forbidden_counts_for_nothing(pair: tuple[str, str], kind: str) -> None:
    mask = ("env=neuraxis/Masked-v0", "env.kwargs.strict=true", "env.action_mask=info")
    env = (*mask, f"env.kwargs.action_space={kind}", "env.kwargs.size=3")
    teacher = untrained(f"agent={pair[0]}", *env)
    run = student(teacher, f"agent={pair[1]}", *quick(pair[1]), *env, "num_envs=2")
    advised = run.agent.teacher.advise(run.rollout())
    obs, first = map_tree(lambda leaf: leaf[:-1], advised.obs), advised.first[:-1]
    output, _ = outputs(sure(run.agent.policy, 2))(obs, (), first)
    distance = run.agent.teacher.distance(output, advised.extras["advice"])
    assert distance.isfinite().all() and (distance > -1e-3).all() and distance.max() < 100
    metrics = [run.step() for _ in range(4)][-1]
    assert all(abs(value) < 1e3 for name, value in metrics.items() if "teacher" in name)


# --- how it is asked ---


@pytest.mark.parametrize("network", ["mlp", "lstm", "gru", "transformer"])
def test_a_teachers_memory_goes_on_from_one_rollout_to_the_next(network: str) -> None:
    """Also where parts of the columns arrive alone: what it says is what it would do."""
    words = ("num_envs=3", "agent.n_steps=8", "env.time_limit=10")
    teacher = untrained("agent=ppo", f"network={network}", *words)
    run = student(teacher, "agent=impala", *words)
    state = teacher.initial_state(3)
    for turn in range(4):
        rollout, said = run.rollout(), torch.zeros(8, 3, 2)
        for columns in ([2, 0], [1]) if turn % 2 else ([0, 1, 2],):
            advised = run.agent.teacher.advise(part(rollout, columns))
            said[:, columns] = advised.extras["advice"]
        run.source.publish(run.agent.policy)
        with torch.no_grad():
            for row in range(8):
                obs, first = rollout.obs[row], rollout.first[row]
                action, _, state = teacher.act(obs, state, first, greedy=True)
                assert torch.equal(said[row].argmax(-1), action)


@pytest.mark.parametrize("agent", TAUGHT)
def test_a_teacher_is_in_eval_mode_and_never_changes(agent: str) -> None:
    """Though it has dropout, batch and observation statistics, and the student has, too."""
    words = ("env=CartPole-v1", "agent.normalize_observations=true", "num_envs=2")
    regular = ("network.blocks=[{name: mlp, sizes: [8], dropout: 0.5, norm: batch}]",)
    teacher = untrained("agent=ppo", *words, *regular)
    assert teacher.normalizer is not None
    teacher.normalizer.update(torch.randn(5, 4, 4))
    before = digest(teacher)
    run = student(teacher, f"agent={agent}", *quick(agent), *words, *regular)
    rollout = run.rollout()
    said = [run.agent.teacher.advise(rollout).extras["advice"] for _ in range(2)]
    assert torch.equal(*said), "no dropout"
    for _ in range(4):
        run.step()
    assert digest(teacher) == before
    assert not any(module.training for module in teacher.modules())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert run.agent.policy.normalizer.mean.abs().sum() > 0


@pytest.mark.parametrize("agent", TAUGHT)
def test_the_weight_falls_to_0_and_is_logged(agent: str) -> None:
    words = (f"agent={agent}", *quick(agent), "env=CartPole-v1", "num_envs=2", "total_steps=256")
    schedule = (
        "agent.teacher.coef=2",
        "agent.teacher.fraction=0.5",
        "agent.teacher.schedule=linear",
    )
    run = student(untrained("agent=ppo"), *words, *schedule)
    teacher = run.agent.teacher
    assert [teacher.coef(share) for share in (0, 0.25, 0.5, 1)] == [2, 1, 0, 0]
    logged: dict[str, float] = {}
    for _ in range(4):
        logged |= run.step()
    assert 0 < logged["teacher/coef"] < 2
    assert {"teacher/kl", "teacher/margin"} & logged.keys() and logged.keys() <= documented()


def test_a_constant_weight_ends_at_its_share_of_the_run() -> None:
    """With the whole run as its share, which agents that learn from nothing else have, it stays."""
    words = ("agent=bc", *quick("bc"), "env=CartPole-v1", "agent.teacher.coef=2")
    for fraction, coefs in ((0.5, [2, 2, 0, 0]), (1, [2, 2, 2, 2])):
        run = student(untrained("agent=ppo"), *words, f"agent.teacher.fraction={fraction}")
        assert [run.agent.teacher.coef(share) for share in (0, 0.49, 0.5, 1)] == coefs


# --- that it is learned from ---


@functools.cache
def trained(agent: str, kind: str) -> Policy:
    """A policy that knows the identity environment."""
    run = training(*identity(agent, kind), *action_words(kind))
    assert learned(run, 8.5 if kind == "box" else 9.9)
    return run.agent.policy


def lesson(agent: str, *words: str) -> tuple[str, ...]:
    """Words with which an agent learns from its teacher, and rewards say nothing."""
    family = {
        "dqn": ("agent.learning_starts=100", "agent.gradient_steps=4"),
        "sac": ("agent.learning_starts=100", "agent.gradient_steps=8", "agent.ent_coef=0.01"),
    }
    usual = ("agent.n_steps=16", "agent.batch_size=64", "agent.ent_coef=0")
    own = (f"agent={agent}", *family.get(agent, usual), "agent.learning_rate=5e-3")
    return (
        *own,
        "env.reward_scale=0",
        "total_steps=20_000",
        "agent.teacher.schedule=constant",
        *words,
    )


@pytest.mark.parametrize(
    ("teacher", "agent", "kind"),
    [(teacher, agent, kind) for agent, kind in STUDENTS for teacher in TEACHERS.get(kind, ())],
)
def test_every_student_learns_from_every_teacher_without_any_reward(
    teacher: str, agent: str, kind: str
) -> None:
    run = student(trained(teacher, kind), *lesson(agent), *action_words(kind))
    assert learned(run, 8.0 if kind == "box" else 9.5)


def test_a_dqn_with_a_cnn_teaches_a_ppo_with_an_lstm() -> None:
    """The two share nothing but what they see and do: the first updates bring them closer."""
    env = ("env=neuraxis/Dict-v0", "env.kwargs.size=8", "num_envs=4", "env.time_limit=6")
    cnn = "{name: cnn, architecture: small, size: 32}"
    teacher = untrained("agent=dqn", *env, f"network.blocks=[{cnn}]", scale=2.0)
    words = (*lesson("ppo"), *env, f"network.blocks=[{cnn}, {{name: lstm, size: 16}}]")
    run = student(teacher, *words, "agent.teacher.temperature=1.0")
    assert run.agent.has_memory and not isinstance(run.agent.teacher.policy, ActorCritic)
    before = digest(teacher)
    first, second = run.step(), run.step()
    assert 0 < second["teacher/kl"] < 0.9 * first["teacher/kl"]
    assert digest(teacher) == before


# --- in a run ---


@pytest.mark.parametrize("agent", TAUGHT)
def test_recorded_updates_are_the_plain_ones(agent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "CALLS_BEFORE", 0)
    words = (f"agent={agent}", *quick(agent), "env=CartPole-v1", "num_envs=4", "total_steps=512")
    teacher = untrained("agent=dqn")
    found: list[Tensor] = []
    for wrapped in (True, False):
        run = student(copy.deepcopy(teacher), *words)
        assert run.agent.execution == "recorded"
        if not wrapped:
            own = run.agent
            own.run_update = lambda batch, own=own: own.update(own.weigh(batch))
        for _ in range(6):
            run.step()
        found.append(trained_weights(run.agent))
    assert torch.equal(*found)


@pytest.mark.parametrize("agent", TAUGHT)
def test_two_learners_are_one(agent: str) -> None:
    words = (f"agent={agent}", *quick(agent), "env=CartPole-v1", "num_envs=5")
    run = student(untrained("agent=ppo", "network=gru"), *words)
    with Team(run, 2) as team:
        for each in (run.agent, *team.agents):
            if agent in ("dqn", "sac"):
                draw_noise_alike(each)
        metrics: dict[str, Tensor] = {}
        for _ in range(3):
            rollout = run.rollout()
            metrics = run.agent.learn(rollout)
            for theirs in team.learn(rollout):
                assert theirs.keys() == metrics.keys()
                for name, value in metrics.items():
                    assert torch.allclose(theirs[name], value, 1e-3, 1e-4), name
        assert any("teacher/" in name for name in metrics)


QUIET = ("wandb.mode=disabled", "device=cpu", "eval.interval_steps=0", "eval.final_episodes=1")
SHORT = ("num_envs=4", "total_steps=600", "checkpoint.interval_steps=150", "log_interval_steps=40")
FRESH = ("agent.n_steps=16", "agent.batch_size=32")
REPLAY = ("agent.learning_starts=100", "agent.gradient_steps=1", "agent.batch_size=16")
CASES = {
    "ppo-lstm": ("agent=ppo", *FRESH, "agent.n_epochs=1", "network=lstm"),
    "impala": ("agent=impala", *FRESH[:1]),
    "dqn-lstm": ("agent=dqn", *REPLAY, "network=lstm", "agent.sequence_length=8"),
    "sac": ("agent=sac", *REPLAY, "agent.prioritized=true"),
    "bc": ("agent=bc", *FRESH),
}


@pytest.fixture(scope="module")
def teacher_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with memory whose policy teaches."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    words = ("network=gru", "agent.normalize_observations=true", "agent.n_epochs=1", *FRESH)
    train(*QUIET, *words, total_steps=300, run_dir=folder)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_resumed_equals_never_stopped(name: str, teacher_run: Path, tmp_path: Path) -> None:
    words = (*QUIET, *SHORT, *CASES[name], f"agent.teacher.from={teacher_run}")
    whole = resume_after_crash(words, tmp_path, at=400)
    assert any("teacher/coef" in line for line in lines(whole))
    about = json.loads((whole / "meta.json").read_text())["teacher"]
    assert about["from"] == str(teacher_run) and len(about["sha256"]) == 64


def test_another_teacher_is_refused_when_a_run_is_resumed(
    teacher_run: Path, tmp_path: Path
) -> None:
    """And a run can be evaluated when its teacher is gone."""
    teacher = tmp_path / "teacher"
    shutil.copytree(teacher_run, teacher)
    words = (*QUIET, *FRESH, f"agent.teacher.from={teacher}", "agent.teacher.checkpoint=last")
    run = train(*words, total_steps=300, run_dir=tmp_path / "run")
    resumed = functools.partial(load_resumed, run.dir / "config.yaml", ["total_steps=500"])
    prepare(resumed(), run.dir).source.close()
    prepare(load_resumed(teacher / "config.yaml", ["total_steps=900"]), teacher).run()
    with pytest.raises(RunError, match="checkpoint last is not the one that the run began with"):
        prepare(resumed(), run.dir)
    shutil.rmtree(teacher)
    with pytest.raises(ValueError, match=r"agent\.teacher\.from=.*no such run"):
        prepare(resumed(), run.dir)
    assert load_policy(run.dir).action_space == spaces.Discrete(2)


def refused(*words: str) -> str:
    with pytest.raises(ValueError) as error:
        prepare(load([*QUIET, *words]))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_teachers_that_cannot_be_read_are_refused_in_one_line(
    teacher_run: Path, tmp_path: Path
) -> None:
    """Each line names the key."""

    def changed(name: str, change: Callable[[dict[str, Any]], object]) -> Path:
        shutil.copytree(teacher_run, folder := tmp_path / name)
        place = chosen(folder / "checkpoints", "best")
        tree = checkpoint.read(place)
        change(tree["agent"]["policy"])
        checkpoint.write(place, tree)
        return folder

    spoilt = changed("spoilt", lambda policy: policy["head.linear.bias"].fill_(torch.nan))
    lacking = changed("lacking", lambda policy: policy.pop("head.linear.bias"))
    shutil.copytree(teacher_run, cut := tmp_path / "cut")
    file = chosen(cut / "checkpoints", "best") / checkpoint.ARRAYS
    file.write_bytes(file.read_bytes()[:-9])
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/config.yaml").write_text("algo: a2c")
    torch.save({}, tmp_path / "model.pt")
    lines = {
        spoilt: "head.linear.bias has numbers that are not finite",
        lacking: "head.linear.bias",
        cut: "damaged, its SHA-256 differs",
        tmp_path / "foreign": "there is no checkpoint",
        tmp_path / "model.pt": "is no run",
    }
    for folder, line in lines.items():
        said = refused(f"agent.teacher.from={folder}")
        assert said.startswith(f"agent.teacher.from={folder}: ") and line in said, said
    kinds = [("env=neuraxis/Dict-v0", f"env.kwargs.action_space={kind}") for kind in claimed("ppo")]
    with pytest.raises(ValueError, match=r"^agent\.teacher\.from=here: action_space Discrete"):
        student(untrained("agent=ppo", *kinds[0]), "agent=ppo", *kinds[-1])


PENDULUM = ("env=Pendulum-v1",)


def test_bad_teachers_are_refused_in_one_line(teacher_run: Path) -> None:
    given = f"agent.teacher.from={teacher_run}"
    assert "expected agent.teacher.from, the run whose policy" in refused("agent.teacher.coef=2")
    assert "no such run" in refused("agent.teacher.from=nowhere")
    assert "checkpoint step_7: expected last" in refused(given, "agent.teacher.checkpoint=step_7")
    assert "observation_space Box" in refused(given, "env=Acrobot-v1")
    assert "unknown key" in refused(given, "agent.teacher.form=kl")
    assert "a setting of agent=" in refused("agent=td3", "env=Pendulum-v1", given)
    assert "expected agent.dataset=DIR" in refused("agent=bc")
    with pytest.raises(ValueError, match=r"agent\.loss=mse: is of what a dataset did"):
        student(untrained("agent=ppo", *PENDULUM), "agent=bc", *PENDULUM, "agent.loss=mse")
    goals = ("env=neuraxis/BitFlip-v0", "agent=dqn")
    teacher = untrained(*goals)
    with pytest.raises(ValueError, match=r"agent\.hindsight=future: the teacher's advice is about"):
        student(teacher, *goals, "agent.hindsight=future")
