"""Trains with Tianshou: `with_tianshou.py CASE SEED`, one turn of `time_to_score.py`.

CartPole and Pendulum as `test_ppo_discrete.py` and `test_sac_with_il.py` of Tianshou's repository,
LunarLander as its PPO with the numbers of rl-baselines3-zoo; all without test episodes.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
import torch
import zoo
from episodes import make

algorithms = importlib.import_module("tianshou.algorithm")
continuous = importlib.import_module("tianshou.utils.net.continuous")
data = importlib.import_module("tianshou.data")
discrete = importlib.import_module("tianshou.utils.net.discrete")
env = importlib.import_module("tianshou.env")
net = importlib.import_module("tianshou.utils.net.common")
optim = importlib.import_module("tianshou.algorithm.optim")
reinforce = importlib.import_module("tianshou.algorithm.modelfree.reinforce")
sacs = importlib.import_module("tianshou.algorithm.modelfree.sac")
trainer = importlib.import_module("tianshou.trainer")

OWN = zoo.PPO(20, 500_000, 100, 64, 10, 0.99, 0.95, 0.0, 3e-4)
"""Of Tianshou's PPO on CartPole."""
PPOS = {"cartpole": OWN, "lunarlander": zoo.PPOS["lunarlander"]}


def environments(case: str, num_envs: int, seed: int) -> tuple[Any, Any]:
    """So many environments, and one that only shows its spaces."""
    np.random.seed(seed)
    torch.manual_seed(seed)
    several = env.DummyVectorEnv([lambda: make(zoo.ENVS[case])] * num_envs)
    several.seed(seed)
    return several, make(zoo.ENVS[case])


def ppo(case: str, seed: int) -> None:
    """Trains PPO."""
    numbers = PPOS[case]
    envs, one = environments(case, numbers.num_envs, seed)
    body = net.Net(state_shape=one.observation_space.shape, hidden_sizes=[64, 64])
    shape: Any = one.action_space
    actor = discrete.DiscreteActor(preprocess_net=body, action_shape=shape.n)
    critic = discrete.DiscreteCritic(preprocess_net=body)
    for module in net.ActorCritic(actor, critic).modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.orthogonal_(module.weight)
            torch.nn.init.zeros_(module.bias)
    policy = reinforce.DiscreteActorPolicy(
        actor=actor, dist_fn=torch.distributions.Categorical, action_space=one.action_space
    )
    algorithm = algorithms.PPO(
        policy=policy,
        critic=critic,
        optim=optim.AdamOptimizerFactory(lr=numbers.learning_rate),
        gamma=numbers.gamma,
        gae_lambda=numbers.gae_lambda,
        ent_coef=numbers.ent_coef,
        eps_clip=numbers.clip_range,
        max_grad_norm=0.5,
        advantage_normalization=numbers is not OWN,
    )
    steps = numbers.num_envs * numbers.n_steps
    buffer = data.VectorReplayBuffer(max(20_000, steps), numbers.num_envs)
    _train(
        algorithm,
        trainer.OnPolicyTrainerParams,
        training_collector=data.Collector(algorithm, envs, buffer),
        max_epochs=numbers.total_steps // 50_000,
        epoch_num_steps=50_000,
        update_step_num_repetitions=numbers.n_epochs,
        batch_size=numbers.batch_size,
        collection_step_num_env_steps=steps,
    )


def sac(case: str, seed: int) -> None:
    """Trains SAC."""
    envs, one = environments(case, 10, seed)
    shape: Any = one.action_space.shape
    sizes = {"state_shape": one.observation_space.shape, "hidden_sizes": [128, 128]}
    actor = continuous.ContinuousActorProbabilistic(
        preprocess_net=net.Net(**sizes), action_shape=shape, unbounded=True
    )
    first, second = (
        continuous.ContinuousCritic(
            preprocess_net=net.Net(**sizes, action_shape=shape, concat=True)
        )
        for _ in range(2)
    )
    adam, slow = (optim.AdamOptimizerFactory(lr=rate) for rate in (1e-3, 3e-4))
    algorithm = algorithms.SAC(
        policy=sacs.SACPolicy(actor=actor, action_space=one.action_space),
        policy_optim=adam,
        critic=first,
        critic_optim=adam,
        critic2=second,
        critic2_optim=adam,
        alpha=sacs.AutoAlpha(-float(np.prod(shape)), 0.0, slow),
        n_step_return_horizon=3,
    )
    buffer = data.VectorReplayBuffer(20_000, 10)
    _train(
        algorithm,
        trainer.OffPolicyTrainerParams,
        training_collector=data.Collector(algorithm, envs, buffer, exploration_noise=True),
        max_epochs=10,
        epoch_num_steps=24_000,
        collection_step_num_env_steps=10,
        batch_size=128,
        update_step_num_gradient_steps_per_sample=0.1,
    )


def _train(algorithm: Any, kind: Any, **numbers: Any) -> None:
    algorithm.run_training(kind(**numbers, verbose=False, show_progress=False))


if __name__ == "__main__":
    name, number = sys.argv[1:]
    (sac if name == "pendulum" else ppo)(name, int(number))
