"""`predict`: what an agent sees and does in an environment that somebody else steps."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from neuraxis.agents.policies.policy import Policy
from neuraxis.configs import Config
from neuraxis.core.tree import leaves, map_tree
from neuraxis.envs import ids
from neuraxis.envs.episodes import episode_seed
from neuraxis.envs.make import make, probe
from neuraxis.envs.single import make_single
from neuraxis.training import load, train
from neuraxis.training.evaluate import play

from .helpers import training

SEED = 7
SMALL = "network.blocks.0.sizes=[16]"
LSTM = "network=lstm", "network.blocks.1.size=8", SMALL
TASKS = {
    "scaled": ("env=Pendulum-v1", SMALL),
    "normalized": ("env=Pendulum-v1", SMALL, "agent.normalize_observations=true"),
    "clipped": ("env=Pendulum-v1", SMALL, "env.rescale_actions=false"),
    "memory": ("env=CartPole-v1", *LSTM),
    "stack": ("env=Pendulum-v1", "env.frame_stack=3", *LSTM),
    "velocity": ("env=Pendulum-v1", "env.mask_velocity=true", "network=gru", SMALL),
    "transformer": ("env=cartpole_masked", "network=transformer", SMALL),
    "last action": ("env=Pendulum-v1", "env.last_action=true", "env.reward_scale=0.1", *LSTM),
    "last choice": ("env=CartPole-v1", "env.last_action=true", "env.reward_clip=0.5", *LSTM),
    "mask": ("env=Taxi-v4", "env.action_mask=info", SMALL),
    "mask in the observation": (
        "env=neuraxis/Masked-v0",
        "env.kwargs.in_observation=true",
        "env.action_mask=legal",
        SMALL,
    ),
    "flat": ("env=FrozenLake-v1", "env.flatten=true", SMALL),
    "image": ("env=MiniGrid-Empty-Random-6x6-v0", "network=cnn_small", "env.frame_stack=2"),
}


def spied(policy: Policy) -> list[Any]:
    """A list that gets the observations [B,*] of each step in which the policy acts."""
    seen: list[Any] = []
    act = policy.act

    def acting(obs: Any, *rest: Any, **more: Any) -> Any:
        seen.append(map_tree(lambda leaf: leaf.numpy().copy(), obs))
        return act(obs, *rest, **more)

    policy.act = acting
    return seen


def by_hand(policy: Policy, cfg: Config) -> tuple[float, int]:
    """Return and length of the first episode, stepped by a loop of one's own."""
    env = make_single(cfg.env, ids.find(cfg.env.id), None)
    obs, info = env.reset(seed=episode_seed(SEED, 0, 0))
    state, reward, total, length, over = None, None, 0.0, 0, False
    while not over:
        mask = info.get("action_mask") if cfg.env.action_mask == "info" else None
        action, state = policy.predict(obs, state, action_mask=mask, reward=reward)
        assert action in env.action_space
        obs, reward, terminated, truncated, info = env.step(action)
        total, length, over = total + float(reward), length + 1, terminated or truncated
    return total, length


@pytest.mark.parametrize("task", TASKS)
def test_it_sees_and_does_what_an_evaluation_does(task: str) -> None:
    """Each observation of a whole episode, to the last bit, and so each action before it."""
    run = training(*TASKS[task], "env.vectorization=sync", "num_envs=2", "agent.n_steps=32")
    run.step()  # statistics are those of something
    policy, rollouts = run.agent.policy, []
    expected = play(policy, run.cfg.env, 1, SEED, num_envs=1, keep=rollouts.append)[0]
    length = int(expected[1])
    states = [map_tree(lambda leaf: leaf[:-1, 0], rollout.obs) for rollout in rollouts]
    acted = map_tree(lambda *parts: np.concatenate(parts)[:length], *states)
    seen = spied(policy)
    assert by_hand(policy, run.cfg) == pytest.approx(tuple(expected[:2]), rel=1e-6)
    given = map_tree(lambda *steps: np.concatenate(steps), *seen)
    for one, other in zip(leaves(given), leaves(acted), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("task", TASKS)
def test_the_interface_has_the_spaces_of_the_agent(task: str) -> None:
    cfg = training(*TASKS[task]).cfg
    envs, interface = make(cfg.env, 1, 0), probe(cfg.env, 0)
    assert interface.observation_space == envs.observation_space
    assert interface.action_space == envs.action_space
    again = pickle.loads(pickle.dumps(interface))
    assert again.observation_space == envs.observation_space


class Odd(gymnasium.Env[Any, Any]):
    """Actions and observations that count from 5, and a Box far from 0."""

    def __init__(self, box: bool = False) -> None:
        self.observation_space = gymnasium.spaces.Tuple(
            [gymnasium.spaces.Discrete(3, start=5), gymnasium.spaces.Box(0, 1, (2,), np.float64)]
        )
        discrete = gymnasium.spaces.Discrete(4, start=5)
        self.action_space = gymnasium.spaces.Box(0, 10, (1,), np.float64) if box else discrete

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return (np.int64(6), np.ones(2)), {}

    def step(self, action: Any) -> Any:
        assert action in self.action_space
        return (np.int64(7), np.zeros(2)), float(np.sum(action)), False, False, {}


creator: Any = Odd
gymnasium.register("predict/Odd-v0", creator, max_episode_steps=4)
ODD = "env=tests.test_predict:predict/Odd-v0"


@pytest.mark.parametrize("box", [False, True])
def test_one_observation_or_many(box: bool) -> None:
    policy = training(ODD, f"env.kwargs.box={str(box).lower()}", SMALL).agent.policy
    space = Odd(box).action_space
    found = np.array([6, 7, 5]), np.random.default_rng(0).random((3, 2))
    many, state = policy.predict(found)
    assert len(many) == 3 and all(action in space for action in many)
    for row, action in enumerate(many):
        one, _ = policy.predict((found[0][row], found[1][row]))
        assert one in space
        np.testing.assert_allclose(one, action, rtol=1e-6)
    if box:
        assert len({float(action[0]) for action in many}) == 3
    with pytest.raises(ValueError, match="expected a tuple of 2 parts"):
        policy.predict([(np.int64(6), np.ones(2))] * 2)
    assert state.batch == 3
    with pytest.raises(ValueError, match="the state is of 3 environments, the observation of 1"):
        policy.predict((np.int64(6), np.ones(2)), state)


def test_memory_lasts_until_an_episode_opens() -> None:
    run = training("env=CartPole-v1", *LSTM, "env.frame_stack=2")
    policy = run.agent.policy
    obs = np.random.default_rng(0).normal(0, 0.1, (4, 2, 4)).astype(np.float32)
    seen = spied(policy)
    _, state = policy.predict(obs[0])
    _, state = policy.predict(obs[1], state)
    _, fresh = policy.predict(obs[1], None)
    pairs = list(zip(leaves(state.memory), leaves(fresh.memory), strict=True))
    assert pairs and not any(torch.equal(one, other) for one, other in pairs)
    _, partly = policy.predict(obs[2], state, episode_start=[True, False])
    np.testing.assert_array_equal(seen[-1][0], np.concatenate([obs[2, 0], obs[2, 0]]))
    np.testing.assert_array_equal(seen[-1][1], np.concatenate([obs[1, 1], obs[2, 1]]))
    _, opened = policy.predict(obs[2], None)
    for one, other in zip(leaves(partly.memory), leaves(opened.memory), strict=True):
        torch.testing.assert_close(one[..., :1, :], other[..., :1, :])
        assert not torch.equal(one[..., 1:, :], other[..., 1:, :])


def test_each_row_of_a_batch_has_its_mask() -> None:
    """And a mask that forbids everything, as the last of an episode may, forbids nothing."""
    words = "env=neuraxis/Masked-v0", "env.kwargs.action_space=multidiscrete", "env.kwargs.size=3"
    policy = training(*words, "env.action_mask=info", SMALL).agent.policy
    sizes = policy.interface.spaces[1].nvec
    rng = np.random.default_rng(0)
    parts = tuple(np.eye(n, dtype=np.int8)[rng.integers(n, size=50)] for n in sizes)
    only = np.stack([part.argmax(-1) for part in parts], -1)
    obs = np.zeros(50, np.int64)
    for mask in (parts, np.concatenate(parts, -1)):
        for deterministic in (True, False):
            action, _ = policy.predict(obs, action_mask=mask, deterministic=deterministic)
            np.testing.assert_array_equal(action, only)
    for row in range(3):
        action, _ = policy.predict(obs[row], action_mask=tuple(part[row] for part in parts))
        np.testing.assert_array_equal(action, only[row])
    action, _ = policy.predict(obs, action_mask=np.zeros((50, sum(sizes)), np.int8))
    assert action.shape == only.shape


def test_what_is_returned_may_be_changed() -> None:
    """The last action that the next observation shows is the policy's own."""
    policy = training("env=CartPole-v1", "env.last_action=true", *LSTM).agent.policy
    obs, seen = np.zeros((3, 4)), spied(policy)
    action, state = policy.predict(obs)
    taken = action.copy()
    action[:] = 1 - action
    policy.predict(obs, state, reward=[1.0, 2.0, 3.0], episode_start=[False, True, False])
    expected = np.eye(2)[taken] * [[1], [0], [1]]
    np.testing.assert_array_equal(seen[-1]["last_action"], expected)
    np.testing.assert_array_equal(seen[-1]["last_reward"], [[1.0], [0.0], [3.0]])


def test_stochastic_actions_vary() -> None:
    policy = training("env=Pendulum-v1", SMALL).agent.policy
    obs = np.zeros((50, 3), np.float32)
    assert np.ptp(policy.predict(obs)[0]) == 0
    assert np.ptp(policy.predict(obs, deterministic=False)[0]) > 0


@pytest.mark.parametrize(
    ("obs", "message"),
    [
        (np.zeros(3), r"has shape \(3,\); expected \(4,\), or of a batch \(B, 4\)"),
        (np.zeros((2, 3)), r"has shape \(2, 3\); expected \(4,\), or of a batch \(B, 4\)"),
        ({"obs": 1}, "observation is {'obs': 1}; expected numbers"),
        ("ABCD", "observation is 'ABCD'; expected numbers"),
        ((np.zeros(4), {}), "expected numbers in NumPy, the first of what `reset` and `step`"),
        (torch.zeros(4, requires_grad=True), "expected numbers in NumPy"),
        ([0.0, np.nan, 0.0, 0.0], "a number that is not finite"),
    ],
)
def test_observations_of_another_environment_are_refused(obs: Any, message: str) -> None:
    policy = training("env=CartPole-v1", SMALL).agent.policy
    with pytest.raises(ValueError, match=message) as found:
        policy.predict(obs)
    assert "\n" not in str(found.value)


def test_what_is_missing_is_said() -> None:
    masked = training("env=Taxi-v4", "env.action_mask=info", SMALL).agent.policy
    with pytest.raises(ValueError, match=r"give action_mask=info\['action_mask'\]"):
        masked.predict(np.int64(3))
    with pytest.raises(ValueError, match=r"of shape \(6, 2\) .* expected shape \(2, 6\)"):
        masked.predict(np.array([3, 4]), action_mask=np.ones((6, 2), np.int8))
    rewarded = training("env=CartPole-v1", "env.last_action=true", *LSTM).agent.policy
    _, state = rewarded.predict(np.zeros(4))
    with pytest.raises(ValueError, match="give the reward of the last action"):
        rewarded.predict(np.zeros(4), state)
    for wrong in (np.nan, [1.0, 2.0], "a"):
        with pytest.raises(ValueError, match=r"predict: reward is .*; expected"):
            rewarded.predict(np.zeros(4), state, reward=wrong)
    policy = training("env=CartPole-v1", SMALL).agent.policy
    with pytest.raises(ValueError, match="state is a tuple; expected None, or what"):
        policy.predict(np.zeros(4), ())
    for first in ([True] * 3, "no"):
        with pytest.raises(
            ValueError, match=r"episode_start is .*; expected true or false for each of 1"
        ):
            policy.predict(np.zeros(4), episode_start=first)
    with pytest.raises(ValueError, match="the state is of another policy"):
        policy.predict(np.zeros(4), state)
    with pytest.raises(ValueError, match=r"action_mask is given, but the run has .*=None"):
        policy.predict(np.zeros(4), action_mask=[1, 1])
    policy.interface = None
    with pytest.raises(ValueError, match="the environment's spaces are not known"):
        policy.predict(np.zeros(4))


def test_a_loaded_policy_acts_without_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loaded where its id is not registered, it scales its actions and masks velocities."""
    words = "env=Pendulum-v1", "env.mask_velocity=true", SMALL, "agent.n_steps=64"
    off = "wandb.mode=disabled", "eval.final_episodes=1"
    run = train(*words, *off, total_steps=200, run_dir=tmp_path / "run")
    monkeypatch.delitem(gymnasium.registry, "Pendulum-v1")
    policy = load(run.dir, "last")
    obs = np.array([[0.5, -0.2, 3.0]], np.float32)
    with torch.inference_mode():
        raw, _, _ = policy.act(torch.as_tensor(obs[:, :2]), (), torch.tensor([True]), greedy=True)
    action, _ = policy.predict(obs)
    np.testing.assert_allclose(action, 2 * np.clip(raw.numpy(), -1, 1), rtol=1e-6)
    assert action.dtype == np.float32
