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
    """A list that gets each observation [*] with which the policy acts."""
    seen: list[Any] = []
    act = policy.act

    def acting(obs: Any, *rest: Any, **more: Any) -> Any:
        seen.append(map_tree(lambda leaf: leaf[0].numpy().copy(), obs))
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
    given = map_tree(lambda *steps: np.stack(steps), *seen)
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
    one, _ = policy.predict((np.int64(6), np.ones(2)))
    many, state = policy.predict((np.array([6, 7, 5]), np.ones((3, 2))))
    assert one in space and len(many) == 3 and all(action in space for action in many)
    np.testing.assert_allclose(many[0], one, rtol=1e-6)
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
    _, partly = policy.predict(obs[2], state, first=[True, False])
    np.testing.assert_array_equal(seen[-1], np.concatenate([obs[2, 0], obs[2, 0]]))
    _, opened = policy.predict(obs[2], None)
    for one, other in zip(leaves(partly.memory), leaves(opened.memory), strict=True):
        torch.testing.assert_close(one[..., :1, :], other[..., :1, :])
        assert not torch.equal(one[..., 1:, :], other[..., 1:, :])


def test_stochastic_actions_vary() -> None:
    policy = training("env=Pendulum-v1", SMALL).agent.policy
    obs = np.zeros((50, 3), np.float32)
    assert np.ptp(policy.predict(obs)[0]) == 0
    assert np.ptp(policy.predict(obs, deterministic=False)[0]) > 0


@pytest.mark.parametrize(
    ("obs", "message"),
    [
        (np.zeros(3), r"observation is \[0\.0, 0\.0, 0\.0\] of shape \(3,\).* says \(4,\)"),
        (np.zeros((2, 3)), r"of shape \(2, 3\).* says \(2, 4\)"),
        ({"obs": 1}, "of shape .* says"),
        ("ABCD", "of shape .* says"),
    ],
)
def test_observations_of_another_environment_are_refused(obs: Any, message: str) -> None:
    policy = training("env=CartPole-v1", SMALL).agent.policy
    with pytest.raises(ValueError, match=message) as found:
        policy.predict(obs)
    assert "\n" not in str(found.value)


def test_what_is_missing_is_said() -> None:
    masked = training("env=Taxi-v4", "env.action_mask=info", SMALL).agent.policy
    with pytest.raises(ValueError, match=r"there is no info\['action_mask'\]"):
        masked.predict(np.int64(3))
    rewarded = training("env=CartPole-v1", "env.last_action=true", *LSTM).agent.policy
    _, state = rewarded.predict(np.zeros(4))
    with pytest.raises(ValueError, match="give the reward of the last action"):
        rewarded.predict(np.zeros(4), state)
    policy = training("env=CartPole-v1", SMALL).agent.policy
    with pytest.raises(ValueError, match="state is a tuple; expected None, or what"):
        policy.predict(np.zeros(4), ())
    with pytest.raises(ValueError, match=r"first has shape \(3,\); expected \(1,\)"):
        policy.predict(np.zeros(4), first=[True] * 3)
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
