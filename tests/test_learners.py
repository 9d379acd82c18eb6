"""Law 6: several learners are one learner, to the rounding of sums; and they are equal bit by bit.

The learners are threads of this process here, with connections of their own; through Ray they are
processes, which the tests at the end start.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn

from neuraxis.agents import agent_names
from neuraxis.agents.peers import PeerError, Peers
from neuraxis.configs import RayConfig, load, load_resumed
from neuraxis.configs.groups import choices
from neuraxis.envs.rollout import Rollout
from neuraxis.training import prepare, ray_start, train
from neuraxis.training.build import build_agent
from neuraxis.training.files import RunError
from neuraxis.training.learner import Learner
from neuraxis.training.learners import Learners
from neuraxis.training.rendezvous import group
from neuraxis.training.run import Run

from .helpers import Training, config, training

CPU = torch.device("cpu")
c10d: Any = distributed  # its stubs lack the store
# Adam makes a step of the learning rate of any gradient, be it a rounding error: not with this.
EPS = "agent.adam_eps=1e-3"
SMALL = {
    "ppo": ("agent.n_steps=16", "agent.batch_size=24", "agent.n_epochs=2"),
    "appo": ("agent.n_steps=16", "agent.batch_size=24", "agent.n_epochs=2"),
    "impala": ("agent.n_steps=16", "agent.learning_rate=0.003"),
    "dqn": ("agent.learning_starts=32", "agent.gradient_steps=4", "agent.batch_size=10"),
}
NETWORKS = {
    "mlp": ("network=mlp", "network.blocks.0.sizes=[16]"),
    "lstm": ("network=lstm", "network.blocks.0.sizes=[16]", "network.blocks.1.size=16"),
    "transformer": ("network=transformer",),
    "batch": ("network.blocks=[{name: mlp, sizes: [16], norm: batch}, {name: gru, size: 16}]",),
    "image": (
        "env=minigrid_empty",
        "network.blocks=[{name: cnn, architecture: small, size: 16, norm: batch}]",
    ),
}
CASES: list[tuple[str, str, tuple[str, ...]]] = [
    *((agent, network, ()) for agent in agent_names() for network in ("mlp", "lstm", "batch")),
    ("ppo", "lstm", ("agent.sequence_length=8", "agent.batch_size=8")),  # fewer columns than three
    ("ppo", "batch", ("agent.target_kl=0.001", "agent.learning_rate=0.003")),
    ("ppo", "mlp", ("agent.normalize_observations=true", "agent.normalize_rewards=true")),
    ("ppo", "mlp", ("env=Pendulum-v1", "env.time_limit=5")),
    ("dqn", "mlp", ("agent.prioritized=true", "agent.n_step=3", "env.time_limit=5")),
    ("dqn", "lstm", ("agent.prioritized=true", "agent.sequence_length=4", "agent.burn_in=2")),
]


class Team:
    """Agents that learn together, each in a thread."""

    def __init__(self, run: Training, count: int, seconds: float = 20) -> None:
        self.peers = [Peers(rank, count) for rank in range(count)]
        self.agents: list[Any] = [build_agent(run.cfg, peers) for peers in self.peers]
        self.pool = ThreadPoolExecutor(count)
        store: Any = c10d.HashStore()

        def connect(peers: Peers) -> None:
            peers.connect(group(store, peers.rank, count, "127.0.0.1", CPU, seconds))

        list(self.pool.map(connect, self.peers))

    def learn(self, rollout: Rollout) -> list[dict[str, Tensor]]:
        asked = [self.pool.submit(self._learn, rank, rollout) for rank in range(len(self.agents))]
        errors = [error for answer in asked if (error := answer.exception()) is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, PeerError)):
            raise error  # the cause, rather than that another has waited for it in vain
        return [answer.result() for answer in asked]

    def _learn(self, rank: int, rollout: Rollout) -> dict[str, Tensor]:
        try:
            return self.agents[rank].learn(rollout)
        except BaseException:
            self.peers[rank].disconnect()
            raise

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        for peers in self.peers:
            peers.disconnect()
        self.pool.shutdown()


@pytest.fixture
def run() -> Training:
    return training("num_envs=5", *SMALL["ppo"], *NETWORKS["mlp"])


def buffers(agent: Any) -> dict[str, Tensor]:
    return {name: b for name, b in agent.policy.named_buffers() if b.is_floating_point()}


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(("agent", "network", "words"), CASES)
def test_several_learners_are_one(
    agent: str, network: str, words: tuple[str, ...], count: int
) -> None:
    compare(agent, network, words, count)


@pytest.mark.parametrize("network", ["transformer", "image"])
@pytest.mark.parametrize("agent", agent_names())
def test_two_learners_are_one_for_every_network(agent: str, network: str) -> None:
    compare(agent, network, (), 2)


def compare(agent: str, network: str, words: tuple[str, ...], count: int) -> None:
    """Lets one learner and `count` learn from the same rollouts."""
    run = training(f"agent={agent}", "num_envs=5", EPS, *SMALL[agent], *NETWORKS[network], *words)
    one = run.agent
    start = one.optimizer.flat.clone()
    with Team(run, count) as team:
        for _ in range(3):
            rollout = run.rollout()
            metrics = one.learn(rollout)
            for theirs in team.learn(rollout):
                assert theirs.keys() == metrics.keys()
                for name, value in metrics.items():
                    assert torch.allclose(theirs[name], value, 1e-3, 1e-4), name
            run.source.publish(one.policy)
        assert (one.optimizer.flat - start).abs().max() > 1e-3  # it has learned
        first, *others = team.agents
        assert torch.allclose(first.optimizer.flat, one.optimizer.flat, 0, 3e-5)
        for name, buffer in buffers(one).items():
            assert torch.allclose(buffers(first)[name], buffer, 1e-3, 1e-4), name
        for other in others:
            assert torch.equal(first.optimizer.flat, other.optimizer.flat)
            for name, buffer in buffers(first).items():
                assert torch.equal(buffers(other)[name], buffer), name


def test_shares_are_of_one_size_and_cover_the_columns() -> None:
    batch = {"x": torch.arange(14.0).view(2, 7), "scalar": torch.tensor(3.0), "state": ()}
    shares = [Peers(rank, 3).share(batch) for rank in range(3)]
    assert [share["x"].shape[1] for share in shares] == [3, 2, 2]
    assert torch.equal(torch.cat([share["x"] for share in shares], 1), batch["x"])
    assert all(share["scalar"] == 3 and share["state"] == () for share in shares)


def test_dropout_has_masks_of_each_learners_own() -> None:
    """And leaves the generator alike for what all draw; without it nothing is drawn."""
    policies = [
        training("num_envs=5", f"network.blocks=[{{name: mlp, dropout: {rate}}}]").agent.policy
        for rate in (0.5, 0.0)
    ]
    for policy, drops in zip(policies, (True, False), strict=True):
        draws = []
        for rank in range(2):
            torch.manual_seed(0)
            with Peers(rank, 2).own_draws(policy, CPU):
                own = torch.rand(3)
            draws.append((own, torch.rand(3)))
        (one, after), (other, after_other) = draws
        assert torch.equal(after, after_other)
        assert torch.equal(one, other) != drops


def test_the_first_ratio_is_1_under_masks_of_ones_own() -> None:
    """Law 3: the old log-probabilities are made of the share and under its masks.

    A team of one, for threads would draw from one generator.
    """
    blocks = "network.blocks=[{name: mlp, sizes: [32], dropout: 0.5}]"
    run = training("num_envs=5", *SMALL["ppo"], blocks, "agent.learning_rate=0.01")
    ratios = []
    with Team(run, 1) as team:
        optimizer = team.agents[0].optimizer
        update = optimizer.update

        def seen(*args: Any) -> dict[str, Tensor]:
            trace = update(*args)
            ratios.append(trace["log_ratio"].abs().max())
            return trace

        optimizer.update = seen
        team.learn(run.rollout())
    assert ratios[0] < 1e-5 < ratios[-1]


def test_a_learner_that_is_gone_or_silent_is_an_error(run: Training) -> None:
    """No sum without it, and no wait for ever."""
    rollout = run.rollout()
    for leaves in (True, False):
        with Team(run, 2, seconds=2) as team:
            if leaves:
                team.peers[1].disconnect()
            with pytest.raises(PeerError, match="learner 0 waited in vain for the others"):
                team.agents[0].learn(rollout)


def test_a_shared_update_is_not_compiled() -> None:
    run = training("num_envs=5", "compile=auto", "total_steps=100_000_000", *SMALL["ppo"])
    with Team(run, 2) as team:
        assert team.agents[0].optimizer.execution == "plain"
    run = training("num_envs=5", "compile=true", *SMALL["ppo"])
    with pytest.raises(ValueError, match=r"compile=true: what several learners share \(learner"):
        build_agent(run.cfg, Peers(0, 2))


@pytest.mark.parametrize("network", choices("network"))
def test_bfloat16_costs_digits_of_features_only(network: str) -> None:
    images = ("env=neuraxis/Dict-v0",) if network.startswith("cnn") else ()
    run = training("num_envs=4", f"network={network}", *images)
    rollout, policy = run.rollout(), run.agent.policy
    with torch.no_grad():
        params, value, _ = policy(rollout.obs, rollout.state, rollout.first)
        with torch.autocast("cpu", torch.bfloat16):
            half_params, half_value, _ = policy(rollout.obs, rollout.state, rollout.first)
    assert half_params.dtype == half_value.dtype == torch.float32
    assert torch.allclose(half_params, params, 0.05, 0.05)
    assert 0 < (half_value - value).abs().max() < 0.1 * value.abs().max()


def test_the_first_ratio_is_1_in_bfloat16() -> None:
    """Though acting left features in float32."""
    run = training("num_envs=4", "network.shared=true")
    rollout, seen = run.rollout(), []
    update = run.agent.optimizer.update
    run.agent.optimizer.update = lambda *args: seen.append(update(*args)) or seen[-1]
    Learner(config("learner.precision=bfloat16"), run.agent).learn(rollout)
    assert seen[0]["log_ratio"].abs().max() < 1e-6 < seen[-1]["log_ratio"].abs().max()


@pytest.mark.parametrize("agent", agent_names())
def test_every_agent_learns_in_bfloat16(agent: str) -> None:
    run = training(f"agent={agent}", "num_envs=4", *SMALL[agent], *NETWORKS["lstm"])
    start = run.agent.optimizer.flat.clone()
    cfg = config("learner.precision=bfloat16")
    metrics = {}
    for _ in range(3):
        metrics = Learner(cfg, run.agent).learn(run.source.next())
    assert all(value.isfinite() and value.dtype == torch.float32 for value in metrics.values())
    assert run.agent.optimizer.flat.dtype == torch.float32
    assert not torch.equal(run.agent.optimizer.flat, start)


def test_bfloat16_looks_at_the_newest_weights() -> None:
    """Autocast's cache would keep those of a rollout's first update for all of its updates."""
    run = training("num_envs=4")
    layer = nn.Linear(2, 1)
    seen: list[Tensor] = []

    def learn(rollout: Rollout) -> dict[str, Tensor]:
        for _ in range(2):
            seen.append(layer(torch.ones(1, 2)).detach())
            layer.weight.data.add_(1.0)
        return {}

    run.agent.learn = learn
    Learner(config("learner.precision=bfloat16"), run.agent).learn(run.source.next())
    assert float(seen[1] - seen[0]) == pytest.approx(2.0, abs=0.05)


@pytest.fixture(scope="module")
def ray_runs() -> Iterator[None]:
    """Keeps Ray from one test to the next."""
    ray_start.start(RayConfig(), cpus=2)
    yield
    ray_start.stop()


def words(folder: Path, count: int, *more: str) -> list[str]:
    quiet = ("wandb.mode=disabled", "device=cpu", "eval.interval_steps=0", "eval.final_episodes=1")
    sizes = ("num_envs=4", "total_steps=600", "log_interval_steps=100")
    return [f"run_dir={folder}", f"learner.count={count}", *quiet, *sizes, *more]


@pytest.mark.usefixtures("ray_runs")
def test_a_run_with_two_learners_is_the_run_with_one(tmp_path: Path) -> None:
    """Through Ray: with noise, which all must draw alike, and from a checkpoint on."""
    dqn = ("agent=dqn", "agent.noisy=true", "agent.prioritized=true", EPS, *NETWORKS["lstm"])
    dqn = (*dqn, "agent.learning_starts=64", "agent.gradient_steps=2", "agent.batch_size=9")
    logs = []
    for count in (1, 2):
        folder = tmp_path / str(count)
        train(*words(folder, count, *dqn))
        prepare(load_resumed(folder / "config.yaml", ["total_steps=900"]), folder).run()
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        logs.append([json.loads(line) for line in lines])
    one, two = logs
    assert [row.keys() for row in one] == [row.keys() for row in two]
    assert one[-1]["steps"] >= 900
    for row, other in zip(one, two, strict=True):
        for name in row:
            close = math.isclose(row[name], other[name], rel_tol=1e-3, abs_tol=1e-4)
            assert close or name.startswith("time/"), (row["steps"], name)


@pytest.mark.usefixtures("ray_runs")
def test_a_run_ends_with_one_line_when_a_learner_dies(tmp_path: Path) -> None:
    import ray

    folder = tmp_path / "run"
    session = prepare(load(words(folder, 2, "checkpoint.interval_steps=100")))
    followers = session.learner._followers if isinstance(session.learner, Learners) else []

    def kill(run: Run) -> None:
        if (run.checkpoints / "last").exists():
            ray.kill(followers[0])

    line = r"^learner 1 \(of 0 to 1\) died: .*; `neuraxis resume` goes on from the last checkpoint$"
    with pytest.raises(RunError, match=line):
        session.run(kill)
    assert Run.open(folder).summary["status"] == "failed"
    cfg = load_resumed(folder / "config.yaml", ["learner.count=1"])
    assert prepare(cfg, folder).run().summary["status"] == "finished"
