"""Trains with TorchRL: `with_torchrl.py CASE SEED`, one turn of `time_to_score.py`.

Its scripts for PPO and SAC (`sota-implementations/ppo/ppo_mujoco.py`, `sac/sac.py`) without their
logs and evaluations, with the numbers of rl-baselines3-zoo: they have none for these environments.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import torch
import zoo
from episodes import make
from torch import nn

collectors = importlib.import_module("torchrl.collectors")
data = importlib.import_module("torchrl.data")
distributions = importlib.import_module("torchrl.modules.distributions")
envs = importlib.import_module("torchrl.envs")
extractors = importlib.import_module("tensordict.nn.distributions")
modules = importlib.import_module("torchrl.modules")
objectives = importlib.import_module("torchrl.objectives")
samplers = importlib.import_module("torchrl.data.replay_buffers.samplers")
tensordicts = importlib.import_module("tensordict.nn")
values = importlib.import_module("torchrl.objectives.value.advantages")

FRAMES = 10
"""Steps of SAC between its updates, as many: to collect each alone costs TorchRL much time."""


def environments(case: str, num_envs: int, seed: int) -> Any:
    """So many environments, stepped in this process."""
    torch.manual_seed(seed)

    def one() -> Any:
        return envs.GymWrapper(make(zoo.ENVS[case]), categorical_action_encoding=True)

    several = envs.SerialEnv(num_envs, one) if num_envs > 1 else one()
    several.set_seed(seed)
    return several


def mlp(inputs: int, outputs: int, activation: type[nn.Module], size: int) -> Any:
    """Two hidden layers."""
    return modules.MLP(
        in_features=inputs,
        out_features=outputs,
        num_cells=[size, size],
        activation_class=activation,
    )


def orthogonal(net: nn.Module) -> nn.Module:
    """Orthogonal weights, as the script for PPO has them."""
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight, 1.0)
            nn.init.zeros_(layer.bias)
    return net


def actor_critic(env: Any) -> tuple[Any, Any]:
    """PPO's networks for discrete actions."""
    inputs, actions = env.observation_spec["observation"].shape[-1], env.action_spec.space.n
    logits = orthogonal(mlp(inputs, actions, nn.Tanh, 64))
    actor = modules.ProbabilisticActor(
        tensordicts.TensorDictModule(logits, in_keys=["observation"], out_keys=["logits"]),
        in_keys=["logits"],
        distribution_class=torch.distributions.Categorical,
        return_log_prob=True,
    )
    value = orthogonal(mlp(inputs, 1, nn.Tanh, 64))
    return actor, modules.ValueOperator(value, in_keys=["observation"])


def ppo(case: str, seed: int) -> None:
    """Trains PPO."""
    numbers = zoo.PPOS[case]
    env = environments(case, numbers.num_envs, seed)
    actor, critic = actor_critic(env)
    frames = numbers.num_envs * numbers.n_steps
    gae = values.GAE(
        gamma=numbers.gamma, lmbda=numbers.gae_lambda, value_network=critic, average_gae=False
    )
    loss = objectives.ClipPPOLoss(
        actor,
        critic,
        clip_epsilon=numbers.clip_range,
        entropy_coeff=numbers.ent_coef,
        critic_coeff=0.5,
        loss_critic_type="l2",
        normalize_advantage=True,
    )
    adam = torch.optim.Adam(loss.parameters(), numbers.learning_rate, eps=1e-5)
    buffer = data.TensorDictReplayBuffer(
        storage=data.LazyTensorStorage(frames),
        sampler=samplers.SamplerWithoutReplacement(),
        batch_size=numbers.batch_size,
    )
    total = numbers.total_steps
    collector = collectors.Collector(env, actor, frames_per_batch=frames, total_frames=total)
    for number, rollout in enumerate(collector):
        remains = 1 - number * frames / total if numbers.linear else 1.0
        adam.param_groups[0]["lr"] = numbers.learning_rate * remains
        loss.clip_epsilon.fill_(numbers.clip_range * remains)
        for _ in range(numbers.n_epochs):
            with torch.no_grad():
                gae(rollout)
            buffer.extend(rollout.reshape(-1))
            for batch in buffer:
                _step(adam, loss(batch), loss.parameters())


def _step(adam: torch.optim.Optimizer, losses: Any, clipped: Any = None) -> None:
    """A step down the sum of the losses."""
    adam.zero_grad(set_to_none=True)
    total: Any = sum(value for name, value in losses.items() if name.startswith("loss_"))
    total.backward()
    if clipped is not None:
        nn.utils.clip_grad_norm_(clipped, 0.5)
    adam.step()


def sac(case: str, seed: int) -> None:
    """Trains SAC, with an update for each step."""
    env = environments(case, 1, seed)
    inputs, spec = env.observation_spec["observation"].shape[-1], env.action_spec
    size = spec.shape[-1]
    actor = modules.ProbabilisticActor(
        tensordicts.TensorDictModule(
            nn.Sequential(mlp(inputs, 2 * size, nn.ReLU, 256), extractors.NormalParamExtractor()),
            in_keys=["observation"],
            out_keys=["loc", "scale"],
        ),
        spec=spec,
        in_keys=["loc", "scale"],
        distribution_class=distributions.TanhNormal,
        distribution_kwargs={"low": spec.space.low, "high": spec.space.high, "tanh_loc": False},
        return_log_prob=False,
    )
    critic = modules.ValueOperator(
        mlp(inputs + size, 1, nn.ReLU, 256), in_keys=["action", "observation"]
    )
    loss = objectives.SACLoss(
        actor, critic, num_qvalue_nets=2, loss_function="l2", delay_actor=False, delay_qvalue=True
    )
    loss.make_value_estimator(gamma=0.99)
    target = objectives.SoftUpdate(loss, eps=0.995)
    adam = torch.optim.Adam(loss.parameters(), zoo.SAC_LEARNING_RATE)
    buffer = data.TensorDictReplayBuffer(storage=data.LazyTensorStorage(1_000_000), batch_size=256)
    collector = collectors.Collector(
        env, actor, frames_per_batch=FRAMES, total_frames=zoo.SAC_STEPS, init_random_frames=100
    )
    for rollout in collector:
        buffer.extend(rollout.reshape(-1))
        for _ in range(FRAMES if len(buffer) > 100 else 0):
            _step(adam, loss(buffer.sample()))
            target.step()


if __name__ == "__main__":
    name, number = sys.argv[1:]
    (sac if name == "pendulum" else ppo)(name, int(number))
