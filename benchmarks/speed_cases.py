"""What `benchmarks/speed.py` measures: the same training as words of neuraxis and as arguments.

The other sides are Stable-Baselines3, sb3-contrib and SBX (Stable-Baselines3 in JAX), which take
the same arguments. This file imports none of them, and nothing of neuraxis: SBX lies in a virtual
environment of its own.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """A training that both sides can do."""

    what: str
    """One line for the table."""
    words: tuple[str, ...]
    """Of `neuraxis train`."""
    steps: tuple[int, int]
    """Environment steps before the measurement begins, and at its end."""
    algorithm: str
    """Class of the other side."""
    arguments: dict[str, Any]
    """Of that class."""
    policy: str = "MlpPolicy"
    env: str = "CartPole-v1"
    num_envs: int = 8
    bars: dict[str, float] = field(default_factory=dict)
    """What the ratio to Stable-Baselines3 should reach, by our side."""
    sides: tuple[str, ...] = ("sb3", "plain", "compiled")


def words(text: str, *more: str) -> tuple[str, ...]:
    """Words from a text, and more that have spaces in them."""
    return *text.split(), *more


RELU_256 = "network.blocks.0.sizes=[256,256] network.blocks.0.activation=relu"
PPO = "env=CartPole-v1 num_envs=8 agent=ppo agent.learning_rate=1e-3"
# The very environment of the other side, and not our faster one.
SINGLE = "num_envs=1 env.vectorization=sync"
ZOO_DQN = (
    f"env=CartPole-v1 {SINGLE} {RELU_256} agent.train_freq=256 agent.gradient_steps=128 "
    "agent.batch_size=64 agent.learning_rate=2.3e-3 agent.target_update_interval=10 "
    "agent.exploration_fraction=0.16 agent.exploration_final_eps=0.04 agent.double=false"
)
DQN_ARGUMENTS = {
    **{"learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1_000},
    **{"target_update_interval": 10, "train_freq": 256, "gradient_steps": 128},
    **{"exploration_fraction": 0.16, "exploration_final_eps": 0.04},
}
PENDULUM = (
    f"env=Pendulum-v1 {SINGLE} agent.train_freq=1 agent.gradient_steps=1 agent.batch_size=256 "
    "agent.buffer_size=100_000 agent.learning_starts=256 agent.learning_rate=1e-3"
)
PENDULUM_ARGUMENTS = {
    **{"learning_rate": 1e-3, "batch_size": 256, "buffer_size": 100_000, "learning_starts": 256},
    **{"train_freq": 1, "gradient_steps": 1, "net_arch": [256, 256]},
}


def on_pendulum(what: str, agent: str, algorithm: str, arguments: dict[str, Any]) -> Case:
    """An agent of continuous actions with an update for each step, in minibatches of 256."""
    network = "" if agent == "crossq" else RELU_256  # its preset brings its own
    return Case(
        f"{what}, batch 256, an update a step",
        words(f"agent={agent} {PENDULUM} {network}"),
        (600, 2_600),
        algorithm,
        arguments,
        env="Pendulum-v1",
        num_envs=1,
        bars={"plain": 1.5, "compiled": 1.5},
    )


CASES = {
    "ppo_cartpole_zoo": Case(
        "PPO CartPole, rl-zoo's numbers (8 envs x 32, batch 256, 20 epochs)",
        words(f"{PPO} agent.n_steps=32 agent.batch_size=256 agent.n_epochs=20"),
        (4_000, 20_000),
        "PPO",
        {"learning_rate": 1e-3, "n_steps": 32, "batch_size": 256, "n_epochs": 20},
        bars={"plain": 2.5, "compiled": 4.0},
    ),
    "ppo_cartpole_128": Case(
        "PPO CartPole, 8 envs x 128, batch 256, 4 epochs",
        words(f"{PPO} agent.n_steps=128 agent.batch_size=256 agent.n_epochs=4"),
        (6_000, 40_000),
        "PPO",
        {"learning_rate": 1e-3, "n_steps": 128, "batch_size": 256, "n_epochs": 4},
        bars={"plain": 2.5, "compiled": 4.0},
    ),
    "dqn_cartpole_zoo": Case(
        "DQN CartPole, rl-zoo's numbers (1 env, 256x256, 128 updates every 256 steps)",
        words(f"agent=dqn {ZOO_DQN}"),
        (2_000, 8_000),
        "DQN",
        {**DQN_ARGUMENTS, "net_arch": [256, 256]},
        num_envs=1,
        bars={"plain": 2.0, "compiled": 3.0},
    ),
    "ppo_lstm_cartpole": Case(
        "PPO-LSTM, masked CartPole, 8 envs x 128, LSTM 64 + layer 64, 10 epochs (contrib)",
        words(
            f"{PPO} env.mask_velocity=true agent.n_steps=128 agent.batch_size=128 "
            "network.shared=false agent.n_epochs=10",
            "network.blocks=[{name: lstm, size: 64}, {name: mlp, sizes: [64]}]",
        ),
        (2_048, 8_192),
        "RecurrentPPO",
        {
            **{"n_steps": 128, "batch_size": 128, "n_epochs": 10},
            **{"lstm_hidden_size": 64, "net_arch": [64]},
        },
        policy="MlpLstmPolicy",
        env="masked",
        bars={"plain": 4.0},
        sides=("sb3", "plain"),
    ),
    "ppo_pong": Case(
        "PPO Pong, Nature CNN, 8 envs x 128, batch 256, 4 epochs",
        words(
            "env=atari network=cnn num_envs=8 agent=ppo agent.n_steps=128 agent.batch_size=256 "
            "agent.n_epochs=4 agent.learning_rate=2.5e-4"
        ),
        (1_024, 3_072),
        "PPO",
        {"learning_rate": 2.5e-4, "n_steps": 128, "batch_size": 256, "n_epochs": 4},
        policy="CnnPolicy",
        env="pong",
        bars={"plain": 1.4, "compiled": 1.4},
    ),
    "a2c_cartpole": Case(
        "A2C CartPole, 8 envs x 5",
        words("env=CartPole-v1 num_envs=8 agent=a2c agent.n_steps=5"),
        (4_000, 40_000),
        "A2C",
        {"n_steps": 5},
        bars={"plain": 4.0, "compiled": 4.0},
    ),
    "qr_dqn_cartpole_zoo": Case(
        "QR-DQN CartPole, rl-zoo's numbers (10 quantiles, else as DQN)",
        words(f"agent=qr_dqn {ZOO_DQN} agent.n_quantiles=10"),
        (2_000, 8_000),
        "QRDQN",
        {**DQN_ARGUMENTS, "net_arch": [256, 256], "n_quantiles": 10},
        num_envs=1,
        bars={"plain": 3.0, "compiled": 3.0},
    ),
    "sac_pendulum": on_pendulum("SAC Pendulum, 256x256", "sac", "SAC", PENDULUM_ARGUMENTS),
    "td3_pendulum": on_pendulum("TD3 Pendulum, 256x256", "td3", "TD3", PENDULUM_ARGUMENTS),
    "crossq_pendulum": on_pendulum(
        "CrossQ Pendulum, critics 1024x1024",
        "crossq",
        "CrossQ",
        {**PENDULUM_ARGUMENTS, "net_arch": {"pi": [256, 256], "qf": [1024, 1024]}},
    ),
}
SBX = ("ppo_cartpole_128", "dqn_cartpole_zoo", "sac_pendulum", "td3_pendulum", "crossq_pendulum")
"""Cases that SBX can do."""
POLICY_ARGUMENTS = ("net_arch", "lstm_hidden_size", "n_quantiles")


def model(case: Case, modules: tuple[str, ...]) -> Any:
    """The other side's model of a case; its class is looked for in `modules`."""
    found = [getattr(importlib.import_module(name), case.algorithm, None) for name in modules]
    algorithm = next(each for each in found if each is not None)
    own = {name: value for name, value in case.arguments.items() if name in POLICY_ARGUMENTS}
    rest = {name: value for name, value in case.arguments.items() if name not in own}
    if modules != ("sbx",):
        rest["device"] = "cpu"
    if case.num_envs == 1:
        own["activation_fn"] = _relu(modules)
    return algorithm(case.policy, environments(case), policy_kwargs=own, **rest)


def _relu(modules: tuple[str, ...]) -> Any:
    if modules == ("sbx",):
        return importlib.import_module("flax.linen").relu
    return importlib.import_module("torch.nn").ReLU


def environments(case: Case) -> Any:
    """The other side's environments."""
    from stable_baselines3.common.env_util import make_atari_env, make_vec_env

    if case.env == "masked":
        return make_vec_env(masked_cartpole, case.num_envs)
    if case.env != "pong":
        return make_vec_env(case.env, case.num_envs)
    import ale_py
    import gymnasium
    from stable_baselines3.common.vec_env import VecFrameStack

    gymnasium.register_envs(ale_py)
    env = make_atari_env("ALE/Pong-v5", case.num_envs, env_kwargs={"frameskip": 1})
    return VecFrameStack(env, 4)


def masked_cartpole() -> Any:
    """CartPole without velocities."""
    import gymnasium

    env = gymnasium.make("CartPole-v1")
    box: Any = env.observation_space
    space = gymnasium.spaces.Box(box.low[[0, 2]], box.high[[0, 2]])
    return gymnasium.wrappers.TransformObservation(env, lambda obs: obs[[0, 2]], space)
