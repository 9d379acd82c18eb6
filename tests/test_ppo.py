"""PPO: the ratio begins at 1, invalid steps have no say, values see the memory before a reset."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from neuraxis.agents import agent_class, agent_names
from neuraxis.agents.learning.returns import gae
from neuraxis.agents.ppo import PPO
from neuraxis.configs.groups import choices
from neuraxis.core.rollout import Rollout
from neuraxis.core.tree import map_tree
from neuraxis.training.distributed.local_source import LocalSource

from .helpers import Training, fitting, some_pairs, training

WORDS = ("num_envs=4", "agent.n_steps=16", "agent.batch_size=32", "agent.learning_rate=0.01")
SMALL = ("network.blocks.0.sizes=[16]", "network.blocks.1.size=16")
SHORT = ("env.time_limit=5",)  # CartPole is then truncated all the time


AGENTS = [name for name in agent_names() if issubclass(agent_class(name), PPO)]


def build(network: str = "mlp", *words: str) -> Training:
    small = {"mlp": SMALL[:1], "lstm": SMALL, "gru": SMALL, "transformer": SMALL}
    size = 10 if "small" in network else 36
    images = ("env=neuraxis/Dict-v0", f"env.kwargs.size={size}") if "cnn" in network else ()
    return training(*WORDS, f"network={network}", *small.get(network, ()), *images, *words)


def digest(module: torch.nn.Module) -> str:
    arrays = (t.numpy().tobytes() for t in module.state_dict().values())
    return hashlib.sha256(b"".join(arrays)).hexdigest()


def terms(run: Training) -> list[dict[str, Tensor]]:
    """What each update of one `learn` reported."""
    run.agent.thaw()  # makes `run_update` anew
    plain, seen = run.agent.run_update, []

    def update(batch: Any) -> dict[str, Tensor]:
        seen.append(plain(batch))
        return seen[-1]

    run.agent.run_update = update
    run.step()
    run.agent.run_update = plain
    return seen


def assert_first_ratio_is_1(run: Training) -> None:
    moved = []
    if run.agent.asynchronous and run.agent.policy.normalizer is not None:
        run.step()  # acted without statistics and learned with them; the ratio is to what acted
    for _ in range(3):  # away from the first weights, into the middle of episodes
        seen = terms(run)
        assert seen[0]["log_ratio"].abs().max() < 1e-5
        moved.append(float(seen[-1]["log_ratio"].abs().max()))
    assert max(moved) > 1e-3  # it moves then


@pytest.mark.parametrize(
    ("network", "agent"), some_pairs([*choices("network")], AGENTS, whole=("mlp", "lstm"))
)
def test_the_first_ratio_is_1(network: str, agent: str) -> None:
    """Law 3: memory, statistics and resets of the update are those of acting."""
    words = (f"agent={agent}", "agent.normalize_observations=true")
    assert_first_ratio_is_1(build(network, *words))


@pytest.mark.parametrize("env", ["Pendulum-v1", "neuraxis/Identity-v0"])
@pytest.mark.parametrize("network", ["mlp", "lstm"])
def test_the_first_ratio_is_1_for_every_action_space(network: str, env: str) -> None:
    kinds = ["box"] if env == "Pendulum-v1" else ["discrete", "multidiscrete", "multibinary"]
    for kind in kinds:
        kwargs = () if env == "Pendulum-v1" else (f"env.kwargs.action_space={kind}",)
        assert_first_ratio_is_1(build(network, f"env={env}", *kwargs))


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("network", ["mlp", "lstm"])
@pytest.mark.parametrize("box", ["squashed=true", "use_sde=true", "state_dependent_std=true"])
def test_the_first_ratio_is_1_for_every_gaussian(box: str, network: str, agent: str) -> None:
    words = ("env=Pendulum-v1", f"agent.gaussian.{box}", "agent.gaussian.log_std_init=-1")
    assert_first_ratio_is_1(build(network, f"agent={agent}", *words))


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize(
    ("network", "setting"),
    [
        ("mlp", "network.blocks.0.dropout=0.3"),
        ("mlp", "network.blocks.0.norm=batch"),
        ("mlp", "network.blocks.0.norm=layer"),
        ("lstm", "network.blocks.1.dropout=0.3"),
        ("transformer", "network.blocks.1.dropout=0.3"),
        ("cnn_small", "network.blocks.0.norm=batch"),
        ("mlp", "network.blocks.0.weight_norm=spectral"),
        ("mlp", "network.blocks.0.weight_norm=weight"),
        ("transformer", "network.blocks.1.weight_norm=spectral"),
        ("cnn_small", "network.blocks.0.weight_norm=spectral"),
    ],
)
def test_the_first_ratio_is_1_with_dropout_and_norms(
    network: str, setting: str, agent: str
) -> None:
    """Though acting has neither masks nor batch statistics."""
    assert_first_ratio_is_1(build(network, setting, f"agent={agent}"))


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize(
    ("network", "setting"),
    [
        ("mlp", "agent.augment.noise=0.3"),
        ("lstm", "agent.augment.noise=0.3"),
        ("cnn_small", "agent.augment.shift=2"),
    ],
)
@pytest.mark.parametrize("dropout", ["0", "0.3"])
def test_the_first_ratio_is_1_with_augmentation(
    network: str, setting: str, dropout: str, agent: str
) -> None:
    words = (f"network.blocks.0.dropout={dropout}", f"agent={agent}")
    assert_first_ratio_is_1(build(network, setting, *words))


@pytest.mark.parametrize("agent", [*AGENTS, "a2c"])
def test_the_first_ratio_is_1_with_all_regularizers_at_once(agent: str) -> None:
    """In two kinds of norm, before, at and after a thaw."""
    block = "{name: mlp, sizes: [16], norm: batch_renorm, dropout: 0.3, weight_norm: spectral}"
    words = (
        f"network.blocks=[{block}, {{name: gru, size: 16, layers: 2, dropout: 0.3, norm: layer}}]",
        *("agent.normalize_observations=true", "agent.augment.noise=0.3", "agent.l1=1e-3"),
        *("agent.l2=1e-3", "agent.weight_decay=0.1", "agent.layer_decay=0.5", "total_steps=256"),
        "agent.freeze={actor.blocks.0.*: 0.2, critic.blocks.1.*: null}",
    )
    run = training(f"agent={agent}", *WORDS, *words)
    assert_first_ratio_is_1(run)
    assert run.agent.freezing.stage == 1


def test_dropout_draws_the_same_masks_twice_and_others_later() -> None:
    """The ratio is taken under the masks of the update, which are others in the next one."""
    run = build("mlp", "network.blocks.0.dropout=0.5")
    batch, _ = run.agent.batch_of(run.rollout())
    batch = run.agent.weigh(batch) | run.agent.coefficients()
    run.agent.old = copy.deepcopy(run.agent.policy.train())
    log_probs = []
    for _ in range(2):
        batch["log_prob"], _ = run.agent.said_before(batch)
        log_probs.append(batch["log_prob"])
        run.agent.policy.train()
        _, found = run.agent.loss(batch)
        run.agent.policy.eval()
        assert found["log_ratio"].abs().max() < 1e-6
    assert not torch.equal(*log_probs)


def step_by_step(run: Training, rollout: Rollout) -> tuple[Tensor, list[Any]]:
    """Values [T+1, B] one row at a time, and the memory before each row."""
    state, values, before = rollout.state, [], []
    with torch.no_grad():
        for t in range(len(rollout.first)):
            before.append(state)
            obs = map_tree(lambda leaf, t=t: leaf[t : t + 1], rollout.obs)
            _, value, state = run.agent.policy(obs, state, rollout.first[t : t + 1])
            values.append(value[0])
    return torch.stack(values), before


@pytest.mark.parametrize("shared", ["true", "false"])
@pytest.mark.parametrize("network", ["lstm", "transformer"])
def test_values_and_memories_are_those_of_acting(network: str, shared: str) -> None:
    """Sequences begin with the memory that stood there; advantages use values seen with memory."""
    words = ("agent.sequence_length=4", f"network.shared={shared}", "agent.gae_lambda=0.7")
    run = build(network, *SHORT, *words)
    for _ in range(2):
        run.step()
    rollout = run.rollout()
    values, before = step_by_step(run, rollout)
    batch, _ = run.agent.batch_of(rollout)

    starts = map_tree(lambda *leaves: torch.cat(leaves, 1), *before[:16:4])
    for one, two in zip(flat(batch["state"]), flat(starts), strict=True):
        assert torch.allclose(one.double(), two.double(), atol=1e-5)
    advantage = gae(rollout.reward, rollout.discount, rollout.valid, values, 0.99, 0.7)
    rows = advantage.reshape(4, 4, 4).transpose(0, 1).reshape(4, 16)  # [L, T/L * B]
    assert torch.allclose(batch["advantage"], rows, atol=1e-5)
    assert torch.allclose(batch["target"], batch["advantage"] + batch["value"])


def flat(tree: Any) -> list[Tensor]:
    found: list[Tensor] = []
    map_tree(found.append, tree)
    return found


@pytest.mark.parametrize("network", ["mlp", "cnn_small"])
def test_values_of_a_shared_network_come_from_what_acting_left(network: str) -> None:
    """Its features: only the last observation goes through the network once more."""
    run = build(network, *SHORT, "network.shared=true", "agent.normalize_observations=true")
    for _ in range(2):
        run.step()
    rollout, length = run.rollout(), run.agent.sequence_length
    assert set(rollout.extras) == {"features"}
    policy = run.agent.policy
    without = policy.unroll(replace(rollout, extras={}), length)
    for one, two in zip(policy.unroll(rollout, length), without, strict=True):
        assert all(
            torch.allclose(*pair, atol=1e-5) for pair in zip(flat(one), flat(two), strict=True)
        )
    doubled = {"features": 2 * rollout.extras["features"]}
    value, _, _ = policy.unroll(replace(rollout, extras=doubled), length)
    assert torch.allclose(value[-1], without[0][-1], atol=1e-5)
    assert not torch.allclose(value[:-1], without[0][:-1], atol=1e-2)


CRITICS = {
    "a wider critic": ("mlp", "network.critic.0.sizes=[48,24]"),
    "memory for the actor": ("lstm", "network.critic=[{name: mlp, sizes: [24]}]"),
    "memory for the critic": ("mlp", "network.critic=[{name: gru, size: 24}]"),
    "two memories": ("lstm", "network.critic=[{name: transformer, size: 32, layers: 1}]"),
}


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("blocks", CRITICS.values(), ids=CRITICS)
def test_a_critic_with_blocks_of_its_own(blocks: tuple[str, str], agent: str) -> None:
    """Its values and its memory are those of single steps, and the first ratio is 1."""
    run = build(*blocks, *SHORT, "agent.sequence_length=4", f"agent={agent}")
    assert_first_ratio_is_1(run)
    policy, rollout = run.agent.policy, run.rollout()
    assert policy.value.in_features == policy.critic.out_size != policy.actor.out_size
    values, before = step_by_step(run, rollout)
    found, _, memory = policy.unroll(rollout, run.agent.sequence_length)
    torch.testing.assert_close(found, values, atol=1e-5, rtol=0)
    starts = map_tree(
        lambda *leaves: torch.cat(leaves, 1), *before[: 16 : run.agent.sequence_length]
    )
    for one, two in zip(flat(memory), flat(starts), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


def test_truncation_is_valued_with_the_memory_before_the_reset() -> None:
    run = build("lstm", *SHORT)
    for _ in range(2):
        run.step()
    rollout = run.rollout()
    (cut,) = torch.nonzero(rollout.first[1:, 0])[:1, 0].tolist()  # row `cut` is the true last one
    assert rollout.discount[cut - 1, 0] == 1  # it was truncated
    values, _ = step_by_step(run, rollout)
    found, _, _ = run.agent.policy.unroll(rollout, run.agent.sequence_length)
    assert torch.allclose(found, values, atol=1e-5)
    obs, fresh = rollout.obs[cut : cut + 1], torch.ones(1, 4, dtype=torch.bool)
    with torch.no_grad():
        _, forgotten, _ = run.agent.policy(obs, run.agent.policy.initial_state(4), fresh)
    assert (forgotten[0, 0] - values[cut, 0]).abs() > 1e-4  # memory matters here


@pytest.mark.parametrize("network", ["mlp", "lstm"])
def test_invalid_steps_have_no_say(network: str) -> None:
    """The action of a reset may be anything."""

    def learned(spoil: Callable[[Rollout], Rollout]) -> str:
        run = build(network, *SHORT, "agent.ent_coef=0.1", "agent.normalize_rewards=true")
        for _ in range(2):
            rollout = run.rollout()
            assert not rollout.valid.all()
            run.agent.learn(spoil(rollout))
        return digest(run.agent.policy)

    def spoiled(rollout: Rollout) -> Rollout:
        return replace(
            rollout, action=torch.where(rollout.valid, rollout.action, 1 - rollout.action)
        )

    assert learned(lambda rollout: rollout) == learned(spoiled)


def test_the_loss_is_the_papers() -> None:
    """Against torch.distributions and the formula, written out."""
    run = build("mlp", *SHORT, "agent.ent_coef=0.03", "agent.vf_coef=0.7", "agent.n_epochs=1")
    agent: PPO = run.agent
    run.step()
    batch, _ = agent.batch_of(run.rollout())
    minibatch = agent.weigh(next(iter(agent.minibatches(batch)))) | agent.coefficients()
    minibatch["log_prob"] = minibatch["log_prob"] + torch.randn_like(minibatch["log_prob"]) / 3
    loss, _ = agent.loss(minibatch)

    keep = minibatch["valid"].bool()
    assert 0 < keep.sum() < keep.numel()
    log_probs, value, _ = agent.policy(minibatch["obs"], (), minibatch["first"])
    pi = torch.distributions.Categorical(logits=log_probs)
    ratio = (pi.log_prob(minibatch["action"]) - minibatch["log_prob"]).exp()[keep]
    raw = minibatch["advantage"][keep]
    assert raw.mean().abs() < 1e-6 and raw.std().item() == pytest.approx(1)
    objective = torch.minimum(ratio * raw, ratio.clamp(0.8, 1.2) * raw).mean()
    error = (value - minibatch["target"]).square()[keep].mean()
    expected = -objective + 0.7 * error - 0.03 * pi.entropy()[keep].mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("network", ["mlp", "lstm"])
def test_an_epoch_takes_each_sequence_once(network: str) -> None:
    run = build(network, "agent.n_epochs=3", "agent.sequence_length=4", "agent.batch_size=24")
    length = 1 if network == "mlp" else 4
    batch, _ = run.agent.batch_of(run.rollout())
    count = 64 // length
    batch["value"] = torch.arange(64.0).reshape(length, count)  # names each step
    picked = [minibatch["value"] for minibatch in run.agent.minibatches(batch)]
    sizes = [x.shape[1] * length for x in picked]
    assert max(sizes) <= 24 and sizes == [*sizes[:3]] * 3 and max(sizes) - min(sizes) <= length
    epochs = [torch.cat(picked[i : i + 3], 1) for i in (0, 3, 6)]
    orders = [epoch[0].tolist() for epoch in epochs]
    assert all(sorted(order) == list(range(count)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    for epoch in epochs:  # sequences stay whole
        rows = torch.arange(length)[:, None].expand_as(epoch)
        assert torch.equal(epoch - epoch[:1], count * rows)


def test_minibatches_weigh_valid_steps_equally() -> None:
    run = build("mlp", *SHORT)
    batch, _ = run.agent.batch_of(run.rollout())
    for minibatch in map(run.agent.weigh, run.agent.minibatches(batch)):
        valid = minibatch["valid"]
        assert torch.allclose(minibatch["weight"], valid / valid.sum())
        assert (minibatch["advantage"] * valid).sum().abs() < 1e-4


def test_schedules_fall_to_0_at_the_end() -> None:
    scheduled = ("learning_rate", "clip_range", "ent_coef", "clip_range_vf")
    schedules = [f"agent.{name}_schedule=linear" for name in scheduled]
    run = build(
        "mlp", *schedules, "agent.ent_coef=0.5", "agent.clip_range_vf=0.4", "total_steps=200"
    )
    rates, others = [], {name: [] for name in scheduled[1:]}
    update = run.agent.run_update

    def seen(batch: dict[str, Any]) -> Any:
        rates.append(float(run.agent.optimizer.rate))
        for name, values in others.items():
            values.append(float(batch[name]))
        return update(batch)

    run.agent.run_update = seen
    starts = []
    for _ in range(5):
        starts += [run.agent.steps] * 20  # 10 epochs of 2 minibatches
        run.step()
    shares = [max(0.0, 1 - steps / 200) for steps in starts]
    assert rates == pytest.approx([0.01 * share for share in shares])
    for name, start in (("clip_range", 0.2), ("ent_coef", 0.5), ("clip_range_vf", 0.4)):
        assert others[name] == pytest.approx([start * share for share in shares])
    assert shares[-1] < 0.5


def test_target_kl_stops_before_the_step_that_is_too_far() -> None:
    free = build("mlp", "agent.n_epochs=20")
    bound = build("mlp", "agent.n_epochs=20", "agent.target_kl=0.002")
    taken = []
    for run in (free, bound):
        run.step()
        taken.append(int(run.agent.optimizer.count))
    assert taken[0] == 40 and 0 < taken[1] < 40
    # the same weights as the unbound run had after as many updates
    other = build("mlp", "agent.n_epochs=20")
    batch, _ = other.agent.batch_of(other.rollout())
    for minibatch, _ in zip(other.agent.minibatches(batch), range(taken[1]), strict=False):
        other.agent.run_update(minibatch | other.agent.coefficients())
    assert digest(other.agent.policy) == digest(bound.agent.policy)


def test_value_clipping_bounds_the_move() -> None:
    """With a tiny range no error beyond it earns a gradient."""
    moved = []
    for setting in ("null", "1e-6"):
        run = build("mlp", f"agent.clip_range_vf={setting}", "agent.n_epochs=8")
        before = run.agent.policy.value.bias.detach().clone()
        run.step()
        moved.append((run.agent.policy.value.bias - before).abs().item())
    assert moved[1] < moved[0] / 2


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("noise", ["network.blocks.0.dropout=0.5", "agent.augment.noise=0.3"])
def test_value_clipping_is_around_what_the_old_policy_says_of_the_same(
    noise: str, agent: str
) -> None:
    """Masks and noise alone are no move: the first update has all of its gradient."""
    run = build("mlp", noise, "agent.clip_range_vf=1e-4", f"agent={agent}")
    plain, slopes = run.agent.loss, []

    def slope(batch: Any) -> Tensor:
        with torch.random.fork_rng([]):
            return torch.autograd.grad(plain(batch)[0], [run.agent.policy.value.bias])[0]

    def loss(batch: Any) -> Any:
        free = {name: x for name, x in batch.items() if name != "clip_range_vf"}
        slopes.append((slope(batch), slope(free)))
        return plain(batch)

    run.agent.loss = loss
    run.step()
    torch.testing.assert_close(*slopes[0])
    assert slopes[0][0].abs() > 1e-3


def test_the_same_seed_gives_the_same_weights() -> None:
    def learned(seed: int) -> str:
        run = build("lstm", f"seed={seed}")
        for _ in range(3):
            run.step()
        return digest(run.agent.policy)

    assert learned(1) == learned(1) != learned(2)


@pytest.mark.parametrize("num_envs", [1, 2])
def test_few_valid_steps_do_no_harm(num_envs: int) -> None:
    """Rollouts with one valid step, or none, of episodes of a single step."""
    words = ("env=neuraxis/Counter-v0", "env.kwargs.length=1", "agent.normalize_rewards=true")
    run = build("mlp", *words, f"num_envs={num_envs}", f"agent.n_steps={3 - num_envs}")
    for _ in range(5):
        run.step()
    assert all(p.isfinite().all() for p in run.agent.policy.parameters())


def test_acting_is_in_eval_mode() -> None:
    run = build("mlp", "network.blocks.0.dropout=0.5")
    assert isinstance(run.source, LocalSource)
    collector, policy = run.source.collectors[0], run.agent.policy
    modes = []
    act = policy.act

    def watched(*args: Any) -> Any:
        modes.append(policy.training)
        return act(*args)

    collector.act_functions = lambda: watched
    for _ in range(2):
        run.step()
    assert modes and not any(modes)


@pytest.mark.parametrize("agent", ["ppo", "appo", "impala"])
@pytest.mark.parametrize("far", [150.0, -150.0])
def test_far_ratios_poison_no_update(agent: str, far: float) -> None:
    """exp(150) overflows, and 0 times infinity is NaN: half of the steps have such a ratio."""
    words = *WORDS, "agent.n_epochs=3", "agent.rho_bar=1e30"
    run = training(*fitting(agent, f"agent={agent}", *words))
    rollout, make = run.rollout(), run.agent.batch_of
    before = digest(run.agent.policy)

    def batch_of(rollout: Rollout) -> Any:
        batch, metrics = make(rollout)
        batch["log_prob"][:, ::2] -= far
        return batch, metrics

    if agent == "ppo":
        run.agent.batch_of = batch_of
    else:
        rollout.extras["log_prob"][::2] -= far
    metrics = run.agent.learn(rollout)
    assert all(value.isfinite() for value in metrics.values())
    assert all(x.isfinite().all() for x in run.agent.policy.parameters())
    assert digest(run.agent.policy) != before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("network=lstm", "agent.sequence_length=5"),
            "sequence_length=5: must divide agent.n_step",
        ),
        (("agent.n_steps=1", "num_envs=1"), "one step has no standard deviation"),
        (("agent.batch_size=1",), "agent.batch_size=1: a minibatch of one step has no standard"),
        (("agent.batch_size=2", "num_envs=5", "agent.n_steps=13"), "agent.batch_size=2: a minib"),
        (("network=lstm", "compile=true"), "the network has memory; use compile=auto"),
        (("compile=true", "agent.target_kl=0.1"), "target_kl"),
        (("compile=true", "network.blocks.0.dropout=0.1"), "dropout"),
        (("network=cnn",), "image"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        training("agent=ppo", *words)
    assert "\n" not in str(refused.value)
