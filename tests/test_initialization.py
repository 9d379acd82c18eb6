"""What an agent starts from: weights, copies of them and statistics, for every agent."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from neuraxis.agents import Agent, agent_class
from neuraxis.agents.fresh import FreshAgent
from neuraxis.agents.learning.optimizer import Optimizer
from neuraxis.agents.learning.target import TargetNetwork
from neuraxis.agents.loading import loadable, return_scales
from neuraxis.networks.weight_norm import NormedLinear
from neuraxis.training.distributed.build import build_agent
from neuraxis.training.initialization import Start, initialise
from neuraxis.training.session import open_source, prepare
from neuraxis.training.storage import checkpoint, weights
from neuraxis.training.storage.checkpoint_folder import chosen

from .demonstrations import balance, demonstrate
from .helpers import REWARDED, WITH_NETWORK, action_words, claimed, config, fitting, quick, training

SMALL = ("num_envs=2", "total_steps=400", "env.time_limit=20", "wandb.mode=disabled")
SHORT = ("eval.final_episodes=1", "eval.interval_steps=0")
STATISTICS = "agent.normalize_observations=true", "agent.normalize_rewards=true"


def environment(agent: str) -> str:
    if not agent_class(agent).has_network:
        return "env=CliffWalking-v1"
    return "env=CartPole-v1" if "discrete" in claimed(agent) else "env=Pendulum-v1"


def words_of(agent: str, *words: str) -> tuple[str, ...]:
    settings = fitting(agent, "network.blocks.0.sizes=[8,8]", *words)
    return f"agent={agent}", environment(agent), *SMALL, *quick(agent), *settings


def stored(folder: Path, *words: str, rollouts: int = 0) -> Path:
    """A run that has a checkpoint after some rollouts."""
    session = prepare(config(f"run_dir={folder}", "seed=7", *words))
    for _ in range(rollouts):
        rollout = session.source.next()
        metrics = session.learner.learn(rollout)
        session.source.publish(session.agent.policy)
        session.current_run.add(rollout, metrics)
    session.current_run.save(session.agent, session.source)
    session.current_run.finish("stopped")
    session.source.close()
    return folder


def started(source: object, *words: str) -> tuple[Agent, Start]:
    agent = build_agent(cfg := config(*words, f"init.from={source}"))
    start = initialise(cfg, agent)
    assert start is not None
    return agent, start


def tensors(source: Path) -> dict[str, Tensor]:
    return dict(weights.read(source).tensors)


def check_copies(agent: Agent) -> None:
    """Optimizers hold the weights, and targets are what they follow."""
    for part in agent.parts.values():
        if isinstance(part, Optimizer):
            flat = torch.cat([weight.detach().flatten() for weight in part.parameters])
            assert torch.equal(flat, part.flat)
            assert not part.count.any() and not part.mean.any(), "moments are fresh"
        elif isinstance(part, TargetNetwork):
            followed, target = part.optimizer.trained.state_dict(), part.network.state_dict()
            assert all(torch.equal(followed[name], x) for name, x in target.items())
            assert not part.training


@pytest.mark.parametrize("agent", REWARDED)
def test_an_agent_starts_as_the_one_that_was_stored(agent: str, tmp_path: Path) -> None:
    """All weights and statistics, and no random number, moment or exploration of it."""
    words = words_of(agent, *STATISTICS, "agent.rnd.coef=0.5")
    source = stored(tmp_path / "source", *words, rollouts=12)
    fresh, drawn = build_agent(config(*words)), torch.get_rng_state()
    found, start = started(source, *words)
    assert torch.equal(torch.get_rng_state(), drawn), "no random number is drawn"
    assert found.rng.bit_generator.state == fresh.rng.bit_generator.state
    own, expected = loadable(found), tensors(source)
    assert all(torch.equal(own[name], expected[name]) for name in own)
    assert not start.report.new and start.report.parameters == start.report.total
    changed = {name for name, x in loadable(fresh).items() if not torch.equal(x, own[name])}
    assert {name.partition(".")[0] for name in changed} == {n.partition(".")[0] for n in own}
    check_copies(found)
    assert all(
        torch.equal(x, dict(fresh.policy.named_buffers())[name])
        for name, x in found.policy.named_buffers(recurse=False)
    ), "exploration begins anew"
    assert found.steps == 0 and start.scales == dict.fromkeys(return_scales(fresh), True)


NEVER = {
    "bc": ("agent=bc",),
    "bc, shared": ("agent=bc", "network.shared=true"),
    "pretrain": ("agent=pretrain",),
    "no baseline": ("agent=reinforce", "agent.baseline=false"),
    "ppo": ("agent=ppo", "agent.vf_coef=0"),
    "impala": ("agent=impala", "agent.vf_coef=0"),
}
"""Agents with parts that nothing trains."""


def cloned(folder: Path, *words: str, rollouts: int = 1) -> Path:
    """A run of an agent that may need a dataset, with a checkpoint."""
    words = ("env=CartPole-v1", *SMALL, "network.blocks.0.sizes=[8,8]", "agent.n_steps=8", *words)
    if any(word in ("agent=bc", "agent=pretrain") for word in words):
        demos = folder.parent / "demos"
        if not demos.exists():
            demonstrate(config(*words), demos, balance, 2)
        words += (f"agent.dataset={demos}",)
    return stored(folder, *words, rollouts=rollouts)


@pytest.mark.parametrize("case", NEVER)
def test_what_never_learned_is_new(case: str, tmp_path: Path) -> None:
    """The critic begins with the backbone that did; with a value that is as it was drawn."""
    path = cloned(tmp_path / "source", *NEVER[case])
    found, start = started(path, *words_of("ppo"))
    own, there = loadable(found), checkpoint.read(chosen(path / "checkpoints", "last"))
    policy = there["agent"]["policy"]
    fresh = loadable(build_agent(config(*words_of("ppo"))))
    new = {"value", "head"} if case == "pretrain" else {"value"}
    assert {name.partition(".")[0] for name in start.report.new} == new
    for name, tensor in own.items():
        root, _, rest = name.partition(".")
        trained = policy.get(f"actor.{rest}" if root == "critic" else name)
        assert torch.equal(tensor, fresh[name] if root in new else trained)
    assert start.report.parameters < start.report.total
    never = [f"{name}.*" for name in there["agent"]["untrained"]]
    assert f"init: not used, because they never learned: {', '.join(never)}" in [*start.notes()]
    assert start.facts()["never_learned"] == never
    del there["agent"]["untrained"]  # as older checkpoints are
    checkpoint.write(tmp_path / "old", there)
    assert not set(started(tmp_path / "old", *words_of("ppo"))[1].report.new) & {"value.weight"}


def test_what_had_learned_before_has_learned(tmp_path: Path) -> None:
    """A clone keeps the critic of the PPO that it began with, also when it was resumed."""
    first = stored(tmp_path / "ppo", *words_of("ppo"), rollouts=2)
    path = cloned(tmp_path / "bc", "agent=bc", f"init.from={first}")
    state = checkpoint.read(chosen(path / "checkpoints", "last"))["agent"]
    clone = build_agent(config("agent=bc", *words_of("ppo")[1:-3], "network.blocks.0.sizes=[8,8]"))
    assert clone.untrained() == ["critic", "value"]
    clone.load_state_dict(state)
    assert clone.untrained() == []
    del state["untrained"]  # as in older checkpoints, of which all counts as learned
    clone.load_state_dict(state)
    assert clone.untrained() == []
    _, start = started(path, *words_of("ppo"))
    assert not start.report.new and start.report.loaded["critic.blocks.0.layers.0.weight"]
    assert start.report.loaded["value.weight"] == "value.weight"


SOURCES = {
    "dqn": ("agent=dqn", "agent.learning_starts=9"),
    "rainbow": ("agent=rainbow", "agent.learning_starts=9"),
    "ppo": ("agent=ppo",),
    "ppo, shared": ("agent=ppo", "network.shared=true"),
    "sac": ("agent=sac", "agent.learning_starts=9"),
}
BACKBONES = {
    "backbone": ("backbone", "actor"),
    "actor": ("actor", "backbone"),
    "critic": ("critic", "actor", "backbone"),
}
"""Those there that one here may start from, the first that there is."""


@pytest.fixture(scope="module")
def source_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Makes the run of a source in an environment, once."""

    @functools.cache
    def make(name: str, env: str) -> Path:
        words = *SOURCES[name], env, *SMALL, "network.blocks.0.sizes=[8,8]"
        return stored(tmp_path_factory.mktemp("source") / "run", *words)

    return make


PAIRS = [
    (agent, shared, source)
    for agent in WITH_NETWORK
    for shared in ((False, True) if agent_class(agent).has_critic else (False,))
    for source in SOURCES
    if environment(agent) == "env=CartPole-v1" or not SOURCES[source][0].endswith(("dqn", "bow"))
]


@pytest.mark.parametrize(("agent", "shared", "source"), PAIRS)
def test_every_agent_starts_from_the_backbone_of_every_other(
    agent: str, shared: bool, source: str, source_of: Callable[[str, str], Path]
) -> None:
    path = source_of(source, environment(agent))
    there = tensors(path)
    words = words_of(agent, f"network.shared={str(shared).lower()}")
    found, start = started(path, *words, "init.parts=[backbone.*]")
    own = loadable(found)
    backbones = [name for name in own if name.partition(".")[0] in BACKBONES]
    assert [*start.report.loaded] == backbones and backbones
    assert ({"critic"} <= {name.partition(".")[0] for name in own}) <= (not shared)
    for name in backbones:
        root, _, rest = name.partition(".")
        origin = next(f"{r}.{rest}" for r in BACKBONES[root] if f"{r}.{rest}" in there)
        assert torch.equal(own[name], there[origin])
    check_copies(found)


ACROBOT = ("env=Acrobot-v1", *SMALL, "network.blocks.0.sizes=[8,8]")


@pytest.mark.parametrize(
    ("agent", "new"),
    [
        ("dqn", ["backbone.blocks.0.layers.0", "advantage.layers.0"]),
        ("ppo", ["actor.blocks.0.layers.0", "critic.blocks.0.layers.0", "head.linear", "value"]),
    ],
)
def test_other_observations_and_actions_have_new_layers(
    agent: str, new: list[str], source_of: Callable[[str, str], Path]
) -> None:
    path = source_of("dqn", "env=CartPole-v1")
    words = (f"agent={agent}", *ACROBOT, *quick(agent))
    with pytest.raises(ValueError, match=r"has the shape \[8, 4\] there and \[8, 6\] here"):
        started(path, *words)
    found, start = started(path, *words, "init.shapes=new")
    assert start.report.new == [f"{name}.{kind}" for name in new for kind in ("weight", "bias")]
    fresh = loadable(build_agent(config(*words)))
    assert all(torch.equal(loadable(found)[name], fresh[name]) for name in start.report.new)
    check_copies(found)
    source = open_source(config(*words), found.policy, found.rollout_length)
    before = {name: x.detach().clone() for name, x in loadable(found).items()}
    for _ in range(12):
        found.learn(source.next().to("cpu"))
    assert any(not torch.equal(before[name], x) for name, x in loadable(found).items())


def test_outputs_of_another_kind_of_action_are_new(tmp_path: Path) -> None:
    """Two choices and a Box of two numbers have heads of one shape."""
    block = "network.blocks.0.sizes=[8,8]"
    kinds = [(*action_words(kind, 2), *SMALL, block) for kind in ("multibinary", "box")]
    path = stored(tmp_path / "source", "agent=ppo", *kinds[0])
    with pytest.raises(ValueError, match=r"head\.linear\.weight is of other actions there, and 1"):
        started(path, "agent=ppo", *kinds[1])
    _, start = started(path, "agent=ppo", *kinds[1], "init.shapes=slice")
    assert start.report.new == ["head.log_std", "head.linear.weight", "head.linear.bias"]


def test_critics_of_other_actions_are_new(tmp_path: Path) -> None:
    """Their first layer reads actions before observations."""
    words = ("agent=sac", *SMALL, "agent.learning_starts=9", "network.blocks.0.sizes=[8,8]")
    path = stored(tmp_path / "source", *words, *action_words("box", 2))
    _, start = started(path, *words, *action_words("box", 3), "init.shapes=slice")
    new = {name.partition(".")[0] for name in start.report.new}
    assert new == {"critics", "head"}
    assert start.report.sliced == ["backbone.blocks.0.layers.0.weight"]


Q = ("agent=dqn", "agent.learning_starts=9")
C51 = (*Q, "agent.distribution=categorical")
QUANTILE = (*Q, "agent.distribution=quantile", "agent.n_quantiles=51")
RETURNS = {
    "limits": (C51, (*C51, "agent.v_max=500"), "agent.v_max=10.0"),
    "kind": (C51, QUANTILE, "agent.distribution=categorical"),
    "scale there": ((*Q, "agent.value_rescaling=true"), ("agent=pqn",), "_rescaling=true"),
    "scale here": (Q, (*Q, "agent.value_rescaling=true"), "agent.value_rescaling=false"),
}


@pytest.mark.parametrize("case", RETURNS)
def test_outputs_of_other_returns_are_new(case: str, tmp_path: Path) -> None:
    there, here, differs = RETURNS[case]
    words = ("env=CartPole-v1", *SMALL, "network.blocks.0.sizes=[8,8]")
    path = stored(tmp_path / "source", *words, *there)
    with pytest.raises(ValueError, match=rf"advantage.* is of other returns there \(.*{differs}\)"):
        started(path, *words, *here)
    _, start = started(path, *words, *here, "init.shapes=slice")
    assert {name.partition(".")[0] for name in start.report.new} == {"advantage"}
    assert not started(path, *words, *there)[1].report.new, "its own are not"


@pytest.mark.parametrize("network", ["gru", "lstm"])
def test_gates_are_sliced_by_columns_only(network: str, tmp_path: Path) -> None:
    words = ("agent=ppo", *SMALL, f"network={network}", "network.shared=true")
    sizes = "network.blocks.0.sizes=[8]", "network.blocks.1.size=8"
    path = stored(tmp_path / "source", *words, *sizes)
    core = "actor.blocks.1.core.weight_ih_l0"
    wide = "network.blocks.0.sizes=[9]", sizes[1], "init.shapes=slice"
    assert core in started(path, *words, *wide)[1].report.sliced
    long = sizes[0], "network.blocks.1.size=9", "init.shapes=slice"
    assert core in started(path, *words, *long)[1].report.new


@pytest.mark.parametrize("carry", [True, False])
def test_the_first_rollout_is_learned_from_under_the_statistics_that_it_was_acted_on(
    carry: bool, tmp_path: Path
) -> None:
    words = words_of("ppo", *STATISTICS)
    path = stored(tmp_path / "source", *words, rollouts=2)
    run = training(*words)
    if carry:
        initialise(config(*words, f"init.from={path}"), run.agent)
    agent: FreshAgent[Any] = run.agent
    assert agent.policy.normalizer is not None and agent.return_scale is not None
    rollout = run.rollout()
    seen: list[float] = []
    inner = agent.batch_of

    def watched(rollout: Any) -> Any:
        seen.append(float(agent.policy.normalizer.count))
        return inner(rollout)

    agent.batch_of = watched
    agent.learn(rollout)
    steps = rollout.first[1:].numel()
    assert seen == [2 * steps if carry else steps]
    assert float(agent.policy.normalizer.count) == (3 if carry else 1) * steps


def test_statistics_and_scale_of_rewards_may_be_fresh(tmp_path: Path) -> None:
    words = words_of("ppo", *STATISTICS)
    path = stored(tmp_path / "source", *words, rollouts=2)
    for kept in ("", "init.statistics=fresh", "init.reward_scale=fresh"):
        agent: Any = started(path, *words, *([kept] if kept else []))[0]
        assert bool(agent.policy.normalizer.count) == (kept != "init.statistics=fresh")
        assert bool(agent.return_scale.moments[0]) == (kept != "init.reward_scale=fresh")
        assert not agent.return_scale.running.any(), "no return is under way"


def test_what_differs_is_said(tmp_path: Path) -> None:
    words = words_of("ppo", *STATISTICS)
    path = stored(tmp_path / "source", *words, rollouts=2)
    other = ("network.blocks.0.activation=relu", "agent.normalize_observations=false")
    _, start = started(path, *words, *other, "init.parts=[actor.*]", "init.reward_scale=fresh")
    first, *notes = start.notes()
    total = start.report.total
    assert first == (
        f"init: 112 of {total} parameters ({112 / total:.0%}) are from "
        f"{path}/checkpoints/step_000000031, agent=ppo on CartPole-v1 after 31 steps: actor.*"
    )
    assert notes == [
        "init: new: critic.*, head.*, value.*",
        "init: not used: critic.*, head.*, value.*",
        "init: statistics: none here, but there observations were normalised "
        "(agent.normalize_observations=true)",
        "init: reward scale: fresh",
        "init: network.blocks.0.activation is relu here, it was tanh there",
    ]


BLOCK = "network.critic=[{{name: mlp, sizes: [8, 8], activation: {}}}]"
OTHER = {
    "critic": (BLOCK.format("relu"), BLOCK.format("tanh"), "network.critic.0.activation is tanh"),
    "critic here": ("seed=3", BLOCK.format("relu"), "network.critic.0.activation is relu"),
    "critic there": (BLOCK.format("relu"), "seed=3", "network.blocks.0.activation is tanh"),
    "head": ("seed=3", "agent.gaussian.log_std_max=0.5", "agent.gaussian.log_std_max is 0.5"),
}


@pytest.mark.parametrize("case", OTHER)
def test_other_settings_of_what_is_loaded_are_said(case: str, tmp_path: Path) -> None:
    there, here, says = OTHER[case]
    words = ("agent=ppo", "env=Pendulum-v1", *SMALL, "network.blocks.0.sizes=[8,8]")
    path = stored(tmp_path / "source", *words, there)
    notes = [*started(path, *words, here)[1].notes()]
    assert [note for note in notes if says in note] == notes[-1:] and " here, it was " in notes[-1]
    part = "init.parts=[actor.*]"
    assert not any(says in note for note in started(path, *words, here, part)[1].notes())


def test_what_is_fresh_of_statistics_and_scales_is_named(tmp_path: Path) -> None:
    """In a Dict some parts may be there and others not; RND has statistics of its own."""
    env = ("env=neuraxis/Dict-v0", "agent.rnd.coef=0.5", *STATISTICS)
    words = ("agent=ppo", *SMALL, "network.blocks.0.sizes=[8]", "agent.n_steps=8")
    path = stored(tmp_path / "source", *words, *env, rollouts=2)

    def said(*more: str) -> dict[str, str]:
        facts = started(path, *words, *env, *more)[1].facts()
        return {key: facts[key] for key in ("statistics", "reward_scale") if key in facts}

    whole = {"statistics": "carried on, of 32 observations", "reward_scale": "carried on"}
    assert said() == whole
    assert said("init.statistics=fresh") == whole | {"statistics": "fresh"}
    assert said("init.parts=[actor.*]") == {
        "statistics": "carried on, of 32 observations; fresh: rnd.normalizer.*",
        "reward_scale": "carried on; fresh: rnd.scale",
    }
    start = started(path, *words, *env)[1]
    (own,) = {name.rpartition(".")[0] for name in start.values if name.startswith("normalizer.")}
    half = {n: x for n, x in start.values.items() if not n.startswith(f"{own}.")}
    lacking = replace(start, values=half).facts()["statistics"]
    assert lacking == "carried on, of 32 observations; fresh: normalizer.*"
    none = "none here, but there observations were normalised (agent.normalize_observations=true)"
    assert said("agent.normalize_observations=false")["statistics"].endswith(f"; {none}")


@pytest.mark.parametrize("norm", ["spectral", "weight"])
def test_norms_of_weights_begin_with_the_weights_that_were_loaded(
    norm: str, source_of: Callable[[str, str], Path]
) -> None:
    """Where there were no such norms there: those of the first weights would be of no use."""
    path = source_of("dqn", "env=CartPole-v1")
    words = (*words_of("dqn"), f"network.blocks.0.weight_norm={norm}")
    with pytest.raises(ValueError, match=r"have other layers: .*norm.* is not there"):
        started(path, *words)
    found, _ = started(path, *words, "init.shapes=skip")
    for layer in found.policy.modules():
        if isinstance(layer, NormedLinear):
            weight, given = layer.weight.detach(), layer.norm(layer.weight).detach()
            size = 1.0 if norm == "weight" else torch.linalg.matrix_norm(weight, 2)
            torch.testing.assert_close(given, weight / size, rtol=1e-3, atol=1e-4)
    check_copies(found)


@pytest.mark.parametrize("agent", [name for name in REWARDED if name in WITH_NETWORK])
def test_a_backbone_that_is_frozen_stays_as_it_was_loaded(
    agent: str, source_of: Callable[[str, str], Path]
) -> None:
    freeze = "agent.freeze={backbone.*: null}"
    path = source_of("ppo", environment(agent))
    found, start = started(path, *words_of(agent), freeze, "init.parts=[backbone.*]")
    before = {name: x.detach().clone() for name, x in loadable(found).items()}
    source = open_source(config(*words_of(agent)), found.policy, found.rollout_length)
    for _ in range(12):
        found.learn(source.next().to("cpu"))
    after = loadable(found)
    assert all(torch.equal(after[name], before[name]) for name in start.report.loaded)
    assert any(not torch.equal(after[name], before[name]) for name in start.report.new)
