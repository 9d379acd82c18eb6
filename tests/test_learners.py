"""Law 6: several learners are one learner, to the rounding of sums; and they are equal bit by bit.

The learners are threads of this process here, with connections of their own; through Ray they are
processes, which the tests at the end start.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn

from neuraxis.agents import agent_class, agent_names
from neuraxis.agents.learning.data_parallel import ReplicaError, Replicas
from neuraxis.agents.learning.execution.execute import share
from neuraxis.agents.off_policy import OffPolicyAgent
from neuraxis.configs import RayConfig, load, load_resumed
from neuraxis.core.errors import RunError
from neuraxis.core.rollout import Rollout
from neuraxis.training import Callback, prepare, train
from neuraxis.training.distributed import ray_cluster
from neuraxis.training.distributed.build import build_agent
from neuraxis.training.distributed.learner import Learner
from neuraxis.training.distributed.learner_group import LearnerGroup, gpu_options
from neuraxis.training.distributed.process_group import connect_group
from neuraxis.training.storage.run import Run

from .helpers import Training, claimed, config, epochs, fitting, some_pairs, training, weights
from .test_initialization import stored, tensors

CPU = torch.device("cpu")
c10d: Any = distributed  # its stubs lack the store
# Adam makes a step of the learning rate of any gradient, be it a rounding error: not with this.
EPS = "agent.optimizer_eps=1e-3"
EPOCHS = ("agent.n_steps=16", "agent.batch_size=30", "agent.n_epochs=2")
TRPO = ("agent.cg_max_steps=3", "agent.n_critic_updates=1")  # more make rounding errors larger
ONE_PASS = ("agent.n_steps=16", "agent.learning_rate=0.003", *TRPO)
PENDULUM = ("env=Pendulum-v1", "env.time_limit=5")
REPLAYED = ("agent.learning_starts=32", "agent.gradient_steps=4", "agent.batch_size=10")


def small(agent: str) -> tuple[str, ...]:
    """Settings and, if it needs one, an environment for an agent of any family."""
    cls = agent_class(agent)
    env = () if "discrete" in claimed(agent) else PENDULUM
    env = env if cls.has_network else ("env=CliffWalking-v1",)
    if issubclass(cls, OffPolicyAgent):
        return *REPLAYED, *env
    words = EPOCHS if epochs(agent) > 1 else ONE_PASS
    # RAdam's first steps are as small as the gradient
    slow = ("agent.learning_rate=0.02",) if agent == "pqn" else ()
    return *fitting(agent, *words), *slow, *env


NETWORKS = {
    "mlp": ("network=mlp", "network.blocks.0.sizes=[16]"),
    "lstm": ("network=lstm", "network.blocks.0.sizes=[16]", "network.blocks.1.size=16"),
    "transformer": ("network=transformer",),
    "batch": ("network.blocks=[{name: mlp, sizes: [16], norm: batch}, {name: gru, size: 16}]",),
    "image": (
        *("env=minigrid_empty", "env.time_limit=10"),
        "network.blocks=[{name: cnn, architecture: small, size: 16, norm: batch}]",
    ),
}
WITH_MEMORY = [name for name in agent_names() if agent_class(name).memory]
ONE_AT_A_TIME = Lock()
CASES: list[tuple[str, str, tuple[str, ...]]] = [
    *((agent, "mlp", ()) for agent in agent_names()),
    *((agent, network, ()) for agent in WITH_MEMORY for network in ("lstm", "batch")),
    ("ppo", "lstm", ("agent.sequence_length=8", "agent.batch_size=8")),  # fewer columns than three
    ("ppo", "batch", ("agent.target_kl=0.001", "agent.learning_rate=0.003")),
    ("ppo", "mlp", ("agent.normalize_observations=true", "agent.normalize_rewards=true")),
    ("ppo", "mlp", ("env=Pendulum-v1", "env.time_limit=5")),
    ("ppo", "mlp", ("agent.rnd.coef=0.5", "agent.rnd.batch_size=16")),
    ("ppo", "mlp", ("agent.optimizer=radam", "agent.learning_rate=3e-3")),
    ("ppo", "mlp", ("agent.optimizer=rmsprop", "agent.learning_rate=3e-3")),
    ("ppo", "batch", ("agent.freeze={backbone.*: 70}", "agent.layer_decay=0.5")),
    ("trpo", "mlp", ("agent.freeze={actor.blocks.*: 70, critic.*: null}",)),
    ("sac", "mlp", ("agent.freeze={critics.heads.*: 70, backbone.*: null}", *PENDULUM)),
    ("ppo", "mlp", ("agent.l1=1e-3", "agent.l2=1e-2", "network.blocks.0.weight_norm=spectral")),
    ("trpo", "mlp", ("agent.l1=1e-3", "agent.l2=1e-2", "network.blocks.0.weight_norm=spectral")),
    ("dqn", "mlp", ("agent.prioritized=true", "agent.n_step=3", "env.time_limit=5")),
    ("dqn", "mlp", ("agent.augment.noise=0.1", "agent.l2=1e-2")),
    ("dqn", "lstm", ("agent.prioritized=true", "agent.sequence_length=8", "agent.burn_in=2")),
    ("dqn", "mlp", ("agent.distribution=categorical", "agent.prioritized=true")),
    ("dqn", "lstm", ("agent.distribution=implicit", "agent.burn_in=8")),
    ("sac", "mlp", ("agent.prioritized=true", "agent.n_step=2", *PENDULUM)),
    ("sac", "mlp", ("env=neuraxis/PointGoal-v0", "agent.hindsight=future", "env.time_limit=10")),
    ("sac", "mlp", ("agent.normalize_observations=true", "agent.n_quantiles=5", *PENDULUM)),
    ("sac", "mlp", ("network.blocks.0.norm=batch", "agent.ent_coef=0.2", *PENDULUM)),
    ("sac", "mlp", ("network.blocks.0.norm=batch_renorm", "agent.tau=null", *PENDULUM)),
    (
        "sac",
        "transformer",
        ("agent.prioritized=true", "agent.burn_in=2", "network.blocks.1.memory=8", *PENDULUM),
    ),
    ("td3", "mlp", ("agent.normalize_observations=true", "agent.policy_delay=3")),
    ("td3", "lstm", ("agent.n_step=2", "agent.burn_in=2", "agent.sequence_length=8")),
]


class Team:
    """Agents that learn together, each in a thread."""

    def __init__(self, run: Training, count: int, seconds: float = 20) -> None:
        self.replicas = [Replicas(rank, count) for rank in range(count)]
        teacher = run.agent.setup.teacher
        self.agents: list[Any] = [
            build_agent(run.cfg, own, teacher=copy.deepcopy(teacher)) for own in self.replicas
        ]
        self.pool = ThreadPoolExecutor(count)
        store: Any = c10d.HashStore()

        def connect(replicas: Replicas) -> None:
            replicas.connect(connect_group(store, replicas.rank, count, "127.0.0.1", CPU, seconds))

        list(self.pool.map(connect, self.replicas))

    def learn(self, rollout: Rollout) -> list[dict[str, Tensor]]:
        asked = [self.pool.submit(self._learn, rank, rollout) for rank in range(len(self.agents))]
        errors = [error for answer in asked if (error := answer.exception()) is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, ReplicaError)):
            raise error  # the cause, rather than that another has waited for it in vain
        return [answer.result() for answer in asked]

    def _learn(self, rank: int, rollout: Rollout) -> dict[str, Tensor]:
        try:
            return self.agents[rank].learn(rollout)
        except BaseException:
            self.replicas[rank].disconnect()
            raise

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        for replicas in self.replicas:
            replicas.disconnect()
        self.pool.shutdown()


@pytest.fixture
def run() -> Training:
    return training("num_envs=5", *small("ppo"), *NETWORKS["mlp"])


def states(agent: Any) -> dict[str, Tensor]:
    """Weights and statistics of all parts, target networks among them."""
    modules = {name: part for name, part in agent.parts.items() if isinstance(part, nn.Module)}
    states = ((part, module.state_dict()) for part, module in modules.items())
    return {
        f"{part}.{name}": tensor
        for part, state in states
        for name, tensor in state.items()
        if tensor.is_floating_point()
    }


def draw_noise_alike(agent: Any) -> None:
    """What minibatches draw, if anything: processes have a generator each, threads one for all."""
    generator = torch.Generator().manual_seed(0)

    def alike(function: Any) -> Any:
        def drawn(of: Any) -> Any:
            with ONE_AT_A_TIME, torch.random.fork_rng():
                torch.set_rng_state(generator.get_state())
                found = function(of)
                generator.set_state(torch.get_rng_state())
            return found

        return drawn

    if isinstance(agent, OffPolicyAgent):
        agent.batch_of = alike(agent.batch_of)
    if getattr(agent, "augmentation", None) is not None:
        agent.augmentation = alike(agent.augmentation)


@pytest.mark.parametrize(
    ("agent", "network", "words", "count"),
    [
        *((*case, 2 + (number // 2 + number) % 2) for number, case in enumerate(CASES)),
        ("ppo", "mlp", ("agent.augment.noise=0.1",), 3),
    ],
)
def test_several_learners_are_one(
    agent: str, network: str, words: tuple[str, ...], count: int
) -> None:
    compare(agent, network, words, count)


@pytest.mark.parametrize(
    ("agent", "network"), some_pairs(WITH_MEMORY, ["transformer", "image"], whole=("ppo", "sac"))
)
def test_two_learners_are_one_for_every_network(agent: str, network: str) -> None:
    words: tuple[str, ...] = ()
    if network == "image" and "discrete" not in claimed(agent):  # MiniGrid's actions are
        words = (
            *("env=neuraxis/Dict-v0", "env.kwargs.action_space=box"),
            # no batch norm: where all images are alike it makes rounding 300 times as large
            "network.blocks=[{name: cnn, architecture: small, size: 16}]",
        )
    compare(agent, network, words, 2)


def compare(agent: str, network: str, words: tuple[str, ...], count: int) -> None:
    """Lets one learner and `count` learn from the same rollouts."""
    settings = fitting(agent, EPS, *small(agent), *NETWORKS[network], *words)
    run = training(f"agent={agent}", "num_envs=5", *settings)
    one = run.agent
    start = weights(one)
    with Team(run, count) as team:
        for each in (one, *team.agents):
            draw_noise_alike(each)
        for _ in range(3):
            rollout = run.rollout()
            metrics = one.learn(rollout)
            for theirs in team.learn(rollout):
                assert theirs.keys() == metrics.keys()
                for name, value in metrics.items():
                    assert torch.allclose(theirs[name], value, 1e-3, 1e-4), name
            run.source.publish(one.policy)
        assert (weights(one) - start).abs().max() > 1e-3  # it has learned
        first, *others = team.agents
        assert torch.allclose(weights(first), weights(one), 0, 3e-5)
        for name, tensor in states(one).items():
            assert torch.allclose(states(first)[name], tensor, 1e-3, 1e-4), name
        for other in others:
            assert torch.equal(weights(first), weights(other))
            for name, tensor in states(first).items():
                assert torch.equal(states(other)[name], tensor), name


def test_shares_are_of_one_size_and_cover_the_columns() -> None:
    batch = {"x": torch.arange(14.0).view(2, 7), "scalar": torch.tensor(3.0), "state": ()}
    shares = [Replicas(rank, 3).share(batch) for rank in range(3)]
    assert [share["x"].shape[1] for share in shares] == [3, 2, 2]
    assert torch.equal(torch.cat([share["x"] for share in shares], 1), batch["x"])
    assert all(share["scalar"] == 3 and share["state"] == () for share in shares)


@pytest.mark.parametrize("rate", [0.5, 0.0])
def test_dropout_has_masks_of_each_learners_own(rate: float) -> None:
    """And leaves the generator alike for what all draw; without it nothing is drawn."""
    agent = training("num_envs=5", f"network.blocks=[{{name: mlp, dropout: {rate}}}]").agent
    draws: list[Tensor] = []

    def update(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        draws.append(torch.rand(3))
        return batch

    for rank in range(2):
        replicas = Replicas(rank, 2)
        replicas.sum = lambda x: x  # nobody is connected
        torch.manual_seed(0)
        share(update, lambda batch: batch, replicas, agent.parts.values())({"x": torch.ones(1, 5)})
        draws.append(torch.rand(3))
    one, after, other, after_other = draws
    assert torch.equal(after, after_other)
    assert torch.equal(one, other) == (rate == 0)


def test_the_first_ratio_is_1_under_masks_of_ones_own() -> None:
    """Law 3: the old log-probabilities are made of the share and under its masks.

    A team of one, for threads would draw from one generator.
    """
    blocks = "network.blocks=[{name: mlp, sizes: [32], dropout: 0.5}]"
    run = training("num_envs=5", *small("ppo"), blocks, "agent.learning_rate=0.01")
    ratios = []
    with Team(run, 1) as team:
        agent = team.agents[0]
        run_update = agent.run_update

        def seen(batch: Any) -> dict[str, Tensor]:
            terms = run_update(batch)
            ratios.append(terms["log_ratio"].abs().max())
            return terms

        agent.run_update = seen
        team.learn(run.rollout())
    assert ratios[0] < 1e-5 < ratios[-1]


def test_a_learner_that_is_gone_or_silent_is_an_error(run: Training) -> None:
    """No sum without it, and no wait for ever."""
    rollout = run.rollout()
    for leaves in (True, False):
        with Team(run, 2, seconds=2) as team:
            if leaves:
                team.replicas[1].disconnect()
            with pytest.raises(ReplicaError, match="learner 0 got no sum from the others"):
                team.agents[0].learn(rollout)


def test_an_update_may_report_scalars_alone() -> None:
    """The norm of the gradient, for instance, which is the same on all learners."""
    terms = {"grad_norm": torch.tensor(2.0)}
    assert Replicas(0, 2).gather(terms, {"obs": torch.zeros(1, 4)}) == terms


def test_a_shared_update_is_not_compiled() -> None:
    run = training("num_envs=5", "compile=auto", "total_steps=100_000_000", *small("ppo"))
    with Team(run, 2) as team:
        assert team.agents[0].execution == "plain"
    run = training("num_envs=5", "compile=true", *small("ppo"))
    with pytest.raises(ValueError, match=r"compile=true: .*: several learners share it \("):
        build_agent(run.cfg, Replicas(0, 2))


@pytest.mark.parametrize("network", ["mlp", "lstm", "transformer", "cnn"])
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
    update = run.agent.run_update
    run.agent.run_update = lambda batch: seen.append(update(batch)) or seen[-1]
    Learner(config("learner.precision=bfloat16"), run.agent).learn(rollout)
    assert seen[0]["log_ratio"].abs().max() < 1e-6 < seen[-1]["log_ratio"].abs().max()


@pytest.mark.parametrize("agent", agent_names())
def test_every_agent_learns_in_bfloat16(agent: str) -> None:
    network = NETWORKS["lstm" if agent in WITH_MEMORY else "mlp"]
    run = training(f"agent={agent}", "num_envs=4", *fitting(agent, *small(agent), *network))
    start = weights(run.agent)
    cfg = config("learner.precision=bfloat16")
    metrics = {}
    for _ in range(3):
        metrics = Learner(cfg, run.agent).learn(run.source.next())
    assert all(value.isfinite() and value.dtype == torch.float32 for value in metrics.values())
    assert weights(run.agent).dtype == torch.float32
    assert not torch.equal(weights(run.agent), start)


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


def test_no_two_learners_share_a_gpu() -> None:
    """The first learner's own is counted once, though Ray counts it as well."""
    mine, other, lost = "aa" * 28, "bb" * 28, "cc" * 28
    nodes: list[dict[str, Any]] = [
        {"NodeID": mine, "Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}},
        {"NodeID": lost, "Alive": False, "Resources": {"GPU": 8.0}},
        {"NodeID": other, "Alive": True, "Resources": {"GPU": 1.0}},
    ]
    placed = gpu_options(2, 2, mine, nodes)
    assert [options["scheduling_strategy"].node_id for options in placed] == [mine, other]
    assert [options["num_gpus"] for options in placed] == [0, 1]
    for others, gpus, seen in ((1, 1, nodes[:1]), (3, 2, nodes), (1, 1, [])):
        with pytest.raises(ValueError, match=rf"learner.count={others + 1}: .* there are {gpus} h"):
            gpu_options(others, gpus, mine, seen)


@pytest.fixture(scope="module")
def ray_runs() -> Iterator[None]:
    """Keeps Ray from one test to the next."""
    ray_cluster.start(RayConfig(), cpus=2)
    yield
    ray_cluster.stop()


def words(folder: Path, count: int, *more: str) -> list[str]:
    quiet = ("wandb.mode=disabled", "device=cpu", "eval.interval_steps=0", "eval.final_episodes=1")
    sizes = ("num_envs=4", "total_steps=600", "log_interval_steps=100")
    return [f"run_dir={folder}", f"learner.count={count}", *quiet, *sizes, *more]


@pytest.mark.usefixtures("ray_runs")
@pytest.mark.parametrize(
    "agent",
    [
        ("agent=dqn", "agent.noisy=true", "agent.prioritized=true", *NETWORKS["lstm"]),
    ],
)
def test_a_run_with_two_learners_is_the_run_with_one(
    agent: tuple[str, ...], tmp_path: Path
) -> None:
    """Through Ray: with noise, which all must draw alike, and from a checkpoint on."""
    sizes = ("agent.learning_starts=64", "agent.gradient_steps=2", "agent.batch_size=9", EPS)
    logs = []
    for count in (1, 2):
        folder = tmp_path / str(count)
        train(*words(folder, count, *agent, *sizes))
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
def test_every_learner_starts_from_the_same_weights(tmp_path: Path) -> None:
    """By their hash; the targets of a DQN included."""
    import ray

    more = ("agent=dqn", "agent.learning_starts=9")
    kept = stored(tmp_path / "source", *more)
    session = prepare(load(words(tmp_path / "run", 2, *more, f"init.from={kept}")))
    assert isinstance(session.learner, LearnerGroup)

    def digest(learner: Any) -> str:
        parts = (learner.agent.policy, learner.agent.target)
        found = [x.detach().cpu().numpy() for part in parts for x in part.state_dict().values()]
        return hashlib.sha256(b"".join(x.tobytes() for x in found)).hexdigest()

    others = [follower.__ray_call__.remote(digest) for follower in session.learner.followers]
    assert ray.get(others) == [digest(session.learner)]
    own = tensors(kept)["backbone.blocks.0.layers.0.weight"]
    assert torch.equal(session.agent.policy.state_dict()["backbone.blocks.0.layers.0.weight"], own)
    session.learner.close()
    session.source.close()
    session.current_run.finish("stopped")


@pytest.mark.usefixtures("ray_runs")
def test_a_run_ends_with_one_line_when_a_learner_dies(tmp_path: Path) -> None:
    import ray

    folder = tmp_path / "run"
    session = prepare(load(words(folder, 2, "checkpoint.interval_steps=100")))
    followers = session.learner.followers if isinstance(session.learner, LearnerGroup) else []

    class Kill(Callback):
        def on_checkpoint(self, run: Run, path: Path) -> None:
            ray.kill(followers[0])

    line = r"^learner 1 \(of 0 to 1\) died: .*; `neuraxis resume` goes on from the last checkpoint$"
    with pytest.raises(RunError, match=line):
        session.run([Kill()])
    assert Run.open(folder).summary["status"] == "failed"
    cfg = load_resumed(folder / "config.yaml", ["learner.count=1"])
    assert prepare(cfg, folder).run().summary["status"] == "finished"
