"""Algorithms of Stable-Baselines3 and sb3-contrib: what `agent=sb3/ppo` and its like configure."""

from __future__ import annotations

import copy
import importlib
import inspect
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from pydantic import Field, field_validator
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch.nn.modules import activation

from ...agents.agent import Agent
from ...agents.claims import CHOICES
from ...agents.setup import AgentConfig, Setup
from ...core.action_mask import mask_path
from ...core.errors import Guard, listed, nearest, shorten
from .sb3_envs import Described
from .sb3_policy import Sb3Policy

ANY = (*CHOICES, spaces.Box)
ALGORITHMS: dict[str, tuple[str, tuple[type[gymnasium.Space], ...]]] = {
    "sb3/ppo": ("PPO", ANY),
    "sb3/a2c": ("A2C", ANY),
    "sb3/dqn": ("DQN", (spaces.Discrete,)),
    "sb3/sac": ("SAC", (spaces.Box,)),
    "sb3/td3": ("TD3", (spaces.Box,)),
    "sb3/ddpg": ("DDPG", (spaces.Box,)),
    "sb3_contrib/recurrent_ppo": ("RecurrentPPO", ANY),
    "sb3_contrib/trpo": ("TRPO", ANY),
    "sb3_contrib/qr_dqn": ("QRDQN", (spaces.Discrete,)),
    "sb3_contrib/tqc": ("TQC", (spaces.Box,)),
    "sb3_contrib/crossq": ("CrossQ", (spaces.Box,)),
}
"""By the agent's name: the class of the algorithm, and the actions that it learns."""
PACKAGES = {"sb3": "stable_baselines3", "sb3_contrib": "sb3_contrib"}
OURS = {
    **{"policy": "agent.policy", "env": "env", "seed": "seed", "device": "device"},
    **{"verbose": "-q", "tensorboard_log": "wandb.mode", "action_noise": "agent.action_noise"},
}
"""Arguments of the constructors that are not in `agent.kwargs`, and what sets them."""


class Sb3(Agent[Sb3Policy]):
    """A model of Stable-Baselines3 or sb3-contrib. It is trained by its own `learn`.

    Attributes:
        model: The model; `take` gives it environments.
    """

    outside: ClassVar[bool] = True
    has_network: ClassVar[bool] = False  # it has its own, see `agent.kwargs.policy_kwargs`

    class Config(AgentConfig, frozen=True):
        """Settings of the algorithm; what is not set has the library's default."""

        name: str = "sb3/ppo"
        """LIBRARY/ALGORITHM."""
        policy: str | None = Field(default=None, min_length=1)
        """The library's policy; null: MlpPolicy, CnnPolicy for images, MultiInputPolicy for Dict
        observations, and of these the one with an LSTM for recurrent_ppo."""
        normalize: bool = False
        """VecNormalize: observations and rewards are divided by running deviations."""
        action_noise: float = Field(default=0.0, ge=0)
        """Deviation of the normal noise on the actions of training (TD3, DDPG, SAC, TQC)."""
        kwargs: dict[str, Any] = Field(default_factory=dict)
        """Arguments of the algorithm's constructor. `lin_0.001` falls from 0.001 to 0 over the run;
        `policy_kwargs.activation_fn` is the name of a class of torch.nn."""

        @field_validator("name")
        @classmethod
        def _known(cls, name: str) -> str:
            if name not in ALGORITHMS:
                hint = nearest(name, ALGORITHMS)
                raise ValueError(f"no such algorithm{hint} (choices: {', '.join(ALGORITHMS)})")
            return name

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config = config
        spaces_of_actions = ALGORITHMS[config.name][1]
        if mask_path(setup.observation_space):
            raise ValueError(f"env.action_mask: agent={config.name} knows no masks; expected null")
        if not isinstance(setup.action_space, spaces_of_actions):
            kinds = " or ".join(kind.__name__ for kind in spaces_of_actions)
            raise ValueError(
                f"agent={config.name}: needs a {kinds} action space, got "
                f"{shorten(setup.action_space)}"
            )
        algorithm = algorithm_class(config.name)
        known = [name for name in inspect.signature(algorithm).parameters if name[0] != "_"]
        for name in config.kwargs:
            check_argument(config.name, name, known)
        given = copy.deepcopy(config.kwargs)  # the constructors write into policy_kwargs
        arguments = {name: _value(name, value) for name, value in given.items()}
        with Guard(lambda: f"agent={config.name}", ValueError):
            self.model = self._model(algorithm, arguments)
        seen = setup.observation_space, setup.action_space
        self.policy = Sb3Policy(*seen, self.model.policy, config.normalize)
        self.parts["policy"] = self.policy

    def take(self, envs: VecEnv) -> None:
        """Gives the model the environments that it is trained in."""
        if self.policy.statistics is not None:
            envs = VecNormalize(envs, gamma=self.model.gamma)
            envs.obs_rms = self.policy.statistics
        self.model.set_env(envs)

    def _model(self, algorithm: Any, arguments: dict[str, Any]) -> Any:
        """The model with fresh weights; it gets its environments later."""
        cfg, setup = self.config, self.setup
        if cfg.action_noise:
            arguments["action_noise"] = _noise(cfg.action_noise, setup.action_space)
        policy = cfg.policy or default_policy(cfg.name, setup.observation_space)
        described = Described(setup.num_envs, setup.observation_space, setup.action_space)
        return algorithm(policy, described, device=setup.device, **arguments)


def algorithm_class(name: str) -> Any:
    """The class of an algorithm. Raises ValueError if its library is not installed."""
    package = PACKAGES[name.partition("/")[0]]
    with Guard(lambda: f"agent={name}", ValueError):
        return getattr(importlib.import_module(package), ALGORITHMS[name][0])


def check_argument(agent: str, name: str, known: list[str]) -> None:
    """Raises ValueError unless the algorithm's constructor has an argument of this name."""
    if name in OURS:
        raise ValueError(f"agent.kwargs.{name}: is set by {OURS[name]}; expected {OURS[name]}=")
    if name not in known:
        rest = [other for other in known if other not in OURS]
        raise ValueError(
            f"agent.kwargs.{name}: {agent} has no such argument{nearest(name, rest)} (arguments: "
            f"{listed(rest, 600)})"
        )


def default_policy(name: str, space: gymnasium.Space) -> str:
    """The policy for a kind of observations."""
    images = is_image_space(space)
    kind = "MultiInput" if isinstance(space, spaces.Dict) else "Cnn" if images else "Mlp"
    return f"{kind}{'Lstm' if name.endswith('recurrent_ppo') else ''}Policy"


def _noise(deviation: float, space: gymnasium.Space) -> Any:
    assert isinstance(space, spaces.Box)
    return NormalActionNoise(np.zeros(space.shape), np.full(space.shape, deviation))


def _value(name: str, value: Any) -> Any:
    """An argument as the constructors take it: schedules, classes and tuples have text or lists.

    Raises:
        ValueError: The text stands for none.
    """
    if isinstance(value, str) and value.startswith("lin_"):
        try:
            start = float(value.removeprefix("lin_"))
        except ValueError:
            place = f"agent.kwargs.{name}={value}"
            raise ValueError(
                f"{place}: expected lin_ and a number, lin_0.001 for instance"
            ) from None
        return lambda left: left * start
    if name == "policy_kwargs" and isinstance(value, dict) and "activation_fn" in value:
        chosen = value["activation_fn"]
        if chosen not in activation.__all__:
            hint = nearest(chosen, activation.__all__)
            place = f"agent.kwargs.policy_kwargs.activation_fn={chosen}"
            raise ValueError(
                f"{place}: expected an activation of torch.nn, ReLU for instance{hint}"
            )
        return {**value, "activation_fn": getattr(activation, chosen)}
    return tuple(value) if name == "train_freq" and isinstance(value, list) else value
