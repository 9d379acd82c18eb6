"""CartPole and Pendulum with other dynamics: `neuraxis/CartPole-v0` and `neuraxis/Pendulum-v0`.

A physical number is a constant, or two bounds between which each episode draws its own: to train on
some dynamics and to look how the policy does on others (Packer et al. 2018, "Assessing
generalization in deep reinforcement learning"). Nothing observed tells what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv, PendulumEnv

Range = float | Sequence[float]
"""A number above 0, or the least and the greatest of those that are drawn."""


class CartPole(CartPoleEnv):
    """CartPole-v1 with other dynamics; rewards and ends as there.

    Args:
        length: half the length of the pole, in metres.
        pole_mass: in kilograms.
        cart_mass: in kilograms.
        gravity: in metres per second squared.
        force: of a push, in newtons.
        render_mode: Gymnasium's.

    Raises:
        ValueError: a number is not above 0, or bounds are not two numbers in their order.
    """

    def __init__(
        self,
        length: Range = 0.5,
        pole_mass: Range = 0.1,
        cart_mass: Range = 1.0,
        gravity: Range = 9.8,
        force: Range = 10.0,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        numbers = {
            "length": length,
            "masspole": pole_mass,
            "masscart": cart_mass,
            "gravity": gravity,
            "force_mag": force,
        }
        self._bounds = {name: _bounds(value) for name, value in numbers.items()}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Opens an episode, with dynamics of its own."""
        result = super().reset(seed=seed, options=options)
        _draw(self, self._bounds)
        self.total_mass = self.masspole + self.masscart
        self.polemass_length = self.masspole * self.length
        return result


class Pendulum(PendulumEnv):
    """Pendulum-v1 with other dynamics; rewards and torques as there.

    Args:
        length: in metres.
        mass: in kilograms.
        gravity: in metres per second squared.
        render_mode: Gymnasium's.

    Raises:
        ValueError: a number is not above 0, or bounds are not two numbers in their order.
    """

    def __init__(
        self,
        length: Range = 1.0,
        mass: Range = 1.0,
        gravity: Range = 10.0,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        numbers = {"l": length, "m": mass, "g": gravity}
        self._bounds = {name: _bounds(value) for name, value in numbers.items()}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Opens an episode, with dynamics of its own."""
        result = super().reset(seed=seed, options=options)
        _draw(self, self._bounds)
        return result


def _bounds(value: Range) -> tuple[float, float]:
    """The least and the greatest number."""
    pair = [value, value] if isinstance(value, int | float) else list(value)
    if len(pair) != 2 or not 0 < pair[0] <= pair[1]:
        raise ValueError(
            f"{value}: expected a number above 0, or [LEAST, GREATEST] of such numbers"
        )
    return pair[0], pair[1]


def _draw(env: gymnasium.Env[Any, Any], bounds: dict[str, tuple[float, float]]) -> None:
    """Sets the attributes of an environment between their bounds, by its generator."""
    for name, pair in bounds.items():
        setattr(env, name, float(env.np_random.uniform(*pair)))


gymnasium.register("neuraxis/CartPole-v0", f"{__name__}:CartPole", max_episode_steps=500)
gymnasium.register("neuraxis/Pendulum-v0", f"{__name__}:Pendulum", max_episode_steps=200)
