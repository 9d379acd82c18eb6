"""DQN: targets by hand, what the target network is, and what each switch changes."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from neuraxis.agents.dqn import DQN
from neuraxis.agents.learning.returns import rescale
from neuraxis.agents.policies.joint_actions import JointActions
from neuraxis.agents.replay.sample import Sample
from neuraxis.networks.noisy import NoisyLinear

from .helpers import Late, Training, sampled, training

WORDS = (
    "agent=dqn",
    "num_envs=4",
    "agent.train_freq=4",
    "agent.learning_starts=16",
    "agent.gradient_steps=2",
    "agent.batch_size=8",
    "network.blocks.0.sizes=[16]",
)
LSTM = ("network=lstm", "network.blocks.1.size=16", "agent.sequence_length=4")


def build(*words: str) -> Training:
    return training(*WORDS, *words)


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    state = module.state_dict()
    return {name: value.clone() for name, value in state.items() if name != "epsilon"}


def equal(module: nn.Module, saved: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, saved[name]) for name, value in snapshot(module).items())


class Table(nn.Module):
    """Action values by the number that the observation is."""

    def __init__(self, *rows: tuple[float, float]) -> None:
        super().__init__()
        self.rows = torch.tensor(rows)
        self.joint = JointActions(spaces.Discrete(2))
        self.returns: Any = None

    def forward(self, obs: Tensor, state: Any, first: Tensor) -> tuple[Tensor, Any]:
        return self.rows[obs[..., 0].long()], state

    def distribution(self, obs: Tensor, state: Any, first: Tensor, tau: Any) -> tuple[Tensor, Any]:
        return self(obs, state, first)

    def values(self, q: Tensor, obs: Tensor) -> Tensor:
        return q


def window(
    states: list[int], rewards: list[float], discounts: list[float], resets: tuple[int, ...] = ()
) -> Sample:
    """One window of the chain; `resets` are the rows that open an episode."""
    steps = len(rewards)
    return Sample(
        obs=torch.tensor(states, dtype=torch.float32)[:, None, None],
        first=torch.tensor([[row in resets] for row in range(steps + 1)]),
        action=torch.zeros(steps, 1, dtype=torch.int64),
        reward=torch.tensor(rewards)[:, None],
        discount=torch.tensor(discounts)[:, None],
        state=(),
        starts=np.zeros(1, int),
        weight=torch.ones(1),
    )


ONLINE = Table((0.0, 0.0), (5.0, 1.0), (7.0, 8.0))  # prefers action 0 in state 1
TARGET = Table((0.0, 0.0), (2.0, 4.0), (10.0, 20.0))


def target(sample: Sample, *words: str) -> float:
    agent: DQN = build("agent.gamma=0.5", *words).agent
    return with_tables(agent, ONLINE, TARGET).batch_of(sample)["target"].item()


def with_tables(agent: DQN, online: Table, target: Table) -> DQN:
    """The agent with other networks, which learn what its own did of a return."""
    online.returns = target.returns = agent.policy.returns
    stubs: dict[str, Any] = {"policy": online, "target": SimpleNamespace(network=target)}
    vars(agent).update(stubs)
    return agent


def test_targets_of_a_chain() -> None:
    step = window([0, 1], [1.0], [1.0])
    assert target(step, "agent.double=false") == 3.0  # 1 + 0.5 * max(2, 4)
    assert target(step, "agent.double=true") == 2.0  # 1 + 0.5 * 2: the online net takes action 0
    end = window([0, 1], [1.0], [0.0])
    assert target(end) == 1.0  # terminated: nothing after it counts


def test_n_step_targets_of_a_chain() -> None:
    words = ("agent.n_step=2", "agent.double=false")
    assert target(window([0, 1, 2], [1.0, 6.0], [1.0, 1.0]), *words) == 9.0  # 1 + 3 + 0.25 * 20
    assert target(window([0, 1, 2], [1.0, 6.0], [1.0, 0.0]), *words) == 4.0  # 1 + 0.5 * 6
    assert target(window([0, 1, 2], [1.0, 6.0], [0.0, 1.0], (2,)), *words) == 1.0
    # truncated after one step: row 1 is the true last observation, row 2 the next episode's first
    cut = window([0, 1, 0], [1.0, 0.0], [1.0, 1.0], (2,))
    assert target(cut, *words) == 3.0  # 1 + 0.5 * max(2, 4)


def test_targets_with_value_rescaling() -> None:
    # the networks' values are h(Q): unscale, discount, rescale
    rescaled = Table(*[tuple(rescale(torch.tensor(row)).tolist()) for row in TARGET.rows.tolist()])
    agent: DQN = build("agent.gamma=0.5", "agent.double=false", "agent.value_rescaling=true").agent
    agent = with_tables(agent, ONLINE, rescaled)
    value = agent.batch_of(window([0, 1], [1.0], [1.0]))["target"].item()
    assert value == pytest.approx(rescale(torch.tensor(3.0)).item(), abs=1e-6)


def warm(run: Training, rollouts: int = 12) -> Sample:
    for _ in range(rollouts):
        run.step()
    return sampled(run.agent.replay, 16)


def unroll(policy: Any, sample: Sample) -> Tensor:
    with torch.no_grad():
        return policy(sample.obs, sample.state, sample.first)[0]


@pytest.mark.parametrize("burn_in", [0, 3])
@pytest.mark.parametrize("double", ["true", "false"])
def test_targets_of_sequences(double: str, burn_in: int) -> None:
    """Each network has its own memory over the burn-in; then n-step targets as without."""
    words = (f"agent.burn_in={burn_in}", f"agent.double={double}", "agent.n_step=2")
    run = build(*LSTM, *words, "agent.gamma=0.9", "env.time_limit=6", "agent.learning_rate=0.05")
    sample = warm(run)
    agent: DQN = run.agent
    assert len(sample.reward) == burn_in + 4 + 1
    batch = agent.batch_of(sample)
    q, online = unroll(agent.target.network, sample), unroll(agent.policy, sample)
    choice = (online if double == "true" else q).argmax(-1)
    value = q.gather(-1, choice[..., None])[..., 0]
    for t in range(4):
        for n in range(16):
            row = burn_in + t
            if not sample.valid[row, n]:
                continue
            total, factor = 0.0, 1.0
            for k in (row, row + 1):
                total += factor * float(sample.reward[k, n])
                factor *= 0.9 * float(sample.discount[k, n])
                last = k + 1
                if factor and k == row and not sample.valid[row + 1, n]:
                    break
            expected = total + factor * float(value[last, n])
            assert float(batch["target"][t, n]) == pytest.approx(expected, abs=1e-4)
    # what is learned from begins after the burn-in, with the memory that the online net has there
    q_learned, _ = agent.policy(batch["obs"], batch["state"], batch["first"])
    assert torch.allclose(q_learned, online[burn_in : burn_in + 4], atol=1e-5)
    assert not any(part.requires_grad for part in batch["state"][1])


def test_double_and_single_targets_differ_in_training() -> None:
    run = build("agent.learning_rate=0.05")
    sample = warm(run)
    q, online = unroll(run.agent.target.network, sample), unroll(run.agent.policy, sample)
    apart = (q[1] - q[1].amax(-1, keepdim=True)).gather(-1, online[1].argmax(-1)[:, None])
    value = run.agent.batch_of(sample)["target"][0]
    best = sample.reward[0] + 0.99 * sample.discount[0] * q[1].amax(-1)
    assert torch.allclose(value - best, 0.99 * sample.discount[0] * apart[:, 0], atol=1e-5)
    assert apart.min() < 0


@pytest.mark.parametrize("noisy", ["true", "false"])
def test_dueling_streams_are_no_single_linear_layer(noisy: str) -> None:
    """Without hidden layers of their own both would add up to one layer on the features."""
    words = f"agent.noisy={noisy}", "agent.dueling_size=24"
    policy = build("agent.dueling=true", *words).agent.policy
    for stream, numbers in ((policy.advantage, 2), (policy.value, 1)):
        assert [tuple(x.weight.shape) for x in stream.layers] == [(24, 16), (numbers, 24)]
        assert all(isinstance(x, NoisyLinear) == (noisy == "true") for x in stream.layers)
    with torch.no_grad():
        for layer in policy.advantage.layers:
            layer.bias.normal_()
    x, first = 3 * torch.randn(1, 64, 16), torch.zeros(1, 64, dtype=torch.bool)
    policy.backbone.forward = lambda obs, state, first: (obs, state)
    for noise in {False, noisy == "true"}:  # the mean weights, and those with noise
        q = [policy(scale * x, (), first, noise)[0] for scale in (0.0, 0.5, 1.0)]
        assert (q[1] - (q[0] + q[2]) / 2).abs().max() > 0.05


def test_dueling_subtracts_the_mean_advantage() -> None:
    policy = build("agent.dueling=true", "env=Acrobot-v1").agent.policy
    obs, first = torch.randn(3, 5, 6), torch.zeros(3, 5, dtype=torch.bool)
    q, _ = policy(obs, (), first)
    y, _ = policy.backbone(obs, (), first)
    value, advantage = policy.value(y, True), policy.advantage(y, True)
    assert q.shape == (3, 5, 3)
    assert torch.allclose(q.mean(-1, keepdim=True), value, atol=1e-6)
    assert torch.allclose(q - value, advantage - advantage.mean(-1, keepdim=True), atol=1e-6)


BATCH_NORM = ("network.blocks.0.norm=batch", "network.blocks.0.dropout=0.2")


def test_the_target_network_is_copied_at_its_interval_with_its_buffers() -> None:
    run = build(*BATCH_NORM, "agent.target_update_interval=48", "env=neuraxis/Truncation-v0")
    agent: DQN = run.agent
    target = agent.target.network
    assert equal(target, snapshot(agent.policy))
    copied = []
    for _ in range(20):
        weights, before = snapshot(agent.policy), snapshot(target)
        steps = agent.steps
        run.step()
        if agent.steps // 48 > steps // 48:
            assert equal(target, weights)  # before this rollout's updates
            copied.append(agent.steps)
        else:
            assert equal(target, before)
        assert not equal(agent.policy, snapshot(target))
    assert len(copied) > 4
    names = set(snapshot(target))
    assert any("running_mean" in name for name in names)


def test_targets_are_in_eval_mode() -> None:
    """Law 9: no dropout, no batch statistics, no gradient, in either network."""
    run = build(*BATCH_NORM)
    sample = warm(run)
    agent: DQN = run.agent
    modes: list[tuple[bool, bool]] = []
    batch_of = agent.batch_of

    def watched(sample: Sample) -> Any:
        modes.append((agent.target.network.training, agent.policy.training))
        return batch_of(sample)

    agent.batch_of = watched
    run.step()
    assert set(modes) == {(False, False)}
    one, two = batch_of(sample)["target"], batch_of(sample)["target"]
    assert torch.equal(one, two) and not one.requires_grad
    assert not any(p.requires_grad for p in agent.target.parameters())
    assert not agent.policy.training


def test_updates_are_in_train_mode() -> None:
    run = build(*BATCH_NORM)
    modes = []
    loss = run.agent.loss
    run.agent.loss = lambda batch: (modes.append(run.agent.policy.training), loss(batch))[1]
    warm(run, 5)
    assert modes and all(modes)


def test_observation_statistics_are_shared_with_the_target() -> None:
    run = build("agent.normalize_observations=true")
    warm(run)
    agent: DQN = run.agent
    assert agent.target.network.normalizer is agent.policy.normalizer is not None
    again = build("agent.normalize_observations=true")
    again.agent.load_state_dict(copy.deepcopy(agent.state_dict()))
    assert again.agent.target.network.normalizer is again.agent.policy.normalizer
    assert float(again.agent.policy.normalizer.count) > 0


def test_epsilon_falls_over_its_share_of_the_run() -> None:
    words = ("total_steps=1000", "agent.exploration_fraction=0.2")
    run = build(*words, "agent.exploration_initial_eps=0.9", "agent.exploration_final_eps=0.1")
    assert float(run.agent.policy.epsilon) == pytest.approx(0.9)
    share = 0.0
    for _ in range(20):
        run.step()
        share = min(run.agent.steps / 200, 1.0)
        assert float(run.agent.policy.epsilon) == pytest.approx(0.9 - 0.8 * share)
    assert share == 1.0
    jump = build("agent.exploration_fraction=0", "agent.exploration_final_eps=0.1")
    assert float(jump.agent.policy.epsilon) == pytest.approx(0.1)


def test_each_column_may_have_an_epsilon_of_its_own() -> None:
    """Ape-X: 0.4^(1 + 7 i / (N - 1)); a worker's columns have theirs, an evaluation's the mean."""
    words = ("agent.exploration_per_column=true", "agent.exploration_final_eps=0.4")
    policy = build(*words, "agent.exploration_fraction=0").agent.policy
    expected = [0.4 ** (1 + 7 * i / 3) for i in range(4)]
    assert policy.epsilon.tolist() == pytest.approx(expected)
    uniform = torch.rand(20_000, 2, 2)
    explored = policy.noise(uniform, torch.tensor([3, 1])).isinf().any(-1).float().mean(0)
    assert explored.tolist() == pytest.approx([expected[3], expected[1]], abs=0.02)
    anyone = policy.noise(uniform).isinf().any(-1).float().mean()
    assert float(anyone) == pytest.approx(sum(expected) / 4, abs=0.02)


def test_the_learning_rate_falls_to_0_at_the_end() -> None:
    run = build("agent.learning_rate=0.1", "agent.learning_rate_schedule=linear", "total_steps=160")
    for _ in range(12):
        share = 1 - run.agent.progress
        assert run.step()["train/learning_rate"] == pytest.approx(0.1 * share, rel=1e-5)
    assert run.agent.optimizer.rate == 0


def test_exploration_is_drawn_per_column() -> None:
    policy = build("env=Acrobot-v1").agent.policy
    policy.epsilon.fill_(0.3)
    obs, first = torch.randn(1, 6).expand(6, 6), torch.zeros(6, dtype=torch.bool)
    pairs = [[0.29, 0.0], [0.29, 0.34], [0.29, 0.99], [0.3, 0.0], [0.3, 0.5], [0.9, 0.9]]
    noise = policy.noise(torch.tensor(pairs))
    action, _, _ = policy.act(obs, (), first, noise)
    greedy, _, _ = policy.act(obs, (), first, noise, greedy=True)
    assert action[:3].tolist() == [0, 1, 2]
    assert (greedy == greedy[0]).all() and torch.equal(action[3:], greedy[3:])


def test_importance_weights_enter_the_loss() -> None:
    run = build("agent.prioritized=true")
    batch = run.agent.batch_of(warm(run))
    batch["target"] = torch.linspace(-4, 4, 16)[None]
    batch["weight"] = torch.linspace(0.1, 1, 16)[None]
    loss, terms = run.agent.loss(run.agent.weigh(batch))
    valid = batch["valid"]
    small = terms["error"].abs() <= 1  # both branches of the Huber loss
    assert small.any() and (~small).any()
    error = terms["error"]
    huber = torch.where(small, 0.5 * error**2, error.abs() - 0.5)
    expected = (batch["weight"] * huber * valid).sum() / valid.sum()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_beta_rises_to_1() -> None:
    run = build("agent.prioritized=true", "agent.prioritized_beta=0.4", "total_steps=160")
    betas, shares = [], []
    draw = run.agent.replay.draw

    def seen(count: int, beta: float) -> tuple[np.ndarray, np.ndarray]:
        betas.append(beta)
        shares.append(run.agent.progress)
        return draw(count, beta)

    run.agent.replay.draw = seen
    for _ in range(12):
        run.step()
    assert betas == pytest.approx([0.4 + 0.6 * share for share in shares])
    assert betas[-1] == 1.0


def test_priorities_of_sequences_by_hand() -> None:
    agent: DQN = build("agent.prioritized=true", "agent.prioritized_eta=0.9").agent
    error = torch.tensor([[3.0, 1.0, 9.0], [-1.0, 50.0, 9.0]])
    valid = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    priority = agent.priority({"error": error, "valid": valid})
    # 0.9 * 3 + 0.1 * 2; the invalid 50 does not count: 0.9 * 1 + 0.1 * 1; no valid step at all
    assert priority.tolist() == pytest.approx([2.9, 1.0, 0.0], abs=1e-5)
    assert (priority > 0).all()


def test_priorities_follow_the_errors() -> None:
    run = build("agent.prioritized=true", "agent.prioritized_alpha=0.5", "agent.gradient_steps=1")
    warm(run)
    seen: dict[str, Any] = {}
    replay = run.agent.replay
    set_priorities = replay.update_priorities

    def update(starts: np.ndarray, priority: np.ndarray) -> None:
        seen.update(starts=starts, priority=priority)
        set_priorities(starts, priority)

    replay.update_priorities = update
    run.step()
    for start, priority in zip(seen["starts"], seen["priority"], strict=True):
        assert replay.tree.priorities[start] == pytest.approx(priority**0.5)


def test_noisy_exploration() -> None:
    run = build("agent.noisy=true", "agent.dueling=true")
    policy, target = run.agent.policy, run.agent.target.network
    obs, first = torch.randn(3, 4), torch.zeros(3, dtype=torch.bool)

    def q(noisy: bool) -> Tensor:
        return policy(obs[None], (), first[None], noisy)[0]

    fresh, mean = q(True), q(False)
    assert not torch.equal(fresh, mean)
    policy.resample()
    assert not torch.equal(q(True), fresh) and torch.equal(q(False), mean)
    greedy, _, _ = policy.act(obs, (), first, torch.zeros(3, 2), greedy=True)
    assert torch.equal(greedy, mean[0].argmax(-1))
    acted, _, _ = policy.act(obs, (), first, policy.noise(torch.zeros(3, 2)))
    assert torch.equal(acted, q(True)[0].argmax(-1)) and policy.epsilon == 0

    noise = []
    for _ in range(6):
        run.step()
        noise.append(policy.advantage.layers[-1].noise_in.clone())  # of the next rollout
        assert policy.epsilon == 0
    assert len({tuple(x.tolist()) for x in noise}) == 6
    assert not torch.equal(
        policy.advantage.layers[-1].noise_in, target.advantage.layers[-1].noise_in
    )
    assert policy.advantage.layers[-1].weight_sigma.std() > 0  # learned: no longer all the same


@pytest.mark.parametrize(("length", "burn_in"), [(4, 0), (8, 0), (8, 3)])
def test_each_step_is_in_equally_many_sequences(length: int, burn_in: int) -> None:
    """But for the first of all, which only warm the memory, and the newest, which wait for more."""
    words = (f"agent.sequence_length={length}", f"agent.burn_in={burn_in}", "agent.n_step=2")
    run = build("network=lstm", "network.blocks.1.size=8", *words)
    for _ in range(12):
        run.step()
    windows = run.agent.replay.windows
    learned = np.zeros(int(windows.written[0]), int)
    for block in range(windows.span[0][0], windows.span[1][0]):
        begin = block * windows.stride + burn_in
        learned[begin : begin + length] += 1
    middle = learned[burn_in + length : -2 * length - burn_in]
    assert len(middle) > 8 and set(middle) == {length // 4}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("agent", "freq", "length", "more"),
    [
        ("dqn", 34, 34, ()),
        ("dqn", 10, 20, ("agent.burn_in=7",)),
        ("sac", 10, 20, ("agent.n_step=3",)),
    ],
)
def test_the_loss_weighs_each_valid_step_equally_often(
    agent: str, freq: int, length: int, more: tuple[str, ...], late: bool
) -> None:
    """In all windows together: what the loss takes of them, and no reset; also of columns that
    arrive apart. Steps within a window of the oldest or newest row have fewer windows."""
    words = (f"agent.train_freq={freq}", f"agent.sequence_length={length}", *more)
    small = ("network=lstm", "network.blocks.1.size=8", "agent.learning_starts=90_000", "groups=2")
    run = build(f"agent={agent}", "env=neuraxis/Memory-v0", *small, *words)
    first: list[list[Tensor]] = [[], [], [], []]
    learn = run.agent.learn

    def watched(rollout: Any) -> Any:
        for place, column in enumerate(rollout.columns.tolist()):
            first[column].append(rollout.first[1:, place])
        return learn(rollout)

    run.agent.learn = watched
    source = Late(run) if late else run
    for _ in range(25 if late else 12):
        source.step()
    replay, windows = run.agent.replay, run.agent.replay.windows
    begin, end = windows.span
    starts = np.array([b * 4 + c for c in range(4) for b in range(begin[c], end[c])])
    valid = run.agent.batch_of(replay.gather(starts, np.ones(len(starts), np.float32)))["valid"]
    for column in range(4):
        resets = torch.cat(first[column])
        learned = torch.zeros(len(resets))
        for place in np.flatnonzero(starts % 4 == column):
            row = starts[place] // 4 * freq + run.agent.burn_in
            learned[row : row + length] += valid[:, place]
        middle = slice(run.agent.burn_in + length, -windows.window - length)
        assert len(learned[middle]) > 8 and resets[middle].any()
        assert torch.equal(learned[middle], torch.where(resets, 0.0, length / freq)[middle])


def test_with_memory_as_many_steps_are_learned_for_each_step_as_without() -> None:
    run = build(*LSTM[:2], "agent.gradient_steps=-1", "agent.batch_size=8")
    while run.agent.steps < 400:
        run.step()
    learned = int(run.agent.optimizer.count) * 8 * run.agent.sequence_length
    assert learned == pytest.approx(8 * (run.agent.steps - 16), rel=0.1)


def test_updates_per_environment_step() -> None:
    """None before learning_starts; then one a real step, however many environments there are."""
    run = build("agent.gradient_steps=-1", "agent.learning_starts=40", "env=neuraxis/Counter-v0")
    for _ in range(8):
        count, rollout = int(run.agent.optimizer.count), run.rollout()
        run.agent.learn(rollout)
        learned = run.agent.optimizer.count - count
        assert learned == (rollout.steps if run.agent.steps >= 40 else 0)
    assert run.agent.steps < 8 * 16  # there were resets


def test_rollouts_without_a_step() -> None:
    """One environment, one step a rollout: some rollouts are but a reset."""
    words = ("num_envs=1", "agent.train_freq=1", "env=neuraxis/Counter-v0", "env.kwargs.length=2")
    run = build(*words, "agent.gradient_steps=-1")
    for _ in range(40):
        run.step()
    assert run.agent.optimizer.count > 0


def test_minibatches_gathered_together_are_the_same() -> None:
    """Targets of several minibatches at once, where nothing in between may change them."""
    run = build("agent.double=false", "agent.gradient_steps=6")
    warm(run)
    batches = list(run.agent.samples(6))
    drawn = np.concatenate([starts for starts, _ in batches])
    assert len(np.unique(drawn)) < len(drawn)  # some twice
    for starts, batch in batches:
        sample = run.agent.replay.gather(starts, np.ones(8, np.float32))
        apart = run.agent.batch_of(sample)
        assert all(torch.allclose(batch[name], apart[name]) for name in apart if apart[name] != ())


def test_memories_are_warmed_by_the_newest_weights() -> None:
    """With a burn-in each minibatch needs the weights that the update before it left."""
    run = build(*LSTM, "agent.burn_in=2", "agent.double=false", "agent.learning_rate=0.1")
    warm(run)
    agent: DQN = run.agent
    for starts, batch in agent.samples(3):
        sample = agent.replay.gather(starts, np.ones(8, np.float32))
        expected = agent.batch_of(sample)["state"]
        for one, two in zip(batch["state"][1], expected[1], strict=True):
            assert torch.allclose(one, two, atol=1e-6)
        agent.run_update(batch)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("env=Pendulum-v1",), "needs a Discrete, MultiDiscrete or MultiBinary action space"),
        (("agent.buffer_size=8",), "agent.buffer_size=8: too small"),
        (("agent.buffer_size=64", "agent.train_freq=40"), "agent.buffer_size=64: too small"),
        (("compile=true", "network=lstm"), "cannot be compiled: the network has memory"),
        (("network=lstm", "agent.train_freq=5"), "expected a multiple of agent.train_freq=5"),
        (
            ("network=lstm", "agent.train_freq=34", "agent.sequence_length=20"),
            "agent.sequence_length=20: expected a multiple of agent.train_freq=34",
        ),
        (("network=cnn",), "image"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        training("agent=dqn", *words)
    assert "\n" not in str(refused.value)
