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

from ...agents.agent import Agent
from ...agents.claims import CHOICES
from ...agents.setup import AgentConfig, Setup
from ...core.action_mask import mask_path
from ...core.errors import Guard, nearest, shorten
from ...core.memory import lower
from .sb3_arguments import arguments
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
FRESH = "ppo", "a2c", "trpo"
"""Algorithms that learn from fresh rollouts, the usual ones of several environments."""
PACKAGES = {"sb3": "stable_baselines3", "sb3_contrib": "sb3_contrib"}


class Sb3(Agent[Sb3Policy]):
    """A model of Stable-Baselines3 or sb3-contrib. It is trained by its own `learn`.

    Attributes:
        model: The model; `take` gives it environments.
    """

    outside: ClassVar[bool] = True
    why_not_late: ClassVar[str] = "the other library collects for it"
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
        """Deviation of the normal noise on the actions of training, of off-policy algorithms."""
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
        self._check_spaces(ALGORITHMS[config.name][1])
        algorithm = algorithm_class(config.name)
        given = copy.deepcopy(config.kwargs)  # the constructors write into policy_kwargs
        found = arguments(config.name, algorithm, given)
        if config.action_noise:
            found["action_noise"] = self._noise(algorithm)
        if setup.goal_rewards is None and _takes(algorithm, "buffer_size"):
            found["buffer_size"] = 1  # only the policy is wanted
        policy = self._policy(algorithm)
        described = Described(setup.num_envs, *(plain(space) for space in self._spaces))
        with Guard(lambda: f"agent={config.name}", ValueError), lower("agent.kwargs.buffer_size"):
            self.model = algorithm(policy, described, device=setup.device, **found)
        self.policy = Sb3Policy(*self._spaces, self.model.policy, config.normalize)
        self.parts["policy"] = self.policy

    @property
    def _spaces(self) -> tuple[gymnasium.Space, gymnasium.Space]:
        return self.setup.observation_space, self.setup.action_space

    def take(self, envs: VecEnv) -> None:
        """Gives the model the environments that it is trained in."""
        if self.config.normalize:
            envs = VecNormalize(envs, gamma=self.model.gamma)
        self.model.set_env(envs)

    def _check_spaces(self, kinds: tuple[type[gymnasium.Space], ...]) -> None:
        """Raises ValueError for actions and observations that the algorithm does not learn."""
        name, (seen, actions) = f"agent={self.config.name}", self._spaces
        if mask_path(seen):
            raise ValueError(f"env.action_mask: {name} knows no masks; expected null")
        if not isinstance(actions, kinds):
            kind = " or ".join(kind.__name__ for kind in kinds)
            raise ValueError(f"{name}: needs a {kind} action space, got {shorten(actions)}")
        if self.config.normalize and (not isinstance(seen, spaces.Box) or is_image_space(seen)):
            raise ValueError(f"agent.normalize=true: needs a Box of numbers, got {shorten(seen)}")

    def _policy(self, algorithm: Any) -> str:
        """The name of the library's policy. Raises ValueError: It has none of that name."""
        seen, chosen = self.setup.observation_space, self.config.policy
        if chosen is None:
            images = is_image_space(seen)
            kind = "MultiInput" if isinstance(seen, spaces.Dict) else "Cnn" if images else "Mlp"
            return f"{kind}{'Lstm' if self.config.name.endswith('recurrent_ppo') else ''}Policy"
        known = list(algorithm.policy_aliases)
        if chosen not in known:
            hint = f"expected {', '.join(known)}{nearest(chosen, known)}"
            raise ValueError(
                f"agent.policy={chosen}: no policy of agent={self.config.name}; {hint}"
            )
        return chosen

    def _noise(self, algorithm: Any) -> NormalActionNoise:
        """The noise of `agent.action_noise`. Raises ValueError: The algorithm adds none."""
        cfg, space = self.config, self.setup.action_space
        if not _takes(algorithm, "action_noise") or not isinstance(space, spaces.Box):
            raise ValueError(
                f"agent.action_noise={cfg.action_noise}: agent={cfg.name} adds no noise to its "
                "actions; expected 0"
            )
        return NormalActionNoise(np.zeros(space.shape), np.full(space.shape, cfg.action_noise))


def _takes(algorithm: Any, argument: str) -> bool:
    return argument in inspect.signature(algorithm).parameters


def plain(space: gymnasium.Space) -> gymnasium.Space:
    """The space as Gymnasium's own class, which the library's files can name without neuraxis."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: plain(part) for key, part in space.spaces.items()})
    if isinstance(space, spaces.Box):
        return spaces.Box(space.low, space.high, dtype=space.dtype.type)
    return space


def algorithm_class(name: str) -> Any:
    """The class of an algorithm. Raises ValueError if its library is not installed."""
    package = PACKAGES[name.partition("/")[0]]
    with Guard(lambda: f"agent={name}", ValueError):
        return getattr(importlib.import_module(package), ALGORITHMS[name][0])
